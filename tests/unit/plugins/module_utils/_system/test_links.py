# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import links


def test_what_is_there_is_seen() -> None:
    assert links.exists("lo")
    assert not links.exists("no-such-device")


def test_a_device_that_is_not_there_need_not_be_deleted() -> None:
    links.delete("no-such-device")


def test_a_device_that_is_not_there_cannot_be_renamed() -> None:
    with pytest.raises(HotUpgradeError, match="no-such-device"):
        links.rename("no-such-device", "other")


def test_linux_cuts_off_a_long_name_by_bytes() -> None:
    assert links.device("123456789012345") == "123456789012345"
    assert links.device("a-very-long-bridge") == "a-very-long-bri"
    assert len(links.device("\u00fc" * 8).encode("utf-8", "surrogateescape")) == 15
