# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The gap: the datapath goes, the module is replaced, the datapath comes back, in one process.

All is ready before: from the first line of ``Gap.run`` to its last no program is started, no text parsed and no file read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import loading, namespaces, preserve
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.kernel import (
    NOBODY,
    OURS,
    Datapath,
    Kernel,
    asks_userspace,
    prepared_flows,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    INTERNAL,
    KernelFlow,
    Vport,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.kernel_modules import DATAPATH
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import Netlink

# Established traffic waits for these before anything else comes back.
BUSIEST = 64

# What ``Gap.marks`` and ``Gap.observe`` are told, in this order.
MOMENTS = (
    "begin",
    "sealed",
    "deleted",
    "unloaded",
    "loaded",
    "datapath",
    "ports",
    "busiest flows",
    "addresses",
    "flows",
    "end",
)

# A device that has gone meanwhile, one that somebody else has taken, and a name that another one has: no module would take these.
_NOBODYS_FAULT = (errno.ENODEV, errno.EBUSY, errno.EEXIST)
# For how long we look again where a port is on its way, and after which pause, in seconds.
_PATIENCE, _PAUSE = 2.0, 0.05

Json = dict[str, t.Any]
# What the database calls a port, by number, ifindex and namespace: the number of one that is deleted is the next one's.
Names = t.Mapping[tuple[int, int, t.Optional[int]], str]


class Preserver(t.Protocol):
    """``preserve``, as far as it is needed here."""

    def move(self, captured: Captured, now: t.Mapping[int, int]) -> list[str]:
        """See ``preserve.move``."""

    def arrived(self, captured: Captured) -> preserve.Now:
        """See ``preserve.arrived``."""

    def restore(
        self,
        captured: Captured,
        wanted: t.Iterable[Batch],
        now: preserve.Now | None = None,
    ) -> list[str]:
        """See ``preserve.restore``."""


class Detour(t.Protocol):
    """Established flows between devices go round the datapath (``bypass.Bypass``)."""

    def seal(self, netlink: Netlink) -> None:
        """Keep what does not go round it from the host's own stack."""

    def unseal(self, netlink: Netlink) -> None:
        """Give that to the datapath, which is back."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """What is known before the gap: the datapath, its ports and megaflows, and all that goes with the ports.

    ``busiest`` and ``flows`` are the megaflows as they will be sent; ``vports`` are the modules that hold the datapath's.
    ``limits`` are those of conntrack zones.
    """

    datapath: Datapath
    ports: tuple[Vport, ...]
    busiest: tuple[bytes, ...]
    flows: tuple[bytes, ...]
    captured: Captured
    vports: tuple[str, ...]
    limits: bytes = b""
    megaflows: tuple[KernelFlow, ...] = ()


def look(
    kernel: Kernel,
    names: Names,
    vports: t.Sequence[str],
    known: preserve.Known | None = None,
    lost: dict[int, str] | None = None,
) -> Ready:
    """What is there now.  A port that is not in ``names`` has the kernel's; for ``known`` see ``preserve.capture``.

    Raises ``HotUpgradeError`` when there is no datapath, and where a port cannot be found for some seconds; with ``lost`` it
    is left out and entered there: why, by its number.
    """
    found = [datapath for datapath in kernel.datapaths() if datapath.name == OURS]
    if not found:
        raise HotUpgradeError(
            f"there is no datapath {OURS}", "no ovs-vswitchd has made one", "Start ovs-vswitchd"
        )
    ports, captured = _settled(kernel, names, known, lost)
    megaflows = tuple(kernel.megaflows())
    flows = [flow for flow in megaflows if not asks_userspace(flow)]
    return Ready(
        found[0],
        ports,
        tuple(prepared_flows(found[0].index, flows[:BUSIEST])),
        tuple(prepared_flows(found[0].index, flows[BUSIEST:])),
        captured,
        tuple(vports),
        kernel.zone_limits(),
        megaflows,
    )


def _settled(
    kernel: Kernel, names: Names, known: preserve.Known | None, lost: dict[int, str] | None
) -> tuple[tuple[Vport, ...], Captured]:
    """The ports, and what goes with them, as soon as none is on its way from one namespace to another, or goes with its own.

    With ``lost`` one that cannot be found in time is left out, and entered there: why, by its number.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        beat()
        ports = tuple(
            dataclasses.replace(port, name=names.get((port.number, port.index, port.netns), port.name))
            for port in kernel.ports()
            # Without a number it goes with its namespace.
            if port.netns != namespaces.NONE and port.number not in (lost or ())
        )
        try:
            return ports, preserve.capture(ports, known)
        except preserve.OnItsWay as error:
            if time.monotonic() < end:
                time.sleep(_PAUSE)
            elif lost is None:
                raise
            else:
                lost[error.number] = str(error)


def unobserved(_moment: str) -> None:
    """The observer of a gap that nobody observes."""


@dataclasses.dataclass
class Gap:
    """``marks`` are its moments, in microseconds of the monotonic clock; ``refused`` what did not come back, in words.

    ``upcalls`` is for ``Kernel.make``; ``observe`` is called at each of ``MOMENTS``; ``loaded`` is the module after ``run``.
    On the ``way_back`` nothing that is refused is a reason to be on the other module.
    """

    kernel: Kernel
    calls: loading.Calls
    ready: Ready
    preserver: Preserver = dataclasses.field(default_factory=lambda: t.cast(Preserver, preserve))
    bypass: Detour | None = None
    upcalls: int = NOBODY
    way_back: bool = False
    observe: t.Callable[[str], None] = unobserved
    loaded: bytes = b""
    marks: dict[str, int] = dataclasses.field(default_factory=dict)
    refused: list[str] = dataclasses.field(default_factory=list)

    def run(self, new: bytes, old: bytes) -> None:
        """Replace the module by ``new``.

        Raises why ``old`` is the one that is loaded; all is back then, too.
        """
        self.loaded = old
        self._mark("begin")
        failed = self._take_away() or self._replace(new, old)
        self._mark("loaded")
        if failed is not None:
            self._come_back()
            raise failed
        try:
            self._come_back(whole=not self.way_back)
        except Exception:  # whatever it is: on the old one it was there
            if self.way_back and not attempt(self._come_back):
                return
            self.go_back(old)
            raise

    def _take_away(self) -> HotUpgradeError | None:
        """The datapath and its ports; why not, where a part of them is away already."""
        ready = self.ready
        try:
            # Those that nobody uses first: what they take is no part of the gap of the others.
            self.kernel.delete_ports(ready.datapath.index, ready.captured.idle)
            self._seal(required=not self.way_back)
            self._mark("sealed")
            self.kernel.delete(ready.datapath.index)
        except HotUpgradeError as error:
            return error
        self._mark("deleted")
        return None

    def _replace(self, new: bytes, old: bytes) -> HotUpgradeError | None:
        try:
            self._unload()
        except HotUpgradeError as error:
            return error
        self._mark("unloaded")
        try:
            loading.put(self.calls, DATAPATH, new)
        except HotUpgradeError as error:
            loading.put(self.calls, DATAPATH, old)
            return error
        self.loaded = new
        return None

    def _unload(self) -> None:
        for name in (*self.ready.vports, DATAPATH):
            loading.remove(self.calls, name)

    def _seal(self, required: bool) -> None:
        if self.bypass is None:
            return
        try:
            self.bypass.seal(self._route)
        except HotUpgradeError:
            if required:
                raise

    def go_back(self, old: bytes) -> None:
        """Bring everything back on ``old``, where the module that is loaded takes no datapath, or not this one."""
        self.refused.clear()
        self.kernel.forget()
        self._seal(required=False)
        with contextlib.suppress(HotUpgradeError):  # a module without the families has no datapath either
            for datapath in self.kernel.datapaths():
                if datapath.name == OURS:
                    self.kernel.delete(datapath.index)
        try:
            self._unload()
        except HotUpgradeError:  # somebody holds it by now: as much as there can be
            self._come_back()
            raise
        loading.put(self.calls, DATAPATH, old)
        self.loaded = old
        self._come_back()

    def finish(self, image: bytes, whole: bool = False) -> None:
        """Bring back what a ``run`` has taken that was ended anywhere, by a process that did not begin it; twice is fine.

        Raises ``HotUpgradeError`` where that is not possible, with ``whole`` also where the module refuses a port.
        """
        loading.insert(self.calls, DATAPATH, image)
        self._come_back(whole)

    def _come_back(self, whole: bool = False) -> None:
        """Make what is not there; with ``whole`` a module that refuses a port is of no use, else it is told."""
        ready = self.ready
        self.kernel.forget()
        if not any(datapath.name == OURS for datapath in self.kernel.datapaths()):
            self.kernel.make(ready.datapath, self.upcalls)
        self._mark("datapath")
        self._limit_zones()
        index = next(datapath.index for datapath in self.kernel.datapaths() if datapath.name == OURS)
        self._add_ports(index, whole)
        ours = self._moved_indexes()
        self._mark("ports")
        if index == ready.datapath.index:
            self._add_flows(ready.busiest)
        self._mark("busiest flows")
        captured = ready.captured
        self.refused += self.preserver.move(captured, ours)
        now = {0: ours, **self.preserver.arrived(captured)}
        # What a tenant has in a namespace of its own, however much, keeps nobody else waiting.
        soon = [batch for batch in captured.batches if batch.soon]
        self._restore([batch for batch in soon if batch.space == 0], now)
        self._mark("addresses")
        if index == ready.datapath.index:
            self._add_flows(ready.flows)
        if self.bypass is not None:
            self.bypass.unseal(self._route)
        self._mark("flows")
        self._restore([batch for batch in soon if batch.space], now)
        self._restore([batch for batch in captured.batches if not batch.soon], now)
        self._mark("end")

    def _limit_zones(self) -> None:
        if not self.ready.limits:
            return
        try:
            refused: t.Sequence[object] = self.kernel.limit_zones(self.ready.limits)
        except HotUpgradeError as error:  # a module without them
            refused = [error]
        self.refused += [f"the limits of conntrack zones: {each}" for each in refused]

    def _restore(self, wanted: t.Sequence[Batch], now: preserve.Now) -> None:
        self.refused += self.preserver.restore(self.ready.captured, wanted, now)

    def _add_ports(self, index: int, all_of_them: bool) -> None:
        """The busiest ports first; those that are there stay."""
        there = {port.number for port in self.kernel.ports()}
        turn = {number: place for place, number in enumerate(self.ready.captured.idle)}
        wanted = [port for port in self.ready.ports if port.number not in there]
        wanted.sort(key=lambda port: -turn.get(port.number, len(turn)))
        for each in self.kernel.add_ports(index, wanted, self.ready.captured.first, self.upcalls):
            name = wanted[each.place].name
            if all_of_them and each.number not in _NOBODYS_FAULT:
                raise HotUpgradeError(
                    f"the module {DATAPATH} does not take the port {name}",
                    str(each),
                    "Look at dmesg; the module of before took it",
                )
            self.refused.append(f"the port {name}: {each}")

    def _moved_indexes(self) -> dict[int, int]:
        """The ifindex that each internal port has now, by the one that was asked for: Linux before 6.1 gives its own."""
        first = self.ready.captured.first
        return {
            first[port.number]: port.index
            for port in self.kernel.ports()
            if port.kind == INTERNAL
            and port.netns is None
            and first.get(port.number, port.index) != port.index
        }

    def _add_flows(self, prepared: t.Sequence[bytes]) -> None:
        refused = [each for each in self.kernel.add_flows(prepared) if each.number != errno.EEXIST]
        if refused:
            self.refused.append(f"{len(refused)} megaflows, the first: {refused[0]}")

    @property
    def _route(self) -> Netlink:
        return self.ready.captured.spaces[0].route

    def _mark(self, name: str) -> None:
        self.marks[name] = time.monotonic_ns() // 1000
        beat()
        self.observe(name)


def as_json(ready: Ready) -> Json:
    """For the disk, without flows: nobody has them any more when another process goes on."""
    datapath = ready.datapath
    return {
        "datapath": [
            datapath.name,
            datapath.index,
            datapath.features.hex(),
            None if datapath.cache is None else datapath.cache.hex(),
        ],
        "ports": [
            [port.number, port.kind, port.name, port.index, port.options.hex(), port.netns]
            for port in ready.ports
        ],
        "captured": ready.captured.as_json(),
        "vports": list(ready.vports),
        "limits": ready.limits.hex(),
    }


def from_json(record: Json) -> Ready:
    """Undo ``as_json``."""
    name, index, features, cache = record["datapath"]
    ports = tuple(
        Vport(number, kind, name, index, bytes.fromhex(options), netns)
        for number, kind, name, index, options, netns in record["ports"]
    )
    return Ready(
        Datapath(name, index, bytes.fromhex(features), None if cache is None else bytes.fromhex(cache)),
        ports,
        (),
        (),
        Captured.from_json(record["captured"]),
        tuple(record["vports"]),
        bytes.fromhex(record["limits"]),
    )
