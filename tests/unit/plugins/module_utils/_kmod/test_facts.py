# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses the module besides us, and what the kernel wants of one: from files as the kernel shows them."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.plan import Holder
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.module_image import Image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from tests.unit.plugins.module_utils._kmod.test_plan import MODULE

PORTS = [Vport(0, INTERNAL, "ovs-system", 4), Vport(1, 1, "eth0", 2), Vport(2, INTERNAL, "br0", 5)]
OURS = {"": {"ovs-system": PORTS}}


def foreign(root: Path, ports: t.Mapping[str, t.Mapping[str, t.Sequence[Vport]]], users: int) -> list[str]:
    return list(facts.foreign(dataclasses.replace(MODULE, users=users), ports, str(root)))


def test_each_port_is_one_user(tmp_path: Path) -> None:
    assert foreign(tmp_path, OURS, 3) == []


def test_datapaths_of_others(tmp_path: Path) -> None:
    ports = {**OURS, "the network namespace 4026": {"ovs-system": PORTS[:1]}}
    ports[""] = {"ovs-system": PORTS, "mine": PORTS[:1]}
    assert foreign(tmp_path, ports, 5) == [
        "there is a datapath mine that is not ovs-vswitchd's",
        "there is a datapath ovs-system in the network namespace 4026 that is not ovs-vswitchd's",
    ]


def test_modules_that_use_it(tmp_path: Path) -> None:
    for name in ("vport_vxlan", "other"):
        (tmp_path / "sys/module/openvswitch/holders" / name).mkdir(parents=True)
    assert foreign(tmp_path, OURS, 5) == ["the module other uses openvswitch"]


def test_users_that_nobody_knows(tmp_path: Path) -> None:
    assert foreign(tmp_path, OURS, 4) == [
        "1 users of openvswitch are not known: a datapath in a namespace that nothing names"
    ]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, None),
        (
            {
                "sys/module/module/parameters/sig_enforce": "N\n",
                "sys/kernel/security/lockdown": "[none] integrity\n",
            },
            None,
        ),
        ({"sys/module/module/parameters/sig_enforce": "Y\n"}, "the kernel's module.sig_enforce"),
        ({"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, "the kernel's lockdown"),
    ],
)
def test_whether_a_module_must_be_signed(tmp_path: Path, files: dict[str, str], what: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert facts.signatures(str(tmp_path)) == what


def test_modules_that_it_needs(tmp_path: Path) -> None:
    (tmp_path / "sys/module/nf_nat").mkdir(parents=True)

    def runner(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        return Completed(0 if argv[-1] == "nsh" else 1, "", "")

    image = Image(b"", None, {"depends": "nf-nat,nsh,psample"})
    assert list(facts.missing(image, str(tmp_path), runner)) == ["psample"]
    assert list(facts.missing(Image(b"", None, {"depends": ""}), str(tmp_path), runner)) == []


def test_who_holds_a_port_by_a_packet_socket(tmp_path: Path) -> None:
    lines = [
        "sk RefCnt Type Proto Iface R Rmem User Inode",
        "0 3 3 0003 5 1 0 0 777",
        "0 3 3 0003 2 1 0 0 888",
    ]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/net").mkdir()
    (tmp_path / "proc/net/packet").write_text("\n".join(lines) + "\n")
    for pid, inode in (("70", 777), ("80", 888), ("90", 1)):
        folder = tmp_path / "proc" / pid / "fd"
        folder.mkdir(parents=True)
        os.symlink(f"socket:[{inode}]", folder / "3")
        (tmp_path / "proc" / pid / "comm").write_text("dhclient\n")
    internal = facts._internal([*PORTS, Vport(3, INTERNAL, "in4", 2, netns=1)])
    assert internal == {4: "ovs-system", 5: "br0"}
    assert list(facts.holders(internal, str(tmp_path))) == [Holder("br0", "dhclient (process 70)")]
    assert list(facts.holders({}, str(tmp_path))) == []


def test_who_configures_a_port(tmp_path: Path) -> None:
    for name, text in {
        "systemd/netif/links/5": "# private\nADMIN_STATE=configured\n",
        "systemd/netif/links/4": "ADMIN_STATE=unmanaged\n",
        "NetworkManager/devices/6": "[device]\nmanaged=true\n",
    }.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    found = facts.managers({4: "ovs-system", 5: "br0", 6: "in1"}, str(tmp_path))
    assert found == {"br0": "systemd-networkd", "in1": "NetworkManager"}
