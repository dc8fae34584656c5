# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module goes back from wherever it was left: not touched, in the middle of the gap, or replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import reloader
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    bypass,
    comparison,
    gap,
    loading,
    neighbours,
    preserve,
    witness,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules, module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from tests.unit.plugins.module_utils._kmod.test_plan import MODULE
from tests.unit.plugins.module_utils._ovs.test_module_image import elf, note

OLD = elf({".note.gnu.build-id": note(b"\xaa\xaa"), ".modinfo": b"depends=\0"})
NEW = elf({".note.gnu.build-id": note(b"\xbb\xbb"), ".modinfo": b"depends=nf_nat,nsh\0"})


SHOWN = """\
netdev@ovs-netdev: hit:0 missed:0
  br9:
    br9 65534/1: (tap)
    other 7/2: (internal)
system@ovs-system: hit:1 missed:2
  br0:
    br0 65534/1: (internal)
    in4 4/9: (internal)
    p1 1/2: (system)
    vx0 5/3: (vxlan: remote_ip=192.0.2.1)
    patch0 6/none: (patch: peer=patch1)
"""


class Transaction:
    """Files in a directory, JSON in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.documents: dict[str, t.Any] = {}
        self.notes: dict[str, t.Any] = {}
        self.moments: list[tuple[str, str]] = []

    def observe(self, when: str, moment: str) -> None:
        self.moments.append((when, moment))

    def file(self, name: str) -> str:
        return str(self.root / name)

    def read(self, name: str) -> t.Any:
        return self.documents.get(name)

    def write(self, name: str, document: t.Any) -> None:
        self.documents[name] = document

    def note(self, **values: t.Any) -> None:
        self.notes.update(values)

    def prune(self, *names: str) -> None:
        for name in names:
            self.documents.pop(name, None)


LOOK = "look {(1, 5, None): 'br0', (9, 13, 0): 'in4'}"
BACK = ["bypass", "run aaaa", "no bypass", "rename"]
ENDED = ["hold", "flag", "kill monitor of vswitchd", "kill vswitchd of /run/ovs"]


class Misses:
    """Those of ``misses``."""

    address, forwarded, dropped, left = 77, 3, 2, 1

    def __init__(self, answer: t.Any) -> None:
        assert answer(1, b"packet") == [2]
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def stop(self) -> None:
        assert self.runs


class StandIn:
    """One that knows where to."""

    known: t.ClassVar[dict[int, str]] = {}

    def keep(self, names: dict[int, str]) -> None:
        StandIn.known = names

    def answer(self, _port: int, _packet: bytes) -> t.Sequence[int]:
        return [2]


def select(table: str, columns: t.Sequence[str]) -> list[dict[str, str]]:
    assert (table, columns) == ("Interface", ("name",))
    return [{"name": "br0"}, {"name": "in4"}]


class World:
    """A Reloader, and what it does in order; ``loaded`` is the build-id of the module in the kernel."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, use: str = "auto") -> None:
        self.done: list[str] = []
        self.loaded, self.covered, self.fails, self.dies, self.useless = "aaaa", 3, False, False, ""
        self.asked = 0
        self.ways: list[str] = []
        self.lost: dict[int, str] = {}
        self.unnamed: list[str] = []
        self.tried: list[str | None] = []
        self.rejected = ""
        self.lacking: list[str] = []
        self.taken = 0
        self.killed = self.databaseless = False
        self.vlans: t.Any = None
        self.refused: list[str] = []
        self.transaction = Transaction(root)
        for name, content in (("disk.ko", NEW), ("kept.ko", OLD)):
            (root / name).write_bytes(content)
        request = types.SimpleNamespace(
            rundir="/run/ovs", back_of=None, reload=Reload(str(root / "disk.ko"), str(root / "kept.ko"), use)
        )
        self.missed: list[str] = []
        self.ports = [
            Vport(1, INTERNAL, "br0", 5),
            Vport(2, 1, "p1", 6),
            Vport(9, INTERNAL, "eth0", 13, netns=0),
        ]
        self.shown = SHOWN
        self.reloader = reloader.Reloader(
            t.cast(t.Any, types.SimpleNamespace(transaction=self.transaction, request=request)),
            t.cast(
                t.Any,
                types.SimpleNamespace(
                    control=lambda _name: types.SimpleNamespace(call=lambda *_words: self.shown),
                    process=lambda _name: "vswitchd",
                    hold=lambda: self.done.append("hold"),
                ),
            ),
            t.cast(
                t.Any,
                types.SimpleNamespace(
                    ensure=lambda: self.done.append("database"),
                    raise_flag=self._raise_flag,
                    open=lambda: contextlib.nullcontext(types.SimpleNamespace(select=select)),
                ),
            ),
            t.cast(t.Any, types.SimpleNamespace(marks={}, missed=self.missed.extend)),
            t.cast(
                t.Any,
                types.SimpleNamespace(run=self._run, clock=types.SimpleNamespace(sleep=lambda _s: None)),
            ),
        )
        captured = types.SimpleNamespace(close=lambda: None, size=1000, vlans={2: [(0x8100, 10)]})
        self.ready: t.Any = types.SimpleNamespace(
            captured=captured,
            ports=(Vport(1, INTERNAL, "br0", 5), Vport(9, INTERNAL, "in4", 13)),
            megaflows=(),
        )
        replaced: dict[t.Any, dict[str, t.Any]] = {
            reloader: {
                "Netlink": lambda _protocol: contextlib.nullcontext("socket"),
                "Kernel": lambda _socket: types.SimpleNamespace(megaflows=list, ports=lambda: self.ports),
                "monitor_of": lambda process: f"monitor of {process}",
                "kill_daemon": lambda _name, process, rundir: self.done.append(f"kill {process} of {rundir}"),
                "kill": lambda process: self.done.append(f"kill {process}"),
                "Misses": Misses,
            },
            gap: {
                "look": self._look,
                "Gap": self._gap,
                "as_json": lambda _ready: {"ready": 1},
                "from_json": lambda _record: self.ready,
            },
            preserve: {"rename": lambda _captured: self.done.append("rename") or list(self.unnamed)},
            bypass: {
                "prepare": self._prepare,
                "try_out": lambda: self.lacking,
                "remove_left_over": lambda _route, begun: self.done.append(f"bypass away{list(begun) or ''}"),
            },
            loading: {"System": lambda: types.SimpleNamespace(insert=self._insert)},
            neighbours: {"megaflows": lambda _trace, _ports, _live, _ends: ["a question"]},
            kernel_modules: {"modules": self._modules},
        }
        for owner, names in replaced.items():
            for name, value in names.items():
                monkeypatch.setattr(owner, name, value)

    def _raise_flag(self) -> None:
        if self.databaseless and "database" not in self.done:
            raise Unreachable("the database does not answer", "Connection refused", "Start it")
        self.done.append("flag")

    def _run(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        self.done.append(" ".join(argv))
        return Completed(0, "", "")

    def _look(
        self,
        _kernel: t.Any,
        names: gap.Names,
        _vports: t.Any,
        _known: t.Any = None,
        lost: dict[int, str] | None = None,
    ) -> t.Any:
        self.done.append(f"look {dict(names)}")
        if lost is not None:
            lost.update(self.lost)
        return self.ready

    def _insert(self, image: bytes) -> int:
        """Both are tried out while one is loaded, and never by the reloader itself otherwise."""
        self.tried.append(module_image.parse(image, "").build_id)
        return errno.EKEYREJECTED if self.tried[-1] == self.rejected else errno.EEXIST

    def _modules(self, runner: t.Any) -> list[kernel_modules.Module]:
        return [kernel_modules.dataclasses.replace(MODULE, build_id=self.loaded)]

    def _gap(self, _kernel: t.Any, _calls: t.Any, _ready: t.Any, **options: t.Any) -> t.Any:
        self.asked = options["upcalls"]
        self.ways.append("back" if options["way_back"] else "there")

        marks = {"begin": 1}

        def run(new: bytes, old: bytes) -> None:
            made.loaded = old
            options["observe"]("begin")
            self.done.append(f"run {module_image.parse(new, '').build_id}")
            if self.dies:
                raise OSError("netlink")
            marks["end"] = 2
            if self.fails:
                raise HotUpgradeError("the kernel does not take the module openvswitch")
            made.loaded = new
            self.loaded = module_image.parse(new, "").build_id or ""

        def finish(image: bytes, whole: bool = False) -> None:
            assert whole == (module_image.parse(image, "").build_id == "bbbb")
            self.done.append(f"finish {module_image.parse(image, '').build_id}")
            if self.useless and self.loaded == self.useless:
                raise HotUpgradeError("the kernel does not make the datapath again")

        def go_back(old: bytes) -> None:
            self.loaded = module_image.parse(old, "").build_id or ""
            self.done.append(f"back to {self.loaded}")

        made = types.SimpleNamespace(
            run=run,
            finish=finish,
            go_back=go_back,
            marks=marks,
            refused=["a flow"],
            ready=self.ready,
            way_back=options["way_back"],
        )
        return made

    def _prepare(
        self, _route: t.Any, _ports: t.Any, _flows: t.Any, beside: t.Any, _known: t.Any, vlans: t.Any = None
    ) -> t.Any:
        self.vlans = vlans
        assert beside == ["a question"]
        coverage = types.SimpleNamespace(covered=self.covered, megaflows=3, text=f"{self.covered} of 3")
        return types.SimpleNamespace(
            coverage=coverage,
            openings={2: "p1"},
            left_out=(),
            install=self._install,
            remove=lambda _route: self.done.append("no bypass"),
        )

    def _install(self, _route: t.Any) -> list[str]:
        if self.taken:
            self.taken -= 1
            raise bypass.Taken("the port p1 cannot have the tc filters of the bypass", "EEXIST")
        self.done.append("bypass")
        assert self.transaction.documents["bypass.json"] == [2]
        if self.killed:
            raise KeyboardInterrupt
        return self.refused


@pytest.fixture(name="world")
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path, monkeypatch)
    world.reloader.make_ready()
    return world


def test_both_modules_are_beside_each_other_and_what_the_new_one_needs_is_there(
    world: World, tmp_path: Path
) -> None:
    assert (tmp_path / "new.ko").read_bytes() == NEW
    assert (tmp_path / "old.ko").read_bytes() == OLD
    assert world.done == ["modprobe -- nf_nat", "modprobe -- nsh", LOOK]
    assert world.transaction.documents["names.json"] == [[1, 5, None, "br0"], [9, 13, 0, "in4"]]
    assert world.transaction.notes == {"bypass": "3 of 3"}


@pytest.mark.parametrize("rejected", ["aaaa", "bbbb"])
def test_a_module_that_the_kernel_would_not_take_ends_it_before(
    rejected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the kernel does not know, a security module: nothing has ended yet."""
    world = World(tmp_path, monkeypatch)
    world.rejected = rejected
    with pytest.raises(HotUpgradeError, match="Key was rejected"):
        world.reloader.make_ready()
    assert world.tried == ["bbbb", "aaaa"][: len(world.tried)]


def test_what_a_tenant_has_filled_is_not_read_while_nobody_serves(world: World) -> None:
    """It is found before; and if it grows just then, nothing is touched."""
    world.ready.captured.size = 200_001
    with pytest.raises(HotUpgradeError, match="200001 addresses, routes"):
        world.reloader.make_ready()
    world.done.clear()
    with pytest.raises(HotUpgradeError, match="200001 addresses, routes"):
        world.reloader.replace()
    assert world.done == [LOOK]
    assert "gap.json" not in world.transaction.documents


@pytest.mark.parametrize("use", ["auto", "require", "no"])
def test_a_bypass_that_has_to_cover_everything(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, use)
    world.covered = 2
    with pytest.raises(HotUpgradeError, match="2 of 3") if use == "require" else contextlib.nullcontext():
        world.reloader.make_ready()
    assert world.transaction.notes == ({} if use == "no" else {"bypass": "2 of 3"})


def test_a_name_is_that_of_a_device_and_not_of_a_number(world: World) -> None:
    """An agent has deleted one and added another one, which has got its number."""
    world.ports[2] = dataclasses.replace(world.ports[2], name="vnet-b", index=14, netns=None)
    world.shown = SHOWN.replace("in4 4/9", "vnet-b 4/9")
    world.reloader.learn_names()
    assert world.reloader._names() == {(1, 5, None): "br0", (9, 13, 0): "in4", (9, 14, None): "vnet-b"}


def test_the_names_of_ports_that_get_another_ifindex(world: World) -> None:
    """Linux before 6.1: whoever goes back finds them by that one, also where no ovs-vswitchd tells any more."""
    world.ports[2] = dataclasses.replace(world.ports[2], index=90)
    world.reloader.replace()
    assert world.reloader._names()[9, 90, 0] == "in4"
    leave(world, "aaaa")
    world.ports[2] = dataclasses.replace(world.ports[2], index=91)
    world.reloader.complete()
    assert world.reloader._names()[9, 91, 0] == "in4"


def test_names_are_learned_before_the_way_back(world: World) -> None:
    world.reloader.replace()
    world.shown = SHOWN.replace("in4 4/9", "vnet-b 4/9")
    world.ports[2] = dataclasses.replace(world.ports[2], index=92)
    world.done.clear()
    world.reloader.bring_back()
    assert "(9, 92, 0): 'vnet-b'" in next(what for what in world.done if what.startswith("look"))


@pytest.mark.parametrize("use", ["auto", "require", "no"])
def test_a_kernel_that_lacks_what_the_bypass_takes(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who requires it is refused while the old process serves."""
    world = World(tmp_path, monkeypatch, use)
    world.lacking = ["act_pedit: ENOENT"]
    with pytest.raises(HotUpgradeError, match="act_pedit") if use == "require" else contextlib.nullcontext():
        world.reloader.make_ready()
    assert world.transaction.notes == (
        {"bypass": "3 of 3; not taken: act_pedit: ENOENT"} if use == "auto" else {}
    )


@pytest.mark.parametrize("use", ["auto", "require"])
def test_filters_that_are_refused(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, use)
    world.reloader.make_ready()
    world.refused = ["EINVAL"]
    world.done.clear()
    with pytest.raises(HotUpgradeError, match="1 filters") if use == "require" else contextlib.nullcontext():
        world.reloader.replace()
    assert world.done == [LOOK, "bypass", *(["run bbbb"] if use == "auto" else []), "no bypass"]


@pytest.mark.parametrize(("taken", "filters"), [(1, ["bypass", "run bbbb", "no bypass"]), (9, ["run bbbb"])])
def test_a_port_that_somebody_takes_just_then_is_left_out(
    world: World, taken: int, filters: list[str]
) -> None:
    world.taken = taken
    world.done.clear()
    world.reloader.replace()
    assert world.done == [LOOK, *filters]


def test_replaced_round_the_datapath(world: World) -> None:
    world.done.clear()
    world.reloader.replace()
    assert world.done == [LOOK, "bypass", "run bbbb", "no bypass"]
    assert world.transaction.documents["gap.json"] == {"ready": 1}
    assert world.missed == ["a flow"]
    assert world.vlans == {2: [(0x8100, 10)]}


def test_new_flows_are_asked_about_where_somebody_knows(world: World) -> None:
    world.reloader.replace()
    assert world.asked == 0
    world.reloader.stand_in = t.cast(t.Any, StandIn())
    world.reloader.replace()
    assert world.asked == Misses.address
    assert StandIn.known == {1: "br0", 9: "in4"}
    world.reloader.ask_nobody()
    told = world.transaction.notes["new_flows"]
    assert told == "3 packets were forwarded meanwhile, 2 were dropped as the flows say, 1 had to wait"
    world.reloader.ask_nobody()
    world.reloader.replace()
    assert world.asked == 0


def test_a_full_disk_keeps_nobody_from_ending_who_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reloader.stand_in = t.cast(t.Any, StandIn())
    world.reloader.replace()

    def full(**_values: t.Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(world.transaction, "note", full)
    world.reloader.ask_nobody()
    world.reloader.replace()
    assert world.asked == 0


def test_who_is_not_asked_is_told(world: World) -> None:
    world.reloader.stand_in = t.cast(t.Any, StandIn())
    world.reloader.do_without("a bridge was configured anew meanwhile")
    world.reloader.replace()
    assert world.asked == 0
    world.reloader.ask_nobody()
    told = "they wait for the new ovs-vswitchd: a bridge was configured anew meanwhile"
    assert world.transaction.notes["new_flows"] == told


def test_what_is_refused_on_any_way_back_is_told(world: World) -> None:
    world.lost = {9: "the network namespace of the port in4 cannot be found"}
    leave(world, "bbbb")
    world.unnamed = ["a name"]
    world.missed.clear()
    world.reloader.bring_back()  # finished, and then replaced
    assert world.missed == [
        "a flow",
        "a name",
        "the network namespace of the port in4 cannot be found",
        "a flow",
        "a name",
    ]


def test_what_nobody_could_bring_back_is_left_to_another_transaction(world: World, tmp_path: Path) -> None:
    leave(world, "bbbb")
    other = Transaction(tmp_path)
    world.reloader.leave_gap(t.cast(t.Any, other))
    assert other.documents.keys() == {"gap.json", "gap-open.json"}


def test_a_rollback_that_leaves_the_new_module_says_so(world: World) -> None:
    world.reloader.require_old()
    world.reloader.replace()
    with pytest.raises(HotUpgradeError, match="the new module openvswitch is still loaded"):
        world.reloader.require_old()
    for name in ("new", "old"):
        known = world.reloader._image(name)
        world.reloader._images[name] = dataclasses.replace(known, build_id=None)
    world.reloader.require_old()  # nothing tells them apart


def test_who_answers_goes_on_when_a_step_fails(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reloader.stand_in = t.cast(t.Any, StandIn())
    world.reloader.replace()
    undoing = World(tmp_path, monkeypatch)
    undoing.reloader.take_over(world.reloader)
    undoing.reloader.ask_nobody()
    assert "3 packets" in undoing.transaction.notes["new_flows"]


def test_a_module_that_does_not_load_leaves_no_bypass(world: World) -> None:
    world.fails = True
    with pytest.raises(HotUpgradeError):
        world.reloader.replace()
    assert world.done[-2:] == ["run bbbb", "no bypass"]
    world.done.clear()
    world.reloader.bring_back()  # all is back already, but for the names of those in other namespaces
    assert world.done == ["rename", "bypass away"]


def test_nothing_to_bring_back(world: World) -> None:
    world.done.clear()
    world.reloader.bring_back()
    assert world.done == ["bypass away"]


@pytest.mark.parametrize("loaded", ["", "aaaa"])
def test_left_in_the_middle_of_the_gap(world: World, loaded: str) -> None:
    leave(world, loaded)
    world.reloader.bring_back()
    assert world.done == ["finish aaaa", "rename", "bypass away"]
    world.done.clear()
    world.reloader.bring_back()  # whoever comes next has nothing to do
    assert world.done == ["rename", "bypass away"]


def leave(world: World, loaded: str) -> None:
    """Die in the gap."""
    world.dies = True
    with pytest.raises(OSError, match="netlink"):
        world.reloader.replace()
    world.dies, world.loaded = False, loaded
    world.done.clear()


def test_left_between_a_qdisc_and_its_filters(world: World) -> None:
    """Nothing on the device tells whose it is: the transaction does."""
    world.killed = True
    with pytest.raises(KeyboardInterrupt):
        world.reloader.replace()
    world.done.clear()
    world.reloader.bring_back()
    assert world.done[-1] == "bypass away[2]"
    world.reloader.bring_back()
    assert world.done[-1] == "bypass away"
    world.killed = False
    world.reloader.replace()
    assert "bypass.json" not in world.transaction.documents


def test_replaced_and_not_wanted(world: World) -> None:
    world.reloader.replace()
    world.done.clear()
    world.reloader.bring_back()
    assert world.done == [
        "rename",
        "bypass away",
        "database",
        *ENDED,
        LOOK,
        "bypass",
        "run aaaa",
        "no bypass",
        "rename",
    ]
    assert world.transaction.moments == [("after", "module: begin")] * 2
    assert world.ways == ["there", "back"]
    world.done.clear()
    world.reloader.bring_back()  # whoever comes next does not replace it again
    assert world.done == ["rename", "bypass away"]


def test_left_in_the_middle_with_the_new_module(world: World) -> None:
    """Whatever of the datapath is there already: what was there before comes back first, else it would be missed."""
    leave(world, "bbbb")
    world.reloader.bring_back()
    finished = ["finish bbbb", "rename", "bypass away"]
    assert world.done == [*ENDED, *finished, "database", *ENDED, LOOK, *BACK]


def test_the_database_has_ended_meanwhile(world: World) -> None:
    """In the gap nobody waits for it; before the next one it is there again."""
    leave(world, "bbbb")
    world.databaseless = True
    world.reloader.bring_back()
    without_flag = [each for each in ENDED if each != "flag"]
    finished = ["finish bbbb", "rename", "bypass away"]
    assert world.done == [*without_flag, *finished, "database", *ENDED, LOOK, *BACK]


def test_left_with_a_new_module_that_makes_no_datapath(world: World) -> None:
    leave(world, "bbbb")
    world.useless = "bbbb"
    world.reloader.bring_back()
    assert world.done == [*ENDED, "finish bbbb", "back to aaaa", "rename", "bypass away"]
    assert not {"gap-open.json", "module.json"} & world.transaction.documents.keys()


def test_modules_that_nothing_tells_apart(world: World) -> None:
    """The new one is taken for loaded from when it was begun until the old one is back."""
    for name, image in (("new", NEW), ("old", OLD)):
        known = module_image.parse(image, "")
        world.reloader._images[name] = dataclasses.replace(known, build_id=None)
    assert not world.reloader._new_is_loaded
    leave(world, "aaaa")
    assert world.reloader._new_is_loaded
    world.reloader.bring_back()
    assert world.done[-4:] == BACK
    assert not world.reloader._new_is_loaded
    world.fails = True
    with pytest.raises(HotUpgradeError):
        world.reloader.replace()
    assert not world.reloader._new_is_loaded, "the old one was loaded again"


@pytest.mark.parametrize("use", ["auto", "require", "no"])
def test_the_way_back_goes_round_the_datapath_as_well_as_it_can(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, use)
    world.reloader.make_ready()
    world.reloader.replace()

    def refuse(*_all: t.Any) -> t.Any:
        raise HotUpgradeError("the port p1 cannot have the tc filters of the bypass")

    monkeypatch.setattr(bypass, "prepare", refuse)
    world.missed.clear()
    world.reloader.bring_back()
    assert world.done[-2:] == ["run aaaa", "rename"]
    assert [text.split(":")[0] for text in world.missed] == (
        ["a flow"] if use == "no" else ["no bypass", "a flow"]
    )


def test_left_in_the_middle_of_the_way_back(world: World) -> None:
    """It is finished from what was there then, and not from what was there before the reload."""
    world.reloader.replace()
    world.transaction.documents.clear()
    world.transaction.documents["gap.json"] = {"ready": 0}
    world.dies = True
    with pytest.raises(OSError, match="netlink"):
        world.reloader.bring_back()
    assert world.transaction.documents["gap.json"] == {"ready": 1}
    assert "gap-open.json" in world.transaction.documents


def thing(text: str) -> witness.Thing:
    return witness.Thing(text, ("br0",), (text,))


def test_a_hand_back_is_a_way_back_too(world: World) -> None:
    t.cast(t.Any, world.reloader._scope.request).back_of = "20261129T1"
    world.reloader.replace()
    assert world.ways == ["back"]


def test_what_is_not_back_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what was at risk also what is of other devices, and nothing of ports that somebody has deleted."""
    world.reloader.replace()
    asked = []

    def missing(before: t.Any, after: t.Any, deleted: t.Any) -> list[tuple[witness.Thing, bool]]:
        asked.append((before, after, deleted))
        return [(thing("the address 192.0.2.1/24 of br0"), True), (thing("the flag up of p1"), False)]

    monkeypatch.setattr(comparison, "missing", missing)
    monkeypatch.setattr(comparison, "at_risk", lambda _captured: 2)
    monkeypatch.setattr(comparison, "absent", lambda _captured, _ports, present: {f"not {sorted(present)}"})
    world.missed.clear()
    world.reloader.settle()
    assert asked == [(world.ready.captured, world.ready.captured, {"not ['br0', 'in4']"})]
    lost = ["the address 192.0.2.1/24 of br0", "the flag up of p1"]
    assert world.transaction.notes["restored"] == {"of": 3, "missing": lost}
    assert world.missed == [f"after the reload there is not: {each}" for each in lost]


@pytest.mark.parametrize(("where", "what"), [(comparison, "absent"), (gap, "look")])
def test_what_cannot_be_compared_is_no_reason_to_go_back(
    world: World, monkeypatch: pytest.MonkeyPatch, where: t.Any, what: str
) -> None:
    """Nor what cannot even be looked at: a container whose process has ended takes the name of its namespace with it."""
    world.reloader.replace()

    for error in (
        HotUpgradeError("the kernel's answer is cut off"),
        OSError("the kernel's answer is cut off"),
    ):

        def fail(*_all: t.Any, error: Exception = error) -> t.Any:
            raise error

        monkeypatch.setattr(where, what, fail)
        world.missed.clear()
        world.reloader.settle()
        assert world.missed == [
            "what is back cannot be compared with what there was: the kernel's answer is cut off"
        ]
