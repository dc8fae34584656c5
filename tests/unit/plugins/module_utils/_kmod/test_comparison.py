# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as missing."""

from __future__ import annotations

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    comparison,
    dumps,
    links,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured, Move
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.settings import Setting
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from tests.unit.plugins.module_utils._kmod.spaces import captured, link


def looked(place: int = 0, *named: links.Link, batches: tuple[Batch, ...] = ()) -> Captured:
    return dataclasses.replace(captured(*batches), told={place: dumps.Dumps(links=named)})


def test_what_has_another_value_or_is_gone_is_missing() -> None:
    """Also of what nobody here gives back, and of devices that do not go."""
    names = {(0, 5): "dev5"}
    setting = Setting("ipv4/conf/dev5/forwarding", b"1\n")
    offloads = Request(Stage.OFFLOAD, 5, "the offloads", bytes(32))
    before = looked(
        0, link(5), link(9, "veth"), batches=(Batch(0, 0, Stage.OFFLOAD, (offloads,), (setting,)),)
    )
    before = dataclasses.replace(before, names=names)
    assert comparison.missing(before, before) == []
    lost = comparison.missing(before, dataclasses.replace(looked(), names=names))
    assert [(thing.text, ours) for thing, ours in lost] == [
        ("the device dev5", True),
        ("the device dev9", False),
        ("the setting ipv4/conf/dev5/forwarding", True),
        ("the offloads of dev5", True),
    ]
    other = dataclasses.replace(before, batches=(dataclasses.replace(before.batches[0], requests=()),))
    assert [thing.text for thing, __ in comparison.missing(before, other)] == ["the offloads of dev5"]
    assert comparison.at_risk(before) == 8  # the device, its five flags, a setting and its offloads


def test_what_was_deleted_by_somebody_is_not_missing() -> None:
    moved = Move(1, 9, 13, "in4", "eth0")
    before = dataclasses.replace(
        looked(0, link(5), link(6, "vlan", 5), link(7)),
        names={(0, 5): "dev5", (0, 6): "dev6", (0, 7): "dev7"},
        below={(0, 6): (0, 5), (0, 8): (0, 7)},
        moves=(moved,),
    )
    ports = [
        Vport(0, INTERNAL, "ovs-system", 4),
        Vport(1, INTERNAL, "dev5", 5),
        Vport(2, INTERNAL, "dev7", 7),
        Vport(3, INTERNAL, "in4", 13, netns=0),
    ]
    deleted = comparison.absent(before, ports, {"dev7"})
    assert deleted == {(0, 5), (0, 6), (1, 13)}
    lost = comparison.missing(before, looked(), deleted)
    assert [thing.text for thing, __ in lost] == ["the device dev7"]
