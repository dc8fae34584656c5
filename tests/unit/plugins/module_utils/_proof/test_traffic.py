# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a new process is asked what it does with packets."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import traffic


@pytest.mark.parametrize(("version", "patience"), [("3.1.0", 10.0), ("3.5.0", 60.0)])
def test_a_trace_without_end_is_not_waited_for_until_the_memory_is_full(
    version: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(control: Appctl, command: str, *__: str) -> str:
        return f"ovs-vswitchd (Open vSwitch) {version}" if command == "version" else f"{control.timeout}"

    monkeypatch.setattr(Appctl, "call", call)
    assert float(traffic.of_new(Appctl("socket", 60.0))("ofproto/trace", "a flow")) == patience


def test_whoever_hangs_over_a_trace_is_not_asked_again_and_the_way_on_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def call(control: Appctl, command: str, *__: str) -> str:
        if command == "version":
            return "ovs-vswitchd (Open vSwitch) 3.1.0"
        raise Unreachable("no answer to ofproto/trace")

    monkeypatch.setattr(Appctl, "call", call)
    with pytest.raises(Unreachable, match="no answer to ofproto/trace.*circle") as caught:
        traffic.of_new(Appctl("socket"))("ofproto/trace", "a flow")
    assert "prove: 0" in caught.value.hint
