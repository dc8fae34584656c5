# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("bridge br0 does not answer",), "bridge br0 does not answer"),
        (("bridge br0 does not answer", "no socket"), "bridge br0 does not answer: no socket"),
        (
            ("bridge br0 does not answer", "no socket", "Start ovs-vswitchd."),
            "bridge br0 does not answer: no socket. Start ovs-vswitchd.",
        ),
        (("no bridge is named br0", "", "Check the name."), "no bridge is named br0. Check the name."),
    ],
)
def test_message_says_what_why_and_what_to_do(parts: tuple[str, str, str], text: str) -> None:
    assert str(HotUpgradeError(*parts)) == text
