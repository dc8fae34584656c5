# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The new ovs-vswitchd beside the old one, filled and proved, then the switch-over.

Also the way of ``prefilled``: the protocols that the new process would speak are silenced in its copy of the database, and
on the kernel datapath, too, the old process ends before the new one takes upcalls.

With ``flow-restore-wait`` in its private database the new one takes no upcalls, however long the old one forwards
beside it.  On the kernel datapath, which both share, it neither flushes nor expires datapath flows either, and the
switch-over costs no packet.  In userspace each has a datapath of its own: the new one drops the copies of packets that
it gets until the old one is stopped and the flag is cleared.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Unreachable,
    attempt,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    backlog,
    controllers,
    late_ports,
    newcomer,
    plan,
    protocols,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import AGAIN, UNPRIMED
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import wait_until_applied
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import POLL
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Changed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import (
    all_attended,
    attended,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import in_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.protocols import Unprimed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.quiet import (
    PAUSE,
    RESUME,
    resume,
    stopped,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.shared import (
    arm,
    database_after,
    database_before,
    prepare,
    verify,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    Difference,
    Ignore,
    compare,
    renumbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.refusal import Log, Refusal
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import (
    amend,
    renew_timeouts,
    restore,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import (
    Settings,
    State,
    Switch,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import (
    bonds,
    database_content,
    upcall_dispatch,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    takes_upcalls,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import (
    VSWITCHD_LOG,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection, Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import traffic
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import (
    KERNEL,
    USERSPACE,
    Wish,
    prove,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import links, packet_queues
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

PROTOCOLS, CONNECTIONS = "run the protocols in silence", "carry the tracked connections"
SPREAD = "spread the load of bonds as before"
QUEUES = "let packets wait for the new process"
RENEW = "renew the timeouts"
CUT_OVER, RECONNECT = "cut over", "reconnect to the database"
# What happens in a switch-over on the kernel datapath, in this order, for whoever observes it; the last three with controllers.
SPEAKS, ANSWERS = "the new process speaks", "the new process answers"
OLD_ANSWERS, FILLED, FOR_GOOD = (
    "the old process answers again",
    "filled again",
    "the new process answers for good",
)
MOMENTS = (SPEAKS, ANSWERS, OLD_ANSWERS, FILLED, FOR_GOOD)
# Ports are looked at by themselves: some come when the old process has ended, see ``_switch_over_alone``.
PORTS_APART = Ignore(ports=True, devices=True)
# The tap device of the userspace datapath itself (dpif-netdev.c, create_dp_netdev).
OWN_DEVICE = "ovs-netdev"
# How a second process is refused the tap devices of the first.
BUSY = "Device or resource busy"

# The switch-over takes milliseconds; these are for a host that is overloaded, in seconds.
HANDLERS_TIMEOUT = 5.0
DRAIN_TIMEOUT = 0.2
# A million tracked connections take some seconds to tell.
DUMP_TIMEOUT = 60.0
# The file of the transaction that is there while the new process may have empty tables, and does nothing about megaflows.
_EMPTY = "empty.json"
# Have the kernel have no megaflow (dpctl(8)), and then the process know none: one that it knows it does not give again.
_FORGET = (("dpctl/del-flows", "system@ovs-system"), ("revalidator/purge",))
# A look that costs what a pause would.
AT_ONCE = 0.0

# What the copy does not have on purpose, and what daemons write.
UNCOMPARED_TABLES = frozenset(
    {"Controller", "Manager", "sFlow", "NetFlow", "IPFIX", "Flow_Sample_Collector_Set", "Datapath"}
)
UNCOMPARED_COLUMNS = database_content.REPORTED | {
    *("controller", "manager_options", "sflow", "netflow", "ipfix", "lldp"),
    *("lacp", "bfd", "cfm_mpid", "bond_updelay", "stp_enable", "rstp_enable"),
    # Internal ports of a userspace datapath are not there yet; what they request is set in the copy.
    *("datapaths", "ofport_request"),
}


def steps(request: Request) -> list[Step[Host]]:
    """The steps of the strategy ``make_before_break`` for a transaction's request."""
    found = [
        Step("make the private run directory", _make_place, _remove_place),
        Step("copy the database", newcomer.copy_database),
        Step("start the new ovs-vswitchd beside the old one", _start),
        Step("load the OpenFlow state", _load),
    ]
    if request.prove:
        found.append(Step("prove that it forwards alike", _prove))
    alone = request.userspace
    return [
        *prepare(request),
        *database_before(request, free_try=alone),
        *all_attended(found),
        arm(),
        *all_attended(
            [
                Step("move the new process to the service", _own),
                Step("catch up with late changes", _catch_up),
                *([Step(PROTOCOLS, _run_protocols)] if request.protocols else []),
                *([Step(SPREAD, _spread_load)] if request.bonds else []),
                *([Step(CONNECTIONS, _carry_connections)] if request.userspace else []),
                Step(RENEW, _renew),
                *([Step(QUEUES, backlog.lengthen_new)] if request.userspace else []),
            ]
        ),
        Step(CUT_OVER, _cut_over, _back, window=True),
        Step("adopt", _adopt, window=True),
        # In userspace nobody forwards without a database, so it is restarted while the new process has its own.
        *(database_after(request, free_try=True) if alone else []),
        Step(RECONNECT, attended(_reconnect, (VSWITCHD,)), window=True),
        *([] if alone else database_after(request)),
        verify(),
    ]


def _make_place(host: Host) -> None:
    newcomer.make_directory(host)
    if host.request.userspace:
        links.rename(OWN_DEVICE, _aside(host))


def _remove_place(host: Host) -> None:
    """The second process is killed here, and its device would stay: Open vSwitch makes tap devices persistent."""
    _require_database(host)
    newcomer.remove(host)
    if host.request.userspace and links.exists(_aside(host)):
        if host.vswitchd.old_runs():
            links.delete(OWN_DEVICE)
            links.rename(_aside(host), OWN_DEVICE)
        else:
            links.delete(_aside(host))


def _require_database(host: Host) -> None:
    """A second process that forwards with a database of its own is not ended where the real one cannot come back."""
    if host.database.apart():
        host.database.ensure()


def _aside(host: Host) -> str:
    """The name of the old process's own device meanwhile: the second process makes one of the usual name."""
    return f"ovs-old-{host.transaction.id[-6:]}"


def _start(host: Host) -> None:
    host.filler.metering.order()
    host.filler.metering.share()
    if plan.loses_meters(host.request.coming):
        host.vswitchd.clear_the_way()
    newcomer.start(host, newcomer.lasting_database(host), host.request.supervisors[VSWITCHD]["program"])
    newcomer.connect(host)


def _load(host: Host) -> None:
    host.filler.metering.add(host.filler.switches)
    host.report.missed(host.filler.metering.tell_of_old())
    with host.filler.explaining() as refused:
        found = side_by_side(functools.partial(_load_bridge, host), host.living.base, host.living.flows)
        refused += [refusal for refusal in found if refusal is not None]
    if not host.request.protocols:  # without them a member of a bond may take nothing: see ``_run_protocols``
        _carry_learned(host)


def _carry_learned(host: Host) -> None:
    host.filler.remember_learned()
    host.filler.carry_learned(Connection(host.scope.private, newcomer.database(host), host.request.timeout))


def _load_bridge(host: Host, name: str) -> Refusal | None:
    """What the new process refuses, instead of raising it: all that is refused is told at once."""
    try:
        restore(host.filler.switches[name], host.living.now(name, host.living.base[name]), torn=True)
    except Refusal as refusal:
        return refusal
    return None


def _fill(host: Host, name: str) -> State:
    """Have the new process hold what the old one held a moment ago; that is compared, and returned."""
    new, state = host.filler.switches[name], host.living.now(name, host.living.base[name])
    _require_same_numbers(name, state.settings, new.settings())
    difference = _compare(state, new)
    if not difference.same:
        if difference.flows_alone:
            amend(new, difference)
        else:
            restore(new, state, torn=True)
        difference = _compare(state, new)
    if not difference.same:
        raise HotUpgradeError(
            f"bridge {name} of the new {VSWITCHD} does not hold what the old one holds",
            in_words(difference),
            VSWITCHD_LOG,
        )
    return state


def _require_same_numbers(name: str, old: Settings, new: Settings) -> None:
    moved = renumbered(old, new)
    if moved:
        raise HotUpgradeError(
            f"the flows of bridge {name} would mean other ports in the new {VSWITCHD}",
            "; ".join(moved),
            "Set ofport_request of these interfaces to the numbers that they have",
        )


def _prove(host: Host) -> None:
    # A connection below OpenFlow 1.3 makes Open vSwitch send table misses to it (connmgr_wants_packet_in_on_miss):
    # ours to the new process alone would be a difference.
    host.filler.disconnect()
    old, new = host.services.control(VSWITCHD, 60.0), newcomer.control(host)
    datapath = USERSPACE if host.request.userspace else KERNEL
    with host.database.open() as database:
        members = traffic.members(database.bridges())
    wish = Wish(host.request.prove, tuple(host.request.accept), members)
    log = Log(host.request.vswitchd.argv)
    proof = prove(old.call, traffic.of_new(new), datapath, wish)
    host.transaction.note(proof=proof.report())
    proof.require(log.complaints())
    newcomer.connect(host)


def _catch_up(host: Host) -> None:
    """Carry over what has changed in OpenFlow since the load; a changed database means a stale copy.

    Bridges with controllers lose their flows soon after the cut-over: theirs wait in the switch from here on.
    """
    _require_no_drift(host)  # before what it would mean for the bridges
    host.snapshot.renew()
    with host.filler.explaining():
        side_by_side(functools.partial(_fill, host), host.scope.bridges, host.living.flows)
    _require_no_drift(host)
    host.living.watch(host.filler.switches)
    if host.request.userspace:
        with newcomer.open_database(host) as copy:
            host.late.park(copy)
            _apply(host, copy)
        host.late.note_absent(host.filler.switches, host.living.base)
    host.filler.stage_controlled()
    host.report.missed(host.filler.metering.tell_of_old())


def _run_protocols(host: Host) -> None:
    """Have the new process know its neighbours by their protocols; behind ``_fill``, which would have it speak."""
    old, new = host.services.control(VSWITCHD), newcomer.control(host)
    with host.database.open() as real, newcomer.open_database(host) as copy:
        before = _content(real)
        host.protocols.begin(real, copy, host.filler.switches, old, functools.partial(_apply, host, copy))
    try:
        host.protocols.settle(old, new)
    except Unprimed as error:
        _require_unchanged(host, before)  # then that is the reason
        host.transaction.note(**{UNPRIMED: error.why, AGAIN: True})
        raise
    _require_unchanged(host, before)
    _carry_learned(host)  # changes of a tree make a bridge forget where everybody is


def _spread_load(host: Host) -> None:
    """Bonds send what they sent by the same members, or switches at the other end would see MAC addresses move."""
    old, new = host.services.control(VSWITCHD), newcomer.control(host)
    shown = (bonds.parse(control.call("bond/show")) for control in (old, new))
    for command in bonds.assignments(*shown):
        host.report.missed(attempt(functools.partial(new.call, *command)))


def _carry_connections(host: Host) -> None:
    """The kernel's connections are not those of a process; in userspace any bridge leads to them."""
    switch = next(iter(host.filler.switches.values()), None)
    if switch is None:
        return
    old, (channel,) = host.services.control(VSWITCHD, DUMP_TIMEOUT), switch.further(1)
    host.transaction.note(connections=host.connections.carry(old, newcomer.control(host), channel))


def _follow_connections(host: Host) -> None:
    try:
        host.connections.follow(host.services.control(VSWITCHD, DUMP_TIMEOUT))
    except (ProtocolError, Unreachable) as error:
        # Nothing more is told where the old process has died meanwhile.
        host.report.missed([f"connections that came to be tracked last: {error}"])


def _require_unchanged(host: Host, before: database_content.Content) -> None:
    """What takes long gives others the time to change the database."""
    with host.database.open() as real:
        changed = database_content.compare(before, _content(real))
    if changed:
        _require_copy_of_now(host, sorted({difference.place for difference in changed}))


def _renew(host: Host) -> None:
    """Have the clocks of all flows begin anew, and those be there again that have expired only here: nothing matches them yet."""
    if host.protocols.trees:
        try:
            host.protocols.trees.require(host.services.control(VSWITCHD), newcomer.control(host))
        except TimedOut:
            host.transaction.note(**{AGAIN: True})
            raise
    states = host.living.base
    side_by_side(
        lambda name: renew_timeouts(host.filler.switches[name], host.living.now(name, states[name])),
        host.scope.bridges,
        host.living.flows,
    )


def _speak(host: Host, control: Appctl) -> None:
    """Where the old process has died meanwhile, the new one knows best what was told last."""
    if not host.request.protocols:
        return
    try:
        host.protocols.speak(host.services.control(VSWITCHD), control)
    except Unreachable:
        host.protocols.speak(control, control)


def _require_no_drift(host: Host) -> None:
    with host.database.open() as real, newcomer.open_database(host) as copy:
        changed = drift(real, copy)
        closed = unopened(
            real, copy, late_ports.TAP_TYPES if host.request.userspace else (), host.request.lost_ports
        )
    if changed:
        _require_copy_of_now(host, changed)
    if closed:
        raise HotUpgradeError(
            f"the new {VSWITCHD} lacks {len(closed)} ports that the old one has",
            "; ".join(closed[:5]),
            VSWITCHD_LOG,
        )


def _require_copy_of_now(host: Host, changed: t.Sequence[str]) -> None:
    host.transaction.note(**{AGAIN: True})
    raise HotUpgradeError(
        "the database was changed while the hand-over was prepared",
        f"it differs from the copy in {', '.join(changed)}",
        "Start again when nobody changes the configuration",
    )


def _compare(saved: State, new: Switch) -> Difference:
    partial = saved.changes.partial_groups if isinstance(saved, Changed) else ()
    return compare(saved, new.state(), PORTS_APART).without_groups(partial)


def _own(host: Host) -> None:
    host.services.adopt(newcomer.process(host))


def _cut_over(host: Host) -> None:
    host.vswitchd.require_no_other()
    new = newcomer.running(host)
    with newcomer.open_database(host) as copy:
        if host.request.userspace:
            _switch_over_alone(host, new, copy)
        elif host.request.strategy == plan.PREFILLED:
            _switch_over_in_turn(host, new, copy)
        else:
            _switch_over_shared(host, new, copy)
    host.protocols.trees.leave()


def _switch_over_shared(host: Host, new: newcomer.Running, copy: Ovsdb) -> None:
    """The kernel forwards throughout; the old process ends when it has taken the upcalls that were queued for it."""
    sockets, version = sockets_of(host.request.vswitchd.process.pid), newcomer.version(host)
    known = host.vswitchd.remember_dispatch()
    _speak(host, new.control)
    _reached(host, SPEAKS)
    host.report.mark("released")
    copy.set_flow_restore_wait(False)
    _wait_for_handlers(host, new)
    host.vswitchd.fit_dispatch(version)
    host.protocols.greet()
    host.report.mark("forwarding")
    _reached(host, ANSWERS)
    if host.filler.staged and known and plan.pauses(version) and not host.protocols.impatient:
        _meet_flush_unseen(host, new)
    _wait_for_drained(host, sockets)
    host.report.mark("drained")
    host.vswitchd.end_old(lambda: _end_first(host))
    host.report.mark("stopped")
    host.living.carry(host.filler.switches, host.filler.staged)
    host.filler.metering.tell_of_new(host.filler.switches)


def _switch_over_in_turn(host: Host, new: newcomer.Running, copy: Ovsdb) -> None:
    """Only one of the two takes upcalls; the kernel forwards flows that it knows."""
    version = newcomer.version(host)
    host.vswitchd.end_old(lambda: _end_first(host))
    host.report.mark("stopped")
    host.living.carry(host.filler.switches, host.filler.staged)
    copy.set_flow_restore_wait(False)
    _wait_for_handlers(host, new)
    host.vswitchd.fit_dispatch(version)
    host.report.mark("forwarding")
    host.filler.metering.tell_of_new(host.filler.switches)


def _switch_over_alone(host: Host, new: newcomer.Running, copy: Ovsdb) -> None:
    """Only one of the two may forward, or packets come twice; the old one is merely stopped until the new one does.

    Internal ports come last: their tap devices cannot be opened twice.
    """
    old = host.request.vswitchd.process
    host.vswitchd.quiet_old()
    _follow_connections(host)
    backlog.shorten_of(old)  # what comes while it is stopped nobody wants from it, should it go on
    _wait_for_read(host, old, new.process)
    _speak(host, new.control)
    with stopped(old):
        host.report.mark("stopped")
        copy.set_flow_restore_wait(False)
        _wait_for_handlers(host, new)
        host.report.mark("forwarding")
        host.protocols.greet()
        _end_first(host)
    host.report.mark("ended")
    host.living.last_words()
    host.living.carry(host.filler.switches, host.filler.staged)
    host.report.mark("carried")
    host.late.put_back(copy, functools.partial(_apply, host, copy))
    host.late.configure(host.filler.switches, host.living.base)
    if host.request.strategy == plan.PREFILLED:  # their neighbours wait for them
        with host.database.open() as real:
            protocols.configure(real, copy)
    host.report.mark("complete")


def _end_first(host: Host) -> None:
    """It would take its pidfile with it; until it is about to end, whoever undoes all this has to find it there."""
    newcomer.take_pidfile(host)
    newcomer.end_first(host)


def _apply(host: Host, database: Ovsdb) -> None:
    """Return when the new process has done what ``database`` says."""
    waiter = Waiter(host.scope.take_over_timeout, POLL, host.outside.clock, strict=True)
    wait_until_applied(database, waiter)


def _wait_for_handlers(host: Host, new: newcomer.Running) -> None:
    Waiter(HANDLERS_TIMEOUT, AT_ONCE, host.outside.clock, strict=True).wait(
        f"the new {VSWITCHD} takes upcalls",
        lambda: takes_upcalls(*new),
        bool,
        lambda _taken: "it does not",
        VSWITCHD_LOG,
    )


def _wait_for_drained(host: Host, sockets: frozenset[str]) -> None:
    """A host under load never has empty queues for long: that is no reason to wait for more than a moment."""
    with contextlib.suppress(TimedOut):
        Waiter(DRAIN_TIMEOUT, AT_ONCE, host.outside.clock).wait(
            "the queues are empty", lambda: queued(sockets), operator.not_
        )


def _wait_for_read(host: Host, *processes: Process) -> None:
    """What waits for the old process would be lost, and what waits for the new one come twice; else as ``_wait_for_drained``."""
    known = [(each, sockets_of(each.pid)) for each in processes]
    with contextlib.suppress(TimedOut):
        Waiter(DRAIN_TIMEOUT, AT_ONCE, host.outside.clock).wait(
            "no packet waits", lambda: any(itertools.starmap(packet_queues.waits, known)), operator.not_
        )


def _adopt(host: Host) -> None:
    """Give the new process the place of the old one, when nobody can find an empty bridge any more."""
    if host.filler.staged:
        attended(_meet_flush)(host)
    newcomer.move_in(host)
    host.report.mark("adopted")


def _reached(host: Host, moment: str) -> None:
    host.transaction.observe("after", f"{CUT_OVER}: {moment}")


def _meet_flush_unseen(host: Host, new: newcomer.Running) -> None:
    """``_meet_flush`` while the old process answers the upcalls: it has all flows at any time.

    Megaflows of one process may lead to recirculations that the other does not know, so none of them stay.
    """
    dispatch = upcall_dispatch.read()
    if dispatch is None or not host.vswitchd.can_take_upcalls_back():
        return
    old = host.services.control(VSWITCHD)
    host.transaction.write(_EMPTY, {})
    host.vswitchd.take_upcalls_back()
    _wait_for_drained(host, sockets_of(new.process.pid))
    _forget(old)
    _reached(host, OLD_ANSWERS)
    new.control.call(PAUSE)
    _meet_flush(host)
    _reached(host, FILLED)
    new.control.call(RESUME)  # not behind an error: with empty tables it would delete what forwards
    upcall_dispatch.direct(dispatch)
    host.transaction.prune(_EMPTY)
    _reached(host, FOR_GOOD)
    _wait_for_drained(host, sockets_of(host.request.vswitchd.process.pid))
    _forget(new.control)
    host.report.mark(FILLED)


def _forget(control: Appctl) -> None:
    for command in _FORGET:
        control.call(*command)


def _meet_flush(host: Host) -> None:
    """Have the flush of bridges with controllers come and be made good while nobody but us can speak to them."""
    host.filler.stage_controlled()  # again, if the switch has dropped it meanwhile
    with host.database.open() as real, newcomer.open_database(host) as copy:
        host.filler.commit_behind_flush(copy, lambda: controllers.stand_in(real, copy, host.scope.controlled))


def _reconnect(host: Host) -> None:
    """Wait until the new process has the real database; controllers come back now, in the place of their stand-ins."""
    newcomer.end_database(host)
    with host.database.open() as real:
        _apply(host, real)
    _tidy(host)


def _tidy(host: Host) -> None:
    newcomer.tidy(host)
    if host.request.userspace:
        for name in (_aside(host), *map(links.device, host.request.lost_ports)):
            links.delete(name)


def finish(host: Host) -> bool:
    """Complete a switch-over that was begun; False when the old one forwards, or could, or the new one cannot.

    Raises ``HotUpgradeError`` when the new process has ended.
    """
    forwards = not _takes_upcalls(host) and alive(host.request.vswitchd.process)
    if forwards or host.vswitchd.can_take_upcalls_back() or host.transaction.read(_EMPTY) is not None:
        return False
    host.vswitchd.fit_dispatch(newcomer.version(host))
    with contextlib.suppress(FileNotFoundError):
        newcomer.take_pidfile(host)
    newcomer.end_first(host)
    host.database.ensure()  # before it is sent there: in userspace it forwards nothing without a database
    newcomer.move_in(host)
    newcomer.end_database(host)
    _tidy(host)
    host.database.wait_for_vswitchd()  # without its database it answers nobody
    attempt(
        lambda: host.filler.metering.tell_of_new(
            {name: host.filler.switch(name) for name in host.scope.bridges}
        )
    )
    if host.request.protocols:  # it forwards in any case
        attempt(lambda: _speak_again(host))
    return True


def _speak_again(host: Host) -> None:
    """Whoever was to have it speak may have been ended before."""
    saved = host.snapshot.read()
    states = {name: host.snapshot.now(saved, name) for name in host.scope.bridges}
    switches = {name: host.filler.switch(name) for name in host.scope.bridges}
    with host.database.open() as real:
        host.protocols.take_up(real, switches, states)
    host.protocols.greet_as(host.services.control(VSWITCHD))


def _takes_upcalls(host: Host) -> bool:
    return os.path.islink(host.scope.private) or takes_upcalls(*newcomer.find(host))


def _back(host: Host) -> None:
    """Undo the switch-over, wherever it was left.

    The old process goes on where it still runs: in userspace, and where it can have the kernel's upcalls back.  Else its program
    starts anew.
    """
    resume(host.request.vswitchd.process)
    if _untouched(host):
        return
    if host.request.userspace:
        goes_on, forgotten = host.vswitchd.old_runs(), True
    else:
        goes_on = host.vswitchd.take_upcalls_back()
        # Without its database it answers nobody; who waited for that would keep the database from coming back.
        forgotten = not goes_on or (_database_runs(host) and not attempt(lambda: _forget_the_new(host)))
    _require_database(host)
    newcomer.remove(host)
    host.recovery.make_whole(anew=not goes_on)
    if not forgotten:
        attempt(lambda: _forget_the_new(host))


def _forget_the_new(host: Host) -> None:
    """What recirculates in the way of the new process leads nowhere in the old one."""
    _forget(host.services.control(VSWITCHD))


def _database_runs(host: Host) -> bool:
    try:
        return alive(host.services.process(OVSDB_SERVER))
    except Unreachable:
        return False


def _untouched(host: Host) -> bool:
    try:
        return host.vswitchd.old_runs() and not takes_upcalls(*newcomer.running(host))
    except Unreachable:
        return False


def drift(real: Ovsdb, copy: Ovsdb) -> list[str]:
    """Tables and columns in which the configuration of two databases differs; what daemons report is left out."""
    ours, theirs = _content(real), _content(copy)
    found = sorted({difference.place for difference in database_content.compare(ours, theirs)})
    before, now = (_numbers(database) for database in (real, copy))
    if any(before[uuid] != now[uuid] for uuid in before.keys() & now.keys()):
        found.append("Interface.ofport")
    return found


def _content(database: Ovsdb) -> database_content.Content:
    found = database_content.read(database, UNCOMPARED_TABLES, UNCOMPARED_COLUMNS)
    bridges = found.get("Bridge", {})
    return {**found, "Bridge": {uuid: _without_in_band(row) for uuid, row in bridges.items()}}


def _without_in_band(row: database_content.Row) -> database_content.Row:
    """The copy has it where the real one does not, see ``controllers.let_through``."""
    kind, pairs = row.get("other_config", ("map", ()))
    kept = tuple(pair for pair in pairs if pair[0] != controllers.DISABLE_IN_BAND)
    return {**row, "other_config": (kind, kept)}


def unopened(real: Ovsdb, copy: Ovsdb, late: t.Container[str] = (), lost: t.Container[str] = ()) -> list[str]:
    """One sentence for each interface that the process of ``real`` has as a port, and that of ``copy`` could not open.

    Left out are those of the types ``late`` that are merely busy, and those that are announced as ``lost``.
    """
    ours, theirs = (_numbers(database) for database in (real, copy))
    return [
        f"{row['name']}: {row['error'] or 'it is not there'}"
        for row in copy.select("Interface", ("_uuid", "name", "type", "error"))
        if row["_uuid"] in ours.keys() - theirs.keys()
        and row["name"] not in lost
        and not (row["type"] in late and BUSY in (row["error"] or BUSY))
    ]


def _numbers(database: Ovsdb) -> dict[str, int]:
    """The ofport of each interface that is a port, by its UUID."""
    rows = database.select("Interface", ("_uuid", "ofport"))
    return {row["_uuid"]: row["ofport"] for row in rows if (row["ofport"] or -1) > 0}


def sockets_of(pid: int) -> frozenset[str]:
    """The inodes of all sockets of the process; none if it has ended."""
    found = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return frozenset()
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return frozenset(found)


def queued(sockets: frozenset[str]) -> bool:
    """Whether a netlink socket among these inodes has something in its receive queue (/proc/net/netlink)."""
    with open("/proc/net/netlink", encoding="ascii") as file:
        next(file)
        for line in file:
            fields = line.split()
            if fields[4] != "0" and fields[-1] in sockets:
                return True
    return False
