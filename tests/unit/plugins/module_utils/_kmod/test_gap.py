# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gap, with a kernel in memory: whoever is ended in it at any moment leaves what another process brings back whole."""

from __future__ import annotations

import dataclasses
import errno
import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import gap, namespaces, preserve
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.kernel import Datapath, Kernel
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Request, Stage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import Refusal

DATAPATH = Datapath("ovs-system", 4, bytes(4), None)
# Whom the datapath asks.
ADDRESS = 77
PORTS = (
    Vport(0, INTERNAL, "ovs-system", 4),
    Vport(1, 1, "eth0", 2),
    Vport(2, INTERNAL, "br0", 5),
    Vport(3, INTERNAL, "busy", 6),
    Vport(4, INTERNAL, "moved", 7, netns=1),
)
REQUESTS = {stage: Request(stage, 5, stage.name, b"") for stage in Stage}
BATCHES = tuple(
    Batch(0, generation, stage, (REQUESTS[stage],))
    for generation, stage in [(0, s) for s in Stage] + [(1, Stage.CHILD)]
) + (Batch(1, 0, Stage.ADDRESS, (REQUESTS[Stage.ADDRESS],)),)
CAPTURED = Captured((), {0: 4, 2: 5, 3: 6, 4: preserve.HIGH + 4}, {}, (2, 4, 3), (), BATCHES)
READY = gap.Ready(DATAPATH, PORTS, (b"busy",), (b"1", b"2"), CAPTURED, ("vport_vxlan",))


class Ended(BaseException):
    """The process is killed."""


@dataclasses.dataclass
class World:
    """The kernel; it ends the process before the change number ``ends``, and on the module ``useless`` there is no datapath."""

    ends: int | None = None
    module: bytes | None = b"old"
    held: bool = False
    old_kernel: bool = False
    useless: bytes = b""
    refusing: t.Mapping[bytes, Refusal] = dataclasses.field(default_factory=dict)
    sealing: HotUpgradeError | None = None
    datapath: Datapath | None = DATAPATH
    ports: dict[int, Vport] = dataclasses.field(default_factory=lambda: {port.number: port for port in PORTS})
    flows: set[bytes] = dataclasses.field(default_factory=lambda: {b"busy", b"1", b"2"})
    given: list[Batch] = dataclasses.field(default_factory=list)
    done: list[str] = dataclasses.field(default_factory=list)
    now: preserve.Now = dataclasses.field(default_factory=dict)

    def change(self, what: str) -> None:
        if self.ends is not None and len(self.done) == self.ends:
            raise Ended
        self.done.append(what)

    # loading.Calls

    def insert(self, image: bytes) -> int:
        self.change(f"insert {image.decode()}")
        if self.module is not None:
            return errno.EEXIST
        if image == b"broken":
            return errno.ENOEXEC
        self.module = image
        return 0

    def remove(self, name: bytes) -> int:
        self.change(f"remove {name.decode()}")
        if name != b"openvswitch":
            return 0
        if self.held or self.datapath is not None:
            return errno.EPERM
        if self.module is None:
            return errno.ENOENT
        self.module = None
        return 0

    def live(self, name: str) -> bool:
        assert name == "openvswitch"
        return self.module is not None

    # Kernel

    def forget(self) -> None:
        pass

    def datapaths(self) -> list[Datapath]:
        return [self.datapath] if self.datapath else []

    def delete_ports(self, _index: int, numbers: t.Sequence[int]) -> None:
        for number in numbers:
            self.change(f"delete {number}")
            self.ports.pop(number, None)

    def delete(self, _index: int) -> None:
        self.change("delete")
        self.datapath, self.ports, self.flows, self.given = None, {}, set(), []

    def make(self, datapath: Datapath, upcalls: int) -> None:
        assert upcalls == ADDRESS
        assert self.module is not None
        self.change("make")
        if self.module == self.useless:
            raise HotUpgradeError("the kernel does not make the datapath again", "EOPNOTSUPP")
        self.datapath = datapath
        self.ports = {0: PORTS[0]}

    def add_ports(
        self, _index: int, ports: t.Sequence[Vport], first: t.Mapping[int, int], upcalls: int
    ) -> list[Refusal]:
        assert upcalls == ADDRESS
        for port in ports:
            self.change(f"add {port.number}")
            index = (
                port.index
                if port.kind != INTERNAL
                else 90 + port.number
                if self.old_kernel
                else first[port.number]
            )
            self.ports[port.number] = dataclasses.replace(port, index=index, netns=None)
        refused = self.refusing.get(self.module or b"")
        if refused is None:
            return []
        self.ports.pop(ports[refused.place].number)
        return [refused]

    def list_ports(self) -> list[Vport]:
        return list(self.ports.values())

    def add_flows(self, prepared: t.Sequence[bytes]) -> list[Refusal]:
        self.change(f"flows {len(prepared)}")
        refused = [
            Refusal(place, errno.EEXIST, "") for place, flow in enumerate(prepared) if flow in self.flows
        ]
        self.flows |= set(prepared)
        return refused

    def zone_limits(self) -> bytes:
        return b"limits"

    def limit_zones(self, limits: bytes) -> list[Refusal]:
        self.change(f"set {limits.decode()}")
        if self.useless:
            raise HotUpgradeError("the kernel has no ovs_ct_limit")
        return []

    # Preserver

    def move(self, _captured: Captured, now: t.Mapping[int, int]) -> list[str]:
        self.change("move")
        if self.ports[4].netns is None:
            self.ports[4] = dataclasses.replace(PORTS[4])
        return []

    def arrived(self, _captured: Captured) -> preserve.Now:
        return {1: {7: 94}} if self.old_kernel else {}

    def restore(
        self,
        _captured: Captured,
        wanted: t.Iterable[Batch],
        now: preserve.Now | None = None,
    ) -> list[str]:
        self.now = now or {}
        for batch in wanted:
            self.change(
                f"restore {batch.generation} {batch.stage.name}{' of a tenant' if batch.space else ''}"
            )
            self.given += [] if batch in self.given else [batch]
        return []

    # Detour

    def seal(self, _netlink: t.Any) -> None:
        self.change("seal")
        if self.sealing:
            raise self.sealing

    def unseal(self, _netlink: t.Any) -> None:
        self.change("unseal")

    def whole(self) -> bool:
        return (
            self.datapath == DATAPATH
            and self.list_ports_sorted() == list(PORTS)
            and self.flows == {b"busy", b"1", b"2"}
            and set(self.given) == set(BATCHES)
        )

    def list_ports_sorted(self) -> list[Vport]:
        return sorted(self.ports.values(), key=lambda port: port.number)


class Facade:
    """``World`` as a ``Kernel``: its ports are a function there."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> t.Any:
        return self.world.list_ports if name == "ports" else getattr(self.world, name)


def test_limits_of_zones_are_back_before_flows_that_track(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = dataclasses.replace(READY, limits=b"limits")
    world = World()
    found = dataclasses.replace(a_gap(world), ready=limited)
    found.run(b"new", b"old")
    assert world.done.index("make") < world.done.index("set limits") < world.done.index("flows 1")
    world = World(useless=b"none")
    found = dataclasses.replace(a_gap(world), ready=limited)
    found.run(b"new", b"old")
    assert found.refused == ["the limits of conntrack zones: the kernel has no ovs_ct_limit"]
    monkeypatch.setattr(Captured, "as_json", lambda _captured: {})
    monkeypatch.setattr(Captured, "from_json", lambda _record: CAPTURED)
    assert gap.from_json(json.loads(json.dumps(gap.as_json(limited)))).limits == b"limits"


def a_gap(world: World) -> gap.Gap:
    return gap.Gap(t.cast(Kernel, Facade(world)), world, READY, world, upcalls=ADDRESS)


def test_everything_comes_back_and_the_busiest_first() -> None:
    world = World()
    found = a_gap(world)
    seen: list[str] = []
    found.observe = seen.append
    found.run(b"new", b"old")
    assert world.whole()
    assert world.module == b"new"
    assert found.refused == []
    assert tuple(found.marks) == tuple(seen) == gap.MOMENTS
    assert world.done[:8] == [
        "delete 2",
        "delete 4",
        "delete 3",  # the busiest internal port goes last
        "delete",
        "remove vport_vxlan",
        "remove openvswitch",
        "insert new",
        "make",
    ]
    added = [what for what in world.done if what.startswith("add")]
    assert added == ["add 1", "add 3", "add 4", "add 2"]  # and comes first, behind the devices
    order = world.done.index
    assert order("flows 1") < order("restore 0 ADDRESS") < order("flows 2") < order("restore 0 OFFLOAD")
    assert order("flows 2") < order("restore 1 CHILD")
    assert order("flows 2") < order("restore 0 ADDRESS of a tenant")


def test_a_module_that_does_not_load_is_followed_by_the_old_one() -> None:
    world = World()
    with pytest.raises(HotUpgradeError, match="does not take the module openvswitch: Exec format error"):
        a_gap(world).run(b"broken", b"old")
    assert world.module == b"old"
    assert world.whole()


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(useless=b"new"), "does not make the datapath again: EOPNOTSUPP"),
        # An ovs-vswitchd that adds it later gets it without its addresses.
        (World(refusing={b"new": Refusal(1, errno.EINVAL, "")}), "does not take the port busy: EINVAL"),
    ],
    ids=["no datapath", "not all ports"],
)
def test_a_module_that_is_of_no_use_is_followed_by_the_old_one(world: World, why: str) -> None:
    found = a_gap(world)
    with pytest.raises(HotUpgradeError, match=why):
        found.run(b"new", b"old")
    assert world.module == found.loaded == b"old"
    assert world.whole()
    assert found.refused == []
    assert gap.MOMENTS[-1] in found.marks


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EBUSY, errno.EEXIST])
def test_what_no_module_would_take_is_no_reason_to_go_back(number: int) -> None:
    """A device that has gone, or is somebody else's by now; a name that another one has."""
    refused = Refusal(0, number, "")
    world = World(refusing={b"new": refused})
    found = a_gap(world)
    found.run(b"new", b"old")
    assert world.module == b"new"
    assert found.refused == [f"the port eth0: {refused}"]


def test_on_the_way_back_nothing_is_a_reason_to_go_forth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap.Gap, "_route", None)
    refused = HotUpgradeError("packets cannot be kept from the host's own stack")
    world = World(refusing={b"before": Refusal(1, errno.EINVAL, "")}, sealing=refused)
    found = dataclasses.replace(a_gap(world), bypass=world, way_back=True)
    found.run(b"before", b"old")
    assert world.module == found.loaded == b"before"
    assert found.refused == ["the port busy: EINVAL"]


def test_on_the_old_module_a_port_that_is_refused_is_told() -> None:
    """There is none to go to."""
    world = World(ends=7)
    with pytest.raises(Ended):
        a_gap(world).run(b"new", b"old")
    world.ends, world.refusing = (
        None,
        {b"new": Refusal(1, errno.EINVAL, ""), b"old": Refusal(1, errno.EINVAL, "")},
    )
    found = a_gap(world)
    with pytest.raises(HotUpgradeError, match="does not take the port busy"):
        found.finish(b"new", whole=True)
    found.go_back(b"old")
    assert found.refused == ["the port busy: EINVAL"]


def test_what_was_taken_away_before_it_ended_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that nobody uses go first."""
    monkeypatch.setattr(gap.Gap, "_route", None)
    world = World(sealing=HotUpgradeError("packets cannot be kept from the host's own stack"))
    found = a_gap(world)
    found.bypass = world
    with pytest.raises(HotUpgradeError, match="the host's own stack"):
        found.run(b"new", b"old")
    assert world.module == found.loaded == b"old"
    assert world.whole()
    assert "delete" not in world.done
    assert gap.MOMENTS[-1] in found.marks


def test_what_was_made_on_a_module_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The datapath is there, its ports are not, and the seal is lifted already or not."""
    world = World()
    found = a_gap(world)
    found.bypass = world
    monkeypatch.setattr(gap.Gap, "_route", None)
    given = world.restore

    def restore(captured: Captured, wanted: t.Iterable[Batch], now: t.Any = None) -> t.Any:
        batches = list(wanted)
        if world.module == b"new" and any(batch.space for batch in batches):
            raise HotUpgradeError("a change of the network", "no answer within 5 s")
        return given(captured, batches, now)

    monkeypatch.setattr(world, "restore", restore)
    with pytest.raises(HotUpgradeError, match="no answer"):
        found.run(b"new", b"old")
    assert world.module == b"old"
    assert world.whole()
    again = world.done[world.done.index("unseal") + 1 :]
    assert again.index("seal") < again.index("delete") < again.index("remove openvswitch")


def test_a_useless_module_that_somebody_holds_keeps_what_there_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes wrong once, and nobody can go back: all is there on the new one, and the next one knows that it is."""
    world = World()
    found = a_gap(world)
    move, moved = world.move, []

    def once(captured: Captured, now: t.Mapping[int, int]) -> list[str]:
        moved.append(now)
        if len(moved) == 1:
            world.held = True
            raise HotUpgradeError("a change of the network", "no answer within 5 s")
        return move(captured, now)

    monkeypatch.setattr(world, "move", once)
    with pytest.raises(HotUpgradeError, match="the kernel keeps the module openvswitch"):
        found.run(b"new", b"old")
    assert world.module == found.loaded == b"new"
    assert world.whole()


def test_a_module_that_somebody_holds_stays() -> None:
    world = World(held=True)
    with pytest.raises(HotUpgradeError, match="the kernel keeps the module openvswitch"):
        a_gap(world).run(b"new", b"old")
    assert world.module == b"old"
    assert world.whole()


def _moments() -> int:
    world = World()
    a_gap(world).run(b"new", b"old")
    return len(world.done)


@pytest.mark.parametrize("moment", range(_moments()))
def test_ended_at_any_moment_another_process_brings_everything_back(moment: int) -> None:
    world = World(ends=moment)
    with pytest.raises(Ended):
        a_gap(world).run(b"new", b"old")
    world.ends = None
    a_gap(world).finish(b"old")
    assert world.whole()
    before = dataclasses.replace(
        world, done=[], given=list(world.given), ports=dict(world.ports), flows=set(world.flows)
    )
    a_gap(world).finish(b"old")  # whoever comes next may do it again
    assert world.whole()
    assert world.module == before.module


def test_a_kernel_that_gives_its_own_numbers() -> None:
    world = World(old_kernel=True)
    a_gap(world).run(b"new", b"old")
    assert world.now == {0: {5: 92, 6: 93, preserve.HIGH + 4: 94}, 1: {7: 94}}


def test_what_does_not_come_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(
        world, "add_flows", lambda prepared: [Refusal(0, errno.EINVAL, "no meter")] * len(prepared)
    )
    found = a_gap(world)
    found.run(b"new", b"old")
    assert found.refused == [
        "1 megaflows, the first: EINVAL (no meter)",
        "2 megaflows, the first: EINVAL (no meter)",
    ]


def test_sealed_only_while_the_datapath_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes between devices and is not led round it goes through the datapath while ports that nobody uses are deleted."""
    monkeypatch.setattr(gap.Gap, "_route", None)
    world = World()
    found = a_gap(world)
    found.bypass = world
    found.run(b"new", b"old")
    order = world.done.index
    assert order("delete 3") < order("seal") < order("delete")
    assert order("flows 2") < order("unseal") < order("restore 1 CHILD")


def test_a_port_has_the_name_that_the_database_has_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of one that was deleted is the next one's."""
    monkeypatch.setattr(preserve, "capture", lambda ports, _known: ports)
    world = World()
    monkeypatch.setattr(world, "megaflows", list, raising=False)
    world.ports[8] = Vport(8, INTERNAL, "dies", 9, netns=namespaces.NONE)  # with its namespace
    names = {(4, 7, 1): "in4", (3, 99, None): "deleted", (2, 5, 1): "elsewhere"}
    found = gap.look(t.cast(Kernel, Facade(world)), names, ())
    assert [port.name for port in found.ports] == ["ovs-system", "eth0", "br0", "busy", "in4"]
    assert t.cast(t.Any, found.captured) == found.ports
    assert found.limits == b"limits"


def test_a_port_on_its_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container starts or ends just then; one that nobody finds ends it, or is left out."""
    monkeypatch.setattr(gap, "_PAUSE", 0.0)
    world = World()
    monkeypatch.setattr(world, "megaflows", list, raising=False)
    looks: list[int] = []

    def capture(ports: t.Sequence[Vport], _known: t.Any) -> t.Any:
        looks.append(len(ports))
        if len(looks) == 3:
            world.ports.pop(4)
        if any(port.number == 4 for port in ports):
            raise preserve.OnItsWay("the port moved cannot be found", "", "", 4)
        return CAPTURED

    monkeypatch.setattr(preserve, "capture", capture)
    kernel = t.cast(Kernel, Facade(world))
    assert len(gap.look(kernel, {}, ()).ports) == 4
    assert looks == [5, 5, 5, 4]
    world.ports[4] = PORTS[4]
    monkeypatch.setattr(gap, "_PATIENCE", 0.0)
    with pytest.raises(HotUpgradeError, match="cannot be found"):
        gap.look(kernel, {}, ())
    lost: dict[int, str] = {}
    assert len(gap.look(kernel, {}, (), lost=lost).ports) == 4
    assert lost == {4: "the port moved cannot be found"}


def test_what_fails_once_on_the_way_back_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    found = dataclasses.replace(a_gap(world), way_back=True)
    move, moved = world.move, []

    def once(captured: Captured, now: t.Mapping[int, int]) -> list[str]:
        moved.append(now)
        if len(moved) == 1:
            raise HotUpgradeError("a change of the network", "no answer within 5 s")
        return move(captured, now)

    monkeypatch.setattr(world, "move", once)
    found.run(b"before", b"old")
    assert world.module == found.loaded == b"before"
    assert world.whole()
