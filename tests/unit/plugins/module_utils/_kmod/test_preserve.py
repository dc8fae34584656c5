# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who goes with whom, in which order it comes back, and what becomes of what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import struct
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    dumps,
    links,
    namespaces,
    preserve,
    settings,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Move
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Stage,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.settings import Setting
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    NESTED,
    Refusal,
    attribute,
)
from tests.unit.plugins.module_utils._kmod.spaces import SPACES, Route, captured, link, request, with_route


def test_devices_go_with_those_that_they_are_on_across_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {(200, 100): 7, (100, 200): 0}
    monkeypatch.setattr(
        namespaces,
        "number",
        lambda route, namespace: numbers.get(
            (next(s.namespace.inode for s in SPACES if s.route is route), namespace.inode)
        ),
    )
    here = [link(5), link(6, "vlan", 5), link(7, "macvlan", 6), link(8, "vlan", 99), link(9, "veth", 5)]
    there = [link(5), link(13, "macvlan", 5, netns=7), link(14, "vlan", 13)]
    found = preserve._generations(preserve._lower(SPACES, [here, there, []]), [(0, 5)])
    assert found == {(0, 5): 0, (0, 6): 1, (0, 7): 2, (1, 13): 1, (1, 14): 2}


def tagged(index: int, below: int, protocol: int, number: int, netns: int | None = None) -> links.Link:
    """A VLAN device."""
    data = attribute(1, struct.pack("=H", number)) + attribute(5, struct.pack("!H", protocol))
    info = attribute(1, b"vlan\0") + attribute(2 | NESTED, data)
    body = struct.pack("=BxHiII", 0, 0, index, 1, 0) + numbered(5, below)
    body += numbered(37, netns) if netns is not None else b""
    return links.parse(body + attribute(18 | NESTED, info))


def test_vlans_that_linux_hands_over_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """On devices of ours, also where the VLAN device is in a container."""
    monkeypatch.setattr(namespaces, "number", lambda _route, namespace: {100: 7, 200: 0}.get(namespace.inode))
    here = [link(2), tagged(3, 2, 0x8100, 10), link(4, "macvlan", 2), tagged(5, 2, 0x88A8, 10)]
    there = [tagged(6, 2, 0x8100, 20, netns=7), tagged(7, 2, 0x8100, 30), tagged(8, 2, 0x8100, 40, netns=9)]
    found = preserve._vlans(preserve._lower(SPACES, [here, there, []]), [here, there, []])
    assert found == {2: {(0x8100, 10), (0x88A8, 10), (0x8100, 20)}}


def test_who_goes_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def close(self) -> None:
            closed.append(self)

    closed: list[Closed] = []
    spaces = [types.SimpleNamespace(number=None, route=0, namespace="ours", close=Closed().close)]
    spaces.append(types.SimpleNamespace(number=0, route=1, namespace="theirs", close=Closed().close))
    inside: list[str] = []

    @contextlib.contextmanager
    def within(namespace: t.Any) -> t.Iterator[None]:
        inside.append(namespace)
        yield
        inside.pop()

    monkeypatch.setattr(namespaces, "within", within)
    member = links.parse(struct.pack("=BxHiII", 0, 0, 13, 1, 0) + attribute(3, b"dev13\0") + numbered(10, 15))
    named = {
        0: [link(5), link(6, "macvtap", 5), link(7, "hsr", 6), link(8, "veth", 5)],
        1: [member, link(14, "hsr", 99), link(15, "hsr")],
    }
    monkeypatch.setattr(namespaces, "spaces", lambda: spaces)
    monkeypatch.setattr(links, "dump", named.__getitem__)
    ports = [Vport(1, INTERNAL, "dev5", 5), Vport(2, INTERNAL, "in4", 13, netns=0), Vport(3, 1, "dev8", 8)]
    found = preserve.going(ports, lambda _space, gone: (list(inside), gone))
    assert [[link.name for link in each.devices] for each in found] == [["dev5", "dev6"], ["dev13"]]
    # On one, and the master of one.
    assert [[link.name for link in each.lost] for each in found] == [["dev7"], ["dev15"]]
    assert [each.beside for each in found] == [(["ours"], {5, 6}), (["theirs"], {13})]
    assert len(closed) == 2


def test_the_namespace_of_a_port_is_found_by_its_number() -> None:
    assert preserve._place(SPACES, Vport(1, INTERNAL, "a", 5)) == 0
    assert preserve._place(SPACES, Vport(1, INTERNAL, "a", 5, netns=1)) == 2
    with pytest.raises(HotUpgradeError, match="the network namespace of the port a cannot be found"):
        preserve._place(SPACES, Vport(1, INTERNAL, "a", 5, netns=9))


def test_a_namespace_without_a_number_is_not_that_of_a_port_whose_own_one_goes() -> None:
    spaces = [*SPACES, dataclasses.replace(SPACES[1], number=namespaces.NONE)]
    with pytest.raises(HotUpgradeError, match="cannot be found"):
        preserve._place(spaces, Vport(1, INTERNAL, "a", 5, netns=namespaces.NONE))


def test_a_port_that_is_moved_or_deleted_just_then_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look at the datapath and the one at the namespaces; and whoever fails lets go of these."""
    closed: list[int] = []
    spaces = [types.SimpleNamespace(number=None, route=0, close=lambda: closed.append(0))]
    monkeypatch.setattr(namespaces, "spaces", lambda: spaces)
    monkeypatch.setattr(links, "dump", lambda _route: [link(5)])
    asked: list[t.Any] = []

    def batches(_place: int, _space: t.Any, _told: t.Any, gone: t.Any, _below: t.Any) -> list[Batch]:
        asked.append(gone)
        return []

    monkeypatch.setattr(preserve, "_batches", batches)
    monkeypatch.setattr(preserve, "_known_settings", lambda *_all: [])
    monkeypatch.setattr(dumps, "dump", lambda _route, _links: dumps.Dumps())
    found = preserve.capture([Vport(1, INTERNAL, "dev5", 5)])
    assert (asked, found.first, closed) == ([{5: 0}], {1: 5}, [])
    with pytest.raises(preserve.OnItsWay, match="the device of the port moved cannot be found"):
        preserve.capture([Vport(1, INTERNAL, "dev5", 5), Vport(2, INTERNAL, "moved", 6)])
    with pytest.raises(preserve.OnItsWay, match="the network namespace of the port a cannot be found"):
        preserve.capture([Vport(1, INTERNAL, "a", 5, netns=9)])
    assert closed == [0, 0]


def test_what_is_there_already_is_no_failure() -> None:
    route = Route()
    route.refused = [[Refusal(0, errno.EEXIST, ""), Refusal(1, errno.EINVAL, "no such thing")]]
    batch = Batch(0, 0, Stage.ADDRESS, (request(Stage.ADDRESS, 5, "one"), request(Stage.ADDRESS, 5, "two")))
    assert preserve.restore(with_route(captured(batch), 0, route), [batch]) == [
        "two of br0: EINVAL (no such thing)"
    ]


def test_who_gives_back_much_is_heard_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not heard for some minutes is taken for one that hangs, and ended."""
    route, beats = Route(), []
    monkeypatch.setattr(preserve, "beat", lambda: beats.append(len(route.sent)))
    many = tuple(request(Stage.ADDRESS, 5, f"{number}") for number in range(600))
    route.refused = [[], [Refusal(300, errno.EINVAL, "no such thing")]]
    batch = Batch(0, 0, Stage.ADDRESS, many)
    assert preserve.restore(with_route(captured(batch), 0, route), [batch]) == [
        "300 of br0: EINVAL (no such thing)"
    ]
    assert beats == [0, 1, 2]


def test_a_device_knows_in_which_namespace_the_one_below_it_is() -> None:
    below = {(1, 13): (0, 5), (1, 14): (1, 13)}
    assert preserve._made(1, link(13, "macvlan", 5, netns=0), below).below == 0
    assert preserve._made(1, link(14, "vlan", 13), below).below is None


def test_an_ifindex_is_that_of_its_namespace() -> None:
    """Linux before 6.1 and 5.13 has given ports another one: here, and in the namespaces to which they were moved."""
    route = Route()
    made = links.made(link(13, "macvlan", 5, netns=0))
    child = Batch(1, 1, Stage.CHILD, (dataclasses.replace(made, below=0),))
    before = with_route(captured(child), 1, route)
    assert preserve.restore(before, [child], {0: {5: 92, 13: 1}, 2: {13: 2}}) == []
    (sent,) = route.sent
    assert struct.unpack_from("=i", sent, 20) == (13,)
    assert numbered(5, 92) in sent
    preserve.restore(before, [child], {0: {}, 1: {13: 93}})
    assert struct.unpack_from("=i", route.sent[-1], 20) == (93,)
    assert numbered(5, 5) in route.sent[-1]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([(13, "in4"), (14, "in6"), (99, "eth0")], {}),  # as it was asked; eth0 is another one
        ([(90, "in4"), (91, "in6")], {1: {13: 90, 14: 91}}),
        ([(90, "eth0")], {1: {13: 90}}),  # it has its name again already, and the other one is gone
        ([], {}),
    ],
)
def test_ports_that_have_got_another_ifindex_where_they_are(
    there: list[tuple[int, str]], expected: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = (Move(1, 9, 13, "in4", "eth0"), Move(1, 10, 14, "in6", "in6"))
    named = [types.SimpleNamespace(index=index, name=name) for index, name in there]
    monkeypatch.setattr(links, "dump", lambda _route: named)
    assert preserve.arrived(captured(moves=moves)) == expected


def test_a_setting_that_cannot_be_written_is_named() -> None:
    batch = Batch(0, 0, Stage.SYSCTL, settings=(Setting("ipv4/conf/no-such-device/forwarding", b"1\n"),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespaces, "within", lambda _namespace: contextlib.nullcontext())
        assert preserve.restore(captured(batch), [batch]) == [
            "ipv4/conf/no-such-device/forwarding: No such file or directory"
        ]


@pytest.mark.parametrize(("refused", "sent"), [([], 1), ([[Refusal(0, errno.EBUSY, "")], []], 3)])
def test_a_port_gets_its_name_and_what_it_loses_on_the_way(
    refused: list[list[Refusal]], sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.2 a device is renamed while it is down only, which takes addresses and routes from it."""
    monkeypatch.setattr(preserve, "arrived", lambda _captured: {1: {13: 90}})
    monkeypatch.setattr(links, "dump", lambda _route: [])
    route = Route()
    route.refused = refused
    address = Batch(1, 0, Stage.ADDRESS, (request(Stage.ADDRESS, 13, "a"),))
    state = Batch(1, 0, Stage.STATE, (request(Stage.STATE, 13, "b"),))
    moves = (Move(1, 9, 13, "in4", "eth0"), Move(1, 9, 14, "same", "same"))
    assert preserve.rename(with_route(captured(address, state, moves=moves), 1, route)) == []
    assert len(route.sent) == sent
    assert b"eth0\0" in route.sent[0]
    assert {struct.unpack_from("=i", each, 20)[0] for each in route.sent[:2]} == {90}


def test_a_device_that_is_not_the_port_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback comes hours later: by then the number of a namespace may be that of another container."""
    moves = tuple(Move(1, 9, index, "in4", f"eth{index}") for index in (13, 14, 15))
    route = Route()
    found = with_route(captured(moves=moves), 1, route)
    monkeypatch.setattr(links, "dump", lambda _route: [link(13), named(14, "in4"), named(15, "eth15")])
    assert preserve.rename(found) == []
    assert [struct.unpack_from("=i", each, 20)[0] for each in route.sent] == [14]


def named(index: int, name: str) -> links.Link:
    header = struct.pack("=BxHiII", 0, 0, index, 1, 0)
    return links.parse(header + attribute(3, name.encode() + b"\0"))


def test_what_is_on_a_port_that_goes_down_gets_back_what_it_loses() -> None:
    """A VLAN goes down with it, also in another namespace; what is beside it does not."""
    stages = (Stage.CHILD, Stage.ADDRESS, Stage.UP, Stage.ROUTE)
    found = captured(
        *(Batch(1, 0, stage, (request(stage, 13, "port"), request(stage, 21, "beside"))) for stage in stages),
        *(Batch(1, 1, stage, (request(stage, 14, "vlan"),)) for stage in stages),
        *(Batch(2, 2, stage, (request(stage, 13, "vlan on it"),)) for stage in stages),
        *(Batch(0, 0, stage, (request(stage, 14, "elsewhere"),)) for stage in stages),
    )
    found = dataclasses.replace(found, below={(1, 14): (1, 13), (2, 13): (1, 14), (1, 22): (1, 21)})
    given = preserve._of_device(found, Move(1, 9, 13, "in4", "eth0"))
    told = [(batch.stage, each.what) for batch in given for each in batch.requests]
    assert told == [(stage, name) for name in ("port", "vlan", "vlan on it") for stage in stages[1:]]


def test_settings_are_read_once_for_the_same_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def settings(place: int, _space: t.Any, gone: dict[int, int], _names: t.Any) -> list[Batch]:
        looked.append(dict(gone))
        return [Batch(place, 0, Stage.SYSCTL, settings=(Setting("ipv4/conf/br0/forwarding", b"1\n"),))]

    monkeypatch.setattr(preserve, "_settings", settings)
    known: preserve.Known = {}
    (first,) = preserve._known_settings(0, SPACES[0], {5: 0}, {}, known)
    (again,) = preserve._known_settings(
        2, SPACES[0], {5: 0}, {}, known
    )  # other namespaces have come meanwhile
    assert (again.space, again.settings) == (2, first.settings)
    preserve._known_settings(0, SPACES[0], {5: 0, 6: 1}, {}, known)
    assert looked == [{5: 0}, {5: 0, 6: 1}]


def test_what_coming_up_changes_is_set_when_it_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The MTU of IPv6: the device gets that of the link then."""
    told = [("ipv6/conf", "mtu", b"1400\n"), ("ipv4/conf", "mtu", b"1\n")]
    monkeypatch.setattr(links, "dump", lambda _route: [link(5)])
    monkeypatch.setattr(namespaces, "within", lambda _namespace: contextlib.nullcontext())
    monkeypatch.setattr(settings, "_of", lambda device: told if device == "dev5" else [])
    before, later = preserve._settings(0, SPACES[0], {5: 0}, {(0, 5): "dev5"})
    assert (before.stage, [each.path for each in before.settings]) == (
        Stage.SYSCTL,
        ["ipv4/conf/dev5/mtu"],
    )
    assert (later.stage, [each.path for each in later.settings]) == (Stage.UP, ["ipv6/conf/dev5/mtu"])
