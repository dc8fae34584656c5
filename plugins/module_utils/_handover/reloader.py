# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The kernel module under ovs-vswitchd: replaced while no ovs-vswitchd runs, and brought back from wherever that was left."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
    attempt,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import Database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import NO, REQUIRE, Reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    bypass,
    comparison,
    gap,
    loading,
    neighbours,
    preserve,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.kernel import NOBODY, OURS, Kernel
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.misses import Misses
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules, module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD, kill_daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    INTERNAL,
    KernelFlow,
    Vport,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import shown_ports
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import traces_end
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import check
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    ROUTE,
    Netlink,
    Refusal,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import kill, monitor_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction

_NAME = kernel_modules.DATAPATH
# What the moments of the gap are called outside, before a colon.
MODULE = "module"
_READY, _OPEN, _NAMES, _NEW = "gap.json", "gap-open.json", "names.json", "module.json"
# On which devices a bypass was begun.
_BEGUN = "bypass.json"
# So much of the network is read and written down while no ovs-vswitchd serves: seven seconds. Tenants fill their own namespaces.
_MOST = 200_000
# So often somebody may set an ingress qdisc just then.
_OTHERS = 3
# For how long packets are counted that the bypass is judged by, in seconds.
_COUNTED = 1.0


class Answering(t.Protocol):
    """``stand_in.StandIn``, as far as it is needed here."""

    def catch_up(self) -> None:
        """The old process has ended."""

    def keep(self, names: t.Mapping[int, str]) -> None:
        """Know only these ports."""

    def answer(self, port: int, packet: bytes) -> t.Sequence[int] | None:
        """See ``misses.Answer``."""


class Reloader:
    """``new.ko`` and ``old.ko`` in the transaction are the modules, ``gap.json`` what was there before the datapath went.

    As long as ``gap-open.json`` is there somebody is in the gap, or died there: the kernel may have a part of it only.
    As long as ``module.json`` is, the new module may be loaded, which nothing else tells where neither has a build-id.
    """

    def __init__(
        self, scope: Scope, services: Services, database: Database, report: Report, outside: Outside
    ) -> None:
        self._scope, self._services, self._database = scope, services, database
        self._report, self._outside = report, outside
        self._images: dict[str, module_image.Image] = {}
        self._known: bypass.Known = {}
        self._beside: t.Sequence[KernelFlow] = ()
        self._settings: preserve.Known = {}
        self._before: gap.Ready | None = None
        self._misses: Misses | None = None
        self._without = ""
        # Who knows where packets of new flows go meanwhile.
        self.stand_in: Answering | None = None

    # Before the window

    def make_ready(self) -> None:
        """Keep both modules beside each other, have the kernel hold what the new one needs, and learn the ports' names."""
        request = self._request
        for name, path in (("new", request.new), ("old", request.old)):
            image = module_image.read(path)
            write_durable(self._file(name), image.content)
            self._images[name] = image
        for needed in filter(None, self._image("new").info.get("depends", "").split(",")):
            check(self._outside.run, ["modprobe", "--", needed])
        self.learn_names()
        # What is slow of it is done now, and a namespace that cannot be found ends it here.
        with Netlink(GENERIC) as socket:
            self._look(Kernel(socket)).captured.close()
        for name in ("new", "old"):
            loading.try_out(loading.System(), _NAME, self._image(name).content)
        self._judge_bypass()

    def _look(self, kernel: Kernel) -> gap.Ready:
        """``gap.look`` before the gap; raises ``HotUpgradeError`` when there is too much to be looked at again behind it."""
        ready = gap.look(kernel, self._names(), self._vports(), self._settings)
        if ready.captured.size > _MOST:
            ready.captured.close()
            raise HotUpgradeError(
                "there is too much in the network namespaces of internal ports",
                f"{ready.captured.size} addresses, routes, neighbours and so on instead of {_MOST} at most, which "
                "are read while no ovs-vswitchd serves",
                "Look at them with 'ip route' and 'ip neighbour', in the namespaces of tenants first (ip netns exec)",
            )
        return ready

    def learn_names(self) -> None:
        """Remember what ovs-vswitchd calls its internal ports; again right before it ends, for those that come and go until then.

        Of a port that is replaced between both looks the kernel's name counts.
        """
        with Netlink(GENERIC) as socket:
            ports = Kernel(socket).ports()
        self._remember_names(ports, names_of(self._services.control(VSWITCHD).call("dpif/show")))

    def _remember_names(self, ports: t.Iterable[Vport], names: t.Mapping[int, str]) -> None:
        """Beside what is known: a process that has just started has not opened all of its ports."""
        known = dict(self._names())
        known.update(
            {
                (port.number, port.index, port.netns): names[port.number]
                for port in ports
                if port.number in names
            }
        )
        self._scope.transaction.write(_NAMES, [[*key, name] for key, name in known.items()])

    def _judge_bypass(self) -> None:
        """Translate what is live now, and say how much that covers; raises ``HotUpgradeError`` when more is required."""
        if self._request.bypass == NO:
            return
        lacking = bypass.try_out()
        if lacking and self._request.bypass == REQUIRE:
            raise HotUpgradeError(
                "the kernel does not take all that the bypass needs",
                "; ".join(lacking),
                "Use bypass=auto if established flows may wait for the length of the reload",
            )
        with Netlink(GENERIC) as socket, Netlink(ROUTE) as route:
            kernel = Kernel(socket)
            earlier = kernel.megaflows()
            self._outside.clock.sleep(_COUNTED)
            ports, recent = kernel.ports(), bypass.recent(earlier, kernel.megaflows())
            ends = traces_end(self._services.control(VSWITCHD).call("version"))
            self._beside = neighbours.megaflows(self._trace, ports, recent, ends)
            coverage = bypass.prepare(route, ports, recent, self._beside, self._known).coverage
        self._scope.transaction.note(
            bypass="; ".join((coverage.text, *(f"not taken: {text}" for text in lacking)))
        )
        if self._request.bypass == REQUIRE and coverage.covered < coverage.megaflows:
            raise HotUpgradeError(
                "the bypass does not cover all that is forwarded",
                coverage.text,
                "Use bypass=auto if the rest may wait for the length of the reload",
            )

    def _trace(self, packet: str) -> str:
        return self._services.control(VSWITCHD).call("ofproto/trace", OURS, packet)

    # In the window

    def replace(self) -> None:
        """Replace the module; ovs-vswitchd does not run.  Raises ``HotUpgradeError`` when the old one was loaded again."""
        with Netlink(GENERIC) as socket, Netlink(ROUTE) as route:
            ready = self._before = self._look(Kernel(socket))
            try:
                self._open(ready)
                detour = self._detour(route, ready, self._request.bypass == REQUIRE)
                try:
                    upcalls = self._ask_stand_in(ready.ports)
                    kernel = Kernel(socket)
                    self._run(kernel, self._gap(kernel, ready, detour, upcalls))
                finally:
                    self._remove(route, detour)
            finally:
                ready.captured.close()

    def _gap(
        self,
        kernel: Kernel,
        ready: gap.Ready,
        detour: bypass.Bypass | None = None,
        upcalls: int = NOBODY,
        way_back: bool = False,
    ) -> gap.Gap:
        return gap.Gap(
            kernel,
            loading.System(),
            ready,
            bypass=detour,
            upcalls=upcalls,
            way_back=way_back or self._scope.request.back_of is not None,
            observe=lambda moment: self._scope.transaction.observe("after", f"{MODULE}: {moment}"),
        )

    def _ask_stand_in(self, ports: t.Iterable[Vport]) -> int:
        """Where the datapath is to send what it does not know."""
        if self.stand_in is None:
            return NOBODY
        self.stand_in.keep({port.number: port.name for port in ports})
        self._misses = Misses(self.stand_in.answer)
        self._misses.start()
        return self._misses.address

    def take_over(self, failed: Reloader) -> None:
        """Let who answers for new flows go on: a step has failed, and the old ovs-vswitchd comes back."""
        self._misses = failed._misses

    def do_without(self, why: str) -> None:
        """The stand-in would say what is not so any more; that is told when there is time."""
        self.stand_in, self._without = None, f"they wait for the new ovs-vswitchd: {why}"

    def ask_nobody(self) -> None:
        """The new ovs-vswitchd answers itself."""
        found, self.stand_in, self._misses = self._misses, None, None
        text = self._without
        if found is not None:
            found.stop()
            text = (
                f"{found.forwarded} packets were forwarded meanwhile, {found.dropped} were dropped as the flows say, "
                f"{found.left} had to wait"
            )
        if text:
            attempt(lambda: self._scope.transaction.note(new_flows=text))

    def _run(self, kernel: Kernel, prepared: gap.Gap) -> None:
        try:
            self._cross(prepared, "new", "old")
            self._keep_names(kernel, prepared.ready)
        finally:
            self._report.marks.update({f"{MODULE}: {name}": at for name, at in prepared.marks.items()})
            self._report.missed(prepared.refused)

    def _keep_names(self, kernel: Kernel, ready: gap.Ready) -> None:
        """Those of ports that have just been made again, which Linux before 6.1 has given another ifindex."""
        attempt(
            lambda: self._remember_names(
                kernel.ports(), {port.number: port.name for port in ready.ports if port.kind == INTERNAL}
            )
        )

    def _open(self, ready: gap.Ready) -> None:
        self._scope.transaction.write(_READY, gap.as_json(ready))
        self._scope.transaction.write(_NEW, {})
        self._scope.transaction.write(_OPEN, {})

    def _cross(self, prepared: gap.Gap, new: str, old: str) -> None:
        """From one module to the other one; raises ``HotUpgradeError`` as ``Gap.run`` does."""
        try:
            prepared.run(self._image(new).content, self._image(old).content)
        finally:
            if gap.MOMENTS[-1] in prepared.marks:
                is_old = prepared.loaded == self._image("old").content
                self._scope.transaction.prune(_OPEN, *([_NEW] if is_old else []))

    def _detour(self, route: Netlink, ready: gap.Ready, required: bool) -> bypass.Bypass | None:
        """The bypass, in place; None where none is wanted or, unless it is ``required``, possible."""
        if self._request.bypass == NO:
            return None
        try:
            found, refused = self._installed(route, ready, _OTHERS)
        except HotUpgradeError as error:
            if required:
                raise
            self._report.missed([f"no bypass: {error}"])
            return None
        if found.left_out:
            names = ", ".join(found.left_out)
            self._report.missed([f"no bypass of {names}, which have an ingress qdisc of somebody else"])
        if refused and required:
            self._remove(route, found)
            raise HotUpgradeError(
                f"the kernel does not take {len(refused)} filters of the bypass",
                str(refused[0]),
                "Use bypass=auto if the rest may wait for the length of the reload",
            )
        if refused:
            self._report.missed([f"{len(refused)} filters of the bypass, the first: {refused[0]}"])
        return found

    def _installed(
        self, route: Netlink, ready: gap.Ready, tries: int
    ) -> tuple[bypass.Bypass, t.Sequence[Refusal]]:
        """A bypass, and the filters that were refused; a port that somebody has just taken is left out."""
        found = bypass.prepare(
            route, ready.ports, ready.megaflows, self._beside, self._known, ready.captured.vlans
        )
        attempt(lambda: self._scope.transaction.write(_BEGUN, list(found.openings)))
        try:
            return found, found.install(route)
        except bypass.Taken:
            if not tries:
                raise
            return self._installed(route, ready, tries - 1)

    def _remove(self, route: Netlink, detour: bypass.Bypass | None) -> None:
        if detour is not None:
            detour.remove(route)
            self._scope.transaction.prune(_BEGUN)

    # Behind it

    def settle(self) -> None:
        """ovs-vswitchd has opened its ports: give those in other namespaces their names, and see what is not back."""
        with self._left() as ready, Netlink(GENERIC) as socket:
            if ready is None:
                return
            self._report.missed(preserve.rename(ready.captured))
            # All is back, but for what nobody can read.
            failed = attempt(lambda: self._compare_with_now(self._before or ready, Kernel(socket)))
            self._report.missed(
                f"what is back cannot be compared with what there was: {each}" for each in failed
            )

    def _compare_with_now(self, before: gap.Ready, kernel: Kernel) -> None:
        after = gap.look(kernel, self._names(), ())
        try:
            self._compare(before, after)
        finally:
            after.captured.close()

    def _compare(self, before: gap.Ready, after: gap.Ready) -> None:
        """Name what is not back, but for what belonged to ports that somebody has deleted meanwhile."""
        with self._database.open() as database:
            present = {row["name"] for row in database.select("Interface", ("name",))}
        deleted = comparison.absent(before.captured, before.ports, present)
        found = comparison.missing(before.captured, after.captured, deleted)
        lost = list(dict.fromkeys(thing.text for thing, __ in found))
        others = sum(1 for __, ours in found if not ours)
        self._scope.transaction.note(
            restored={"of": comparison.at_risk(before.captured) + others, "missing": lost}
        )
        self._report.missed(f"after the reload there is not: {text}" for text in lost)

    def bring_back(self) -> None:
        """Have the old module be loaded, and everything on it, whatever was done and wherever it was left."""
        if self.complete() and self._new_is_loaded:
            self._database.ensure()  # now, while established flows go through the datapath
            attempt(self.learn_names)  # it may not run
            attempt(self._translate)
            self.ask_nobody()
            self._end_vswitchd()
            self._swap_back()

    def complete(self) -> bool:
        """Have everything be on the module that is loaded, the old one where none is or it does not work.

        Returns whether the datapath was ever touched.
        """
        try:
            with self._left() as ready:
                if ready is None:
                    return False
                self._complete(ready)
                self._report.missed(preserve.rename(ready.captured))
                return True
        finally:  # up to here it keeps what nobody takes from the host's own stack
            with Netlink(ROUTE) as route:
                bypass.remove_left_over(route, self._scope.transaction.read(_BEGUN) or ())
            self._scope.transaction.prune(_BEGUN)

    def _complete(self, ready: gap.Ready) -> None:
        if self._scope.transaction.read(_OPEN) is None:
            return
        is_new = self._new_is_loaded
        if is_new:
            self._end_vswitchd()
        with Netlink(GENERIC) as socket:
            kernel = Kernel(socket)
            left = self._gap(kernel, ready)
            try:
                if is_new:
                    self._finish_on_new(left)
                else:
                    left.finish(self._image("old").content)
            finally:
                self._report.missed(left.refused)
            self._keep_names(kernel, ready)
        self._scope.transaction.prune(_OPEN)

    def _finish_on_new(self, left: gap.Gap) -> None:
        """Where that fails, on the old one: whoever starts an ovs-vswitchd on less gets its ports without what was on them."""
        if attempt(lambda: left.finish(self._image("new").content, whole=not left.way_back)):
            left.go_back(self._image("old").content)
            self._scope.transaction.prune(_NEW)

    def leave_gap(self, to: Transaction) -> None:
        """Have ``to``, whose modules these are, too, bring back what this one could not."""
        # Where the disk has room for the first one only, ``to`` has what was there before the first reload.
        for name in (_OPEN, _READY, _BEGUN):
            found = self._scope.transaction.read(name)
            if found is not None:
                to.write(name, found)

    def require_old(self) -> None:
        """Raise ``HotUpgradeError`` where the kernel tells that it still has the new module."""
        if self._told_new():
            raise HotUpgradeError(
                f"the new module {_NAME} is still loaded",
                "it could not be replaced by the one of before",
                f"Look at dmesg and the holders of the module (lsmod). {ENGINE_LOG}",
            )

    def _translate(self) -> None:
        """Have the filters for what is live ready before ovs-vswitchd ends."""
        if self._request.bypass != NO:
            with Netlink(GENERIC) as socket, Netlink(ROUTE) as route:
                kernel = Kernel(socket)
                bypass.prepare(route, kernel.ports(), kernel.megaflows(), self._beside, self._known)

    def _swap_back(self) -> None:
        """A second gap, in which the host's own stack gets no more than in the first one."""
        with Netlink(GENERIC) as socket, Netlink(ROUTE) as route:
            kernel = Kernel(socket)
            lost: dict[int, str] = {}
            ready = gap.look(kernel, self._names(), self._vports(), lost=lost)
            self._report.missed(lost.values())
            try:
                attempt(lambda: self._open(ready))  # a full disk keeps nobody from going back
                detour = self._detour(route, ready, required=False)
                prepared = self._gap(kernel, ready, detour, way_back=True)
                try:
                    self._cross(prepared, "old", "new")
                finally:
                    self._report.missed(prepared.refused)
                    self._remove(route, detour)
                self._report.missed(preserve.rename(ready.captured))
            finally:
                ready.captured.close()

    def _end_vswitchd(self) -> None:
        """Under the flag: who comes next waits for its flows. Nobody starts another one before the module is back.

        Without a database nobody comes next, and whoever died in the gap waits for none: it takes seconds to start.
        """
        self._services.hold()
        attempt(self._database.raise_flag)
        with contextlib.suppress(Unreachable):
            running = self._services.process(VSWITCHD)
            monitor = monitor_of(running)
            if monitor is not None:  # it would start another one
                kill(monitor)
            kill_daemon(VSWITCHD, running, self._scope.request.rundir)

    @property
    def _new_is_loaded(self) -> bool:
        told = self._told_new()
        if told is not None:
            return told
        loaded = kernel_modules.modules(runner=self._outside.run)[0].loaded
        return loaded and self._scope.transaction.read(_NEW) is not None

    def _told_new(self) -> bool | None:
        """Whether the kernel has the new module and not the old one; None where nothing tells them apart."""
        loaded = kernel_modules.modules(runner=self._outside.run)[0]
        new, old = self._image("new"), self._image("old")
        told = (
            (loaded.build_id, new.build_id, old.build_id),
            (loaded.srcversion, new.info.get("srcversion"), old.info.get("srcversion")),
        )
        for mine, of_new, of_old in told:
            if mine is not None and of_new != of_old:
                return mine == of_new
        return None

    @contextlib.contextmanager
    def _left(self) -> t.Iterator[gap.Ready | None]:
        record = self._scope.transaction.read(_READY)
        ready = gap.from_json(record) if record else None
        try:
            yield ready
        finally:
            if ready is not None:
                ready.captured.close()

    @property
    def _request(self) -> Reload:
        found = self._scope.request.reload
        if found is None:
            raise HotUpgradeError(
                "no module is to be reloaded", "the request of this transaction names none", ENGINE_LOG
            )
        return found

    def _image(self, name: str) -> module_image.Image:
        if name not in self._images:
            self._images[name] = module_image.read(self._file(name))
        return self._images[name]

    def _file(self, name: str) -> str:
        return self._scope.transaction.file(f"{name}.ko")

    def _names(self) -> gap.Names:
        record = self._scope.transaction.read(_NAMES) or []
        return {(number, index, netns): name for number, index, netns, name in record}

    def _vports(self) -> list[str]:
        folder = f"/sys/module/{_NAME}/holders"
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def names_of(shown: str) -> dict[int, str]:
    """What ``dpif/show`` calls the internal ports of the kernel's datapath, by their number in it.

    Whoever has moved one to another namespace may have renamed it there, and the kernel tells that name.
    """
    return {number: port.name for number, port in shown_ports(shown).items() if port.kind == "internal"}
