# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows of a measurement. What a switch makes of them is seen in tests/integration/test_probe.py."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import one_way, wire

COOKIE = 0x6F76_7072_0000_0007


@pytest.mark.parametrize("version", wire.VERSIONS)
def test_lengths_and_what_is_deleted(version: int) -> None:
    for message in (one_way.forward(version, 1, COOKIE, 1, 7, 9), one_way.deletion(version, 1, COOKIE)):
        assert wire.header(message).length == len(message)
        assert len(message) % 8 == 0
    assert COOKIE.to_bytes(8, "big") in one_way.deletion(version, 1, COOKIE)
