# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses the module besides us, and what the kernel wants of one: from files as the kernel shows them."""

from __future__ import annotations

import dataclasses
import os
import struct
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    dumps,
    facts,
    links,
    nftables,
    preserve,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.plan import Holder
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.module_image import Image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import attribute
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


def test_what_the_bypass_takes_and_is_not_there() -> None:
    def runner(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        assert argv[:3] == ["modprobe", "--dry-run", "--quiet"]
        return Completed(1 if argv[-1] in ("act_pedit", "cls_flower") else 0, "", "")

    def nothing(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        raise HotUpgradeError("there is no modprobe")

    assert list(facts.without(runner)) == ["cls_flower", "act_pedit"]
    assert list(facts.without(nothing)) == []


@pytest.mark.parametrize(("text", "what"), [("0\n", False), ("1\n", True), (None, False)])
def test_a_kernel_that_takes_no_modules_any_more(tmp_path: Path, text: str | None, what: bool) -> None:
    folder = tmp_path / "proc/sys/kernel"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "modules_disabled").write_text(text)
    assert facts.closed(str(tmp_path)) is what


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
    there = [lines[0], "0 3 3 0003 5 1 0 0 999", "0 3 3 0003 13 1 0 0 888"]
    for pid, inode in (("70", 777), ("80", 888), ("90", 1)):
        folder = tmp_path / "proc" / pid / "fd"
        folder.mkdir(parents=True)
        os.symlink(f"socket:[{inode}]", folder / "3")
        (tmp_path / "proc" / pid / "comm").write_text("dhclient\n")
    internal = facts._internal([*PORTS, Vport(3, INTERNAL, "in4", 2, netns=1)])
    assert internal == {4: "ovs-system", 5: "br0"}
    os.symlink("/dev/tap7", tmp_path / "proc/90/fd/4")
    here = [device(5, "br0"), device(6, "in1"), device(7, "mt0", "macvtap"), device(8, "v", "vlan")]
    going = [goes(here, lines=lines), goes([device(13, "eth0")], lines=there)]
    found = sorted(facts.holders(going, str(tmp_path)), key=lambda each: each.port)
    assert found == [
        Holder("br0", "dhclient (process 70)"),
        Holder("eth0", "dhclient (process 80)"),
        Holder("mt0", "dhclient (process 90)"),
    ]
    assert list(facts.holders([goes([device(7, "mt0", "vlan")])], str(tmp_path))) == []


def goes(
    found: t.Iterable[links.Link], lost: t.Iterable[links.Link] = (), lines: t.Iterable[str] = ()
) -> facts.Going:
    """What goes in one namespace, with the packet sockets there."""
    return preserve.Going(tuple(found), tuple(lost), facts.Beside("\n".join(lines)))


def device(index: int, name: str, kind: str = "", more: bytes = b"") -> links.Link:
    info = attribute(18, attribute(1, kind.encode() + b"\0"))
    header = struct.pack("=BxHiII", 0, 1, index, 0, 0)
    return links.parse(header + attribute(3, name.encode() + b"\0") + info + more)


def test_what_nobody_brings_back() -> None:
    attached, none = attribute(43, attribute(1, b"\2")), attribute(43, attribute(1, b"\0"))
    going = [device(5, "in1", more=attached), device(6, "in2", more=none), device(7, "ms0", "macsec")]
    here = dataclasses.replace(
        goes(going, [device(8, "hsr0", "hsr")]),
        beside=facts.Beside(
            programs={6: ["cls_main"], 99: ["other"]},
            groups={6: ["224.0.0.18", "ff02::5"], 98: ["239.1.1.1"]},
        ),
    )
    assert list(facts.unrestorable([here])) == [
        "the XDP program of in1",
        "the program cls_main (eBPF) in a filter of in2: whoever has set it has to do so again",
        "the membership in 224.0.0.18, ff02::5 at in2 (multicast): restart the programs that have joined, unless they watch "
        "devices",
        "the keys of ms0: the kernel does not tell them (macsec)",
        "the device hsr0: the kernel deletes it with the port that it is on (hsr)",
    ]


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


HOOK = nftables.Hook("the chain in of the table netdev f of nftables", ("eth0", "in1", "in2"))


SPACE = types.SimpleNamespace(route=b"cls_main\0")


def a_filter(name: bytes, index: int) -> bytes:
    """As the kernel tells one with a program of eBPF."""
    options = attribute(2, attribute(7, name) + attribute(11, bytes(4)))
    return struct.pack("=BxxxiIII", 0, index, 1, 0, 0) + attribute(1, b"bpf\0") + options


def no_program(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
    raise HotUpgradeError(f"cannot run {argv[0]}")


def test_what_of_nftables_goes_with_a_device() -> None:
    here = dataclasses.replace(goes([device(5, "in1"), device(6, "in2")]), beside=facts.Beside(hooks=(HOOK,)))
    there = dataclasses.replace(goes([device(5, "eth1")]), beside=facts.Beside(hooks=(HOOK,)))
    assert list(facts.unrestorable([here, there])) == [
        "the chain in of the table netdev f of nftables at in1, in2: load its rules again afterwards"
    ]


def test_what_goes_is_looked_for_in_every_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where its packet sockets are, too: /proc/net would be that of the whole process."""
    (tmp_path / "proc/thread-self/net").mkdir(parents=True)
    (tmp_path / "proc/thread-self/net/packet").write_text("there\n")
    (tmp_path / "proc/thread-self/net/igmp6").write_text(f"5 in1 {'ff02' + 27 * '0' + '5'} 1 0000000C 0\n")
    monkeypatch.setattr(preserve, "going", lambda _ports, beside: [beside(SPACE, [5])])
    monkeypatch.setattr(nftables, "hooks", lambda _runner: (HOOK,))
    monkeypatch.setattr(
        dumps, "filters", lambda route, devices: [a_filter(route, index) for index in devices]
    )
    found = t.cast(t.Any, facts._going(PORTS, str(tmp_path), no_program))
    assert found == [facts.Beside("there", (HOOK,), {5: ["cls_main"]}, {5: ["ff02::5"]})]

    def nowhere(_ports: t.Any, _beside: t.Any) -> t.Any:
        raise HotUpgradeError("the network namespace of the port a cannot be found")

    monkeypatch.setattr(preserve, "going", nowhere)
    assert facts._going(PORTS, str(tmp_path), no_program) == []
