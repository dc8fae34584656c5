# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which strategy replaces the daemons of this host: facts in, plan out, nothing touched.

Strategies are tried in the order of ``STRATEGIES``; for each that is not taken the plan holds every reason, so
that an operator sees at once what would have to change.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.versions import Version, version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.spoken import (
    Spoken,
    detection,
    runs_bfd,
    runs_lacp,
    unprimable,
    watched,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Interface
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import selection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.megaflows import ENOUGH, Survey
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.links import LONGEST_NAME, device

MAKE_BEFORE_BREAK = "make_before_break"
PREFILLED = "prefilled"
STANDBY = "standby"
RESTART = "restart"
STRATEGIES = (MAKE_BEFORE_BREAK, PREFILLED, STANDBY, RESTART)
AUTO = "auto"
# Not one of the four: the datapath itself goes away, so it is only taken where the module is to be another one.
RELOAD = "reload"

# A flow costs about this much memory in ovs-vswitchd, and a daemon without any this much (measured on 3.1 to 4.0).
BYTES_PER_FLOW = 1400
BYTES_PER_DAEMON = 64 << 20
TUNNEL_TYPES = frozenset(
    {"vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan", "stt", "lisp", "gtpu", "srv6", "bareudp"}
)

# The first version that has the kernel send upcalls per CPU and not per port.
PER_CPU_SINCE = (2, 16)

# Interfaces of a userspace datapath that a second process can open, or has when the first has ended (tap devices).
OPENED_TWICE = frozenset({"", "system", "internal", "tap", "patch"})

# Those that are Linux devices; and the first version that does not open one whose name Linux would cut off.
DEVICES = frozenset({"", "system", "internal", "tap"})
NAMES_CHECKED_SINCE = (4, 0)

# How long ovs-vswitchd takes to list a tracked connection, in ms (docs/interruption.md, "Userspace datapath").
_LISTED = 0.005
_ESTABLISHED = "established flows are forwarded all the time"
# What traffic sees of each strategy, on the kernel datapath and in userspace; docs/interruption.md has figures.
WINDOWS = {
    (MAKE_BEFORE_BREAK, False): "established and new flows are forwarded all the time",
    (
        MAKE_BEFORE_BREAK,
        True,
    ): "about a millisecond in which what arrives may be lost",
    (PREFILLED, False): f"{_ESTABLISHED}, packets of new ones may be lost for some milliseconds",
    (PREFILLED, True): "some milliseconds in which what arrives may be lost, whatever the number of flows",
    (
        STANDBY,
        False,
    ): f"{_ESTABLISHED}, new ones wait until the flows are taken, and some of their packets are lost",
    (STANDBY, True): "what arrives is lost until the ports are open and the flows are taken",
    (
        RESTART,
        False,
    ): f"{_ESTABLISHED}, new ones wait for a start and the flows, and some of their packets are lost",
    (RESTART, True): "what arrives is lost for a start and until the flows are taken",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the decision rests on; ``flows`` counts all bridges, memory is in bytes.

    ``schema_running`` and ``schema_on_disk`` are versions as ``8.3.0``; ``foreign_flag`` tells that
    flow-restore-wait is set by somebody else; ``confined`` is the AppArmor or SELinux label of ovs-vswitchd;
    ``down`` are the devices of interfaces, where Linux cuts off their names, that are down;
    ``tracked`` counts the connections that the userspace datapath tracks; ``socket_user`` owns the database's socket
    once a socket unit makes it, None where none does; ``start`` is what starting the services would do besides;
    ``groups`` are the select groups of all bridges; ``live`` is what a proof could cover, None where it was not looked at;
    ``instances`` are the running daemons by name, as another of their kind would be started;
    ``distrust`` tells what of this host root cannot rely on; ``dropped`` what the conversion of the database has no place for;
    ``ingress`` are the ports with an ingress qdisc of somebody else; ``spoken`` is what ovs-vswitchd shows of LACP, BFD and CFM;
    ``unprimed`` is why a new process was found unable to go on with them, empty where it was not tried; ``upcalls_told`` that the
    kernel tells where its upcalls go; ``homes`` are the containers that the daemons are to move between.
    """

    vswitchd: Daemon
    server: Daemon
    schema_running: str
    schema_on_disk: str
    bridges: tuple[Bridge, ...]
    other_config: t.Mapping[str, str]
    flows: int
    memory_available: int
    memory_vswitchd: int
    foreign_flag: bool
    confined: str | None
    down: frozenset[str]
    tracked: int
    socket_user: str | None
    start: Foresight = Foresight()
    groups: tuple[selection.Group, ...] = ()
    live: Survey | None = None
    instances: t.Mapping[str, Instance] = dataclasses.field(default_factory=dict)
    distrust: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    ingress: tuple[str, ...] = ()
    spoken: Spoken = Spoken()
    unprimed: str = ""
    upcalls_told: bool = False
    homes: Homes | None = None

    @property
    def userspace(self) -> bool:
        """Whether every bridge has the userspace datapath."""
        return bool(self.bridges) and all(bridge.datapath_type == "netdev" for bridge in self.bridges)

    def with_version(self, coming: str) -> Facts:
        """The same host once the programs of that version are on the disk; of its schema nothing is known."""
        daemons = (dataclasses.replace(each, disk_version=coming) for each in (self.vswitchd, self.server))
        return dataclasses.replace(self, vswitchd=next(daemons), server=next(daemons))

    @property
    def dpdk(self) -> bool:
        """Whether ovs-vswitchd has hugepages and devices to itself."""
        return self.other_config.get("dpdk-init", "false").lower() in ("true", "try")

    @property
    def old(self) -> str:
        """The version of the running ovs-vswitchd, ``0`` when it does not tell."""
        return self.vswitchd.running_version or "0"

    @property
    def new(self) -> str:
        """The version of the ovs-vswitchd on the disk, ``0`` when it does not tell."""
        return self.vswitchd.disk_version or "0"


@dataclasses.dataclass(frozen=True)
class Plan:
    """``strategy`` is None when nothing is to be done or nothing is possible; ``refused`` tells why for each.

    ``comparable`` tells that both processes are configured alike while they run beside each other, so that traces through them
    can be compared; ``protocols`` that the new one has to go on with those of the old one; ``proof`` is what the proof can
    cover, or why there is none; ``start`` is how the service of ovsdb-server starts it.
    """

    strategy: str | None
    comparable: bool
    protocols: bool
    proof: str
    needed: bool
    userspace: bool
    dpdk: bool
    restart_server: bool
    lost_ports: tuple[str, ...]
    refused: t.Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    start: Foresight
    before: t.Mapping[str, str]
    after: t.Mapping[str, str]

    @property
    def window(self) -> str:
        """What traffic is expected to see of the switch-over; empty where there is none."""
        return WINDOWS.get((self.strategy or "", self.userspace), "")

    @property
    def convert(self) -> bool:
        """Whether the schema of the database changes."""
        return self.before["schema"] != self.after["schema"]

    @property
    def dispatch(self) -> bool:
        """Whether old and new differ in how the kernel is to send upcalls."""
        daemons = (version(found["ovs-vswitchd"]) for found in (self.before, self.after))
        return not self.userspace and len({number < PER_CPU_SINCE for number in daemons}) > 1

    @property
    def downgrade(self) -> bool:
        """Whether the schema becomes an older one."""
        return version(self.after["schema"]) < version(self.before["schema"])


def sentences(plan: Plan) -> list[str]:
    """The plan for people, one sentence each."""
    old, new = (found["ovs-vswitchd"] for found in (plan.before, plan.after))
    if not plan.needed:
        return [f"nothing is to be done: {old} runs, and is what is on the disk"]
    reasons = [f"not by {name}: {'; '.join(texts)}" for name, texts in plan.refused.items()]
    if plan.strategy is None:
        return [f"ovs-vswitchd {old} cannot be replaced by {new}", *reasons]
    how = "downgraded" if version(new) < version(old) else "upgraded"
    schemas = (plan.before["schema"], plan.after["schema"])
    return [
        f"ovs-vswitchd is {how} from {old} to {new}, by {plan.strategy}",
        *([f"expected: {plan.window}"] if plan.window else []),
        *([f"the database is converted from schema {schemas[0]} to {schemas[1]}"] if plan.convert else []),
        *([f"proof: {plan.proof}"] if plan.proof else []),
        *(f"warning: {text}" for text in plan.warnings),
        *reasons,
    ]


def decide(facts: Facts, wanted: str = AUTO, force: bool = False) -> Plan:
    """The plan for ``wanted`` (a strategy or ``auto``); ``force`` replaces daemons that are up to date, too."""
    refused = {name: tuple(REASONS[name](facts)) for name in STRATEGIES}
    candidates = STRATEGIES if wanted == AUTO else (wanted,)
    needed = (
        force
        or facts.vswitchd.upgrade_pending
        or facts.server.upgrade_pending
        or facts.schema_running != facts.schema_on_disk
    )
    allowed = [name for name in candidates if not refused[name]]
    strategy = allowed[0] if needed and allowed else None
    before = _versions(facts.old, facts.server.running_version, facts.schema_running)
    return Plan(
        strategy=strategy,
        comparable=not _speakers(facts),
        protocols=strategy == MAKE_BEFORE_BREAK and bool(_speakers(facts)),
        proof=_proof(facts, strategy) if strategy else "",
        needed=needed,
        userspace=facts.userspace,
        dpdk=facts.dpdk,
        restart_server=facts.server.upgrade_pending or force,
        lost_ports=tuple(interface.name for __, interface in _cut_off(facts)) if needed else (),
        refused={name: reasons for name, reasons in refused.items() if reasons and name != strategy},
        warnings=tuple(_warnings(facts, strategy)) if strategy else (),
        start=facts.start,
        before=before,
        after=_versions(facts.new, facts.server.disk_version, facts.schema_on_disk) if needed else before,
    )


def tunnels(bridges: t.Iterable[Bridge]) -> list[str]:
    """The interfaces that are tunnels."""
    return [each.name for bridge in bridges for each in bridge.interfaces if each.type in TUNNEL_TYPES]


def recreates_tunnels(text: str) -> bool:
    """Whether a starting ovs-vswitchd of this version deletes and creates anew the tunnel devices it finds.

    Fixed in 2.17.6, 3.0.4, 3.1.1 and 3.2.0 (NEWS of Open vSwitch).
    """
    return _is_older(text, {(2, 17): 6, (3, 0): 4, (3, 1): 1}, (3, 2))


def loses_meters(text: str) -> bool:
    """Whether a starting ovs-vswitchd of this version may take the kernel's meters for broken (see ``kernel_meters``)."""
    return _is_older(text, {(3, 3): 7, (3, 4): 5, (3, 5): 3, (3, 6): 1}, (3, 7))


def _is_older(text: str, fixed: t.Mapping[Version, int], all_since: Version) -> bool:
    """Whether a version lacks what came with a patch level of each series in ``fixed``, and has been there ``all_since``."""
    number = version(text)
    if number[:2] in fixed:
        return number < (*number[:2], fixed[number[:2]])
    return number < all_since


def _common(facts: Facts) -> t.Iterator[str]:
    if facts.foreign_flag:
        yield (
            "other_config:flow-restore-wait is set by somebody else: another upgrade is under way, or one was left "
            "unfinished; clear it with ovs_restore_wait (state=disabled) if nobody works on this host"
        )
    yield from facts.distrust
    for daemon in (facts.vswitchd, facts.server):
        if daemon.doubt:
            yield f"what the pidfile {daemon.pidfile} names is not taken for {daemon.name}: {daemon.doubt}"
        elif daemon.supervisor is None or daemon.running_version is None:
            yield f"{daemon.name} does not run or does not answer: there is nothing to take over from"
        elif daemon.supervisor.kind == "container" and facts.homes is None:
            yield f"{daemon.name} runs in a container, and it was not said which one it is to move to (container)"
        if daemon.disk_version is None:
            yield f"no usable {daemon.name} is on the disk: install the new packages first"
    yield from facts.start.refusals
    if facts.ingress:
        yield (
            f"{_names(facts.ingress)} have an ingress qdisc that Open vSwitch has not set: a starting ovs-vswitchd deletes it "
            "with its filters ('tc filter show dev NAME ingress'); move them to a clsact qdisc, which it leaves alone, or take "
            "them away and set them again afterwards"
        )

    for bridge, interface in _cut_off(facts):
        name = device(interface.name)
        if name not in facts.down:
            yield (
                f"interface {interface.name} of bridge {bridge.name} has a name of more than {LONGEST_NAME} bytes, which "
                f"{facts.new} does not open, and its device {name} is not down: use a port with a shorter name instead, then "
                f"'ip link set dev {name} down'"
            )

    user = facts.vswitchd.user
    if facts.socket_user is not None and user not in (None, "root", facts.socket_user):
        yield (
            f"ovs-vswitchd runs as the user {user}, and the package's ovsdb-server.socket makes the database's socket for "
            f"{facts.socket_user} alone: neither the old nor the new one could connect to it, as after any restart; let "
            f"'systemctl edit ovsdb-server.socket' add SocketUser={user} to its section [Socket]"
        )


def _cut_off(facts: Facts) -> list[tuple[Bridge, Interface]]:
    """The ports of userspace bridges that the new version does not open for the length of their names."""
    if version(facts.new) < NAMES_CHECKED_SINCE:
        return []
    return [
        (bridge, interface)
        for bridge in facts.bridges
        for interface in bridge.interfaces
        if bridge.datapath_type == "netdev"
        and interface.type in DEVICES
        and (interface.ofport or -1) > 0
        and device(interface.name) != interface.name
    ]


def _two_processes(facts: Facts) -> t.Iterator[str]:
    """What keeps a second ovs-vswitchd from being started beside the running one, on any datapath."""
    if facts.dpdk:
        yield (
            "DPDK is on (other_config:dpdk-init): hugepages and devices belong to one process at a time, so there is only restart"
        )
    for bridge in facts.bridges:
        local = [target for target in bridge.controllers if target.startswith(("unix:/", "punix:/"))]
        if local:
            # bridge_configure_remotes (vswitchd/bridge.c) takes such a socket in its own run directory alone.
            yield (
                f"bridge {bridge.name} has a controller at {local[0]}: a second process has a run directory of another name, "
                "and would not connect there; tcp:127.0.0.1 or a name without directories (unix:NAME) has no such limit"
            )
    yield from too_little_memory(facts)


def too_little_memory(facts: Facts) -> t.Iterator[str]:
    """What keeps a second ovs-vswitchd from holding all flows, too."""
    need = BYTES_PER_DAEMON + max(facts.memory_vswitchd, facts.flows * BYTES_PER_FLOW)
    if need > facts.memory_available:
        yield f"two daemons need {need >> 20} MiB more memory, {facts.memory_available >> 20} MiB are available"


def _make_before_break(facts: Facts) -> t.Iterator[str]:
    yield from _common(facts)
    yield from _beside(facts)
    if facts.unprimed:
        yield f"it was tried: {facts.unprimed}"
    yield from unprimable(facts.bridges, facts.spoken)


def _prefilled(facts: Facts) -> t.Iterator[str]:
    """What keeps a process that is to forward only after the old one has ended from being filled beside it.

    Protocols are silenced in its copy of the database.
    """
    yield from _common(facts)
    for bridge in facts.bridges:
        if bridge.stp or bridge.rstp:
            yield f"bridge {bridge.name} runs {_tree(bridge)}: without it, a port that it blocks would close a loop"
    yield from _beside(facts)


def _beside(facts: Facts) -> t.Iterator[str]:
    """What keeps a second ovs-vswitchd from being filled beside the running one."""
    yield from _two_processes(facts)
    if not facts.bridges:
        yield "there is no bridge, so there is nothing to keep forwarding"
    for bridge in facts.bridges:
        if bridge.datapath_type not in ("system", "netdev"):
            yield f"bridge {bridge.name} uses the datapath type {bridge.datapath_type}, of which nothing is known"
    if len({bridge.datapath_type for bridge in facts.bridges}) > 1:
        yield (
            "some bridges use the kernel datapath and some the one in userspace: they switch over differently; standby takes both"
        )
    if facts.other_config.get("hw-offload", "false").lower() == "true":
        yield (
            "hardware offload is on (other_config:hw-offload): a starting ovs-vswitchd deletes the tc filters of its ports, even "
            "without hw-offload, so all that is offloaded would go through the CPU until the switch-over; with standby that "
            "begins only when the old one ends"
        )
    yield from _two_in_userspace(facts) if facts.userspace else _two_on_one_kernel(facts)


def _two_in_userspace(facts: Facts) -> t.Iterator[str]:
    for bridge in facts.bridges:
        for interface in bridge.interfaces:
            if interface.type not in OPENED_TWICE and interface.type not in TUNNEL_TYPES:
                yield (
                    f"interface {interface.name} of bridge {bridge.name} has the type {interface.type}: "
                    "two processes cannot both open it; with standby the new one opens it when the old one has ended"
                )


def _two_on_one_kernel(facts: Facts) -> t.Iterator[str]:
    old, new = version(facts.old), version(facts.new)
    if old < PER_CPU_SINCE <= new:
        yield (
            f"{facts.new} switches the kernel datapath to per-CPU upcalls as soon as it opens it, "
            f"and {facts.old} would get no upcalls from then on (new flows would be lost); with standby it opens it when the "
            "old one has ended"
        )
    found = tunnels(facts.bridges)
    if found and recreates_tunnels(facts.new):
        yield (
            f"{facts.new} re-creates the tunnel devices when it starts and this host has tunnels "
            f"({_names(found)}): install a version that does not (2.17.6, 3.0.4, 3.1.1, 3.2 and newer)"
        )


def _speakers(facts: Facts) -> list[str]:
    """Who runs a protocol that a second process would speak beside the first, whatever the flag says."""
    return [found for bridge in facts.bridges for found in speakers(bridge)]


def speakers(bridge: Bridge) -> t.Iterator[str]:
    """What of a bridge runs a protocol with its neighbours."""
    if bridge.stp or bridge.rstp:
        yield f"bridge {bridge.name} runs {_tree(bridge)}"
    for port in bridge.ports:
        if runs_lacp(port):
            yield f"port {port.name} of bridge {bridge.name} runs LACP"
    for interface in bridge.interfaces:
        if runs_bfd(interface):
            yield f"interface {interface.name} of bridge {bridge.name} runs BFD"
        if interface.cfm_mpid is not None:
            yield f"interface {interface.name} of bridge {bridge.name} runs CFM"


def _tree(bridge: Bridge) -> str:
    return "RSTP" if bridge.rstp else "STP"


def _unproved(facts: Facts, strategy: str) -> str | None:
    """Why nothing can be proved before the switch-over, None when something can."""
    if strategy in (STANDBY, RESTART):
        return f"with {strategy} the new process gets its flows on this host only when the old one has ended"
    for what in _speakers(facts):
        return f"{what}, which is silenced in the new process until it takes over, so the two are not configured alike"
    return None


def _proof(facts: Facts, strategy: str) -> str:
    why = _unproved(facts, strategy)
    if why:
        return f"nothing is proved before the switch-over: {why}"
    return facts.live.text if facts.live else ""


def _standby(facts: Facts) -> t.Iterator[str]:
    yield from _common(facts)
    yield from _two_processes(facts)


def _restart(facts: Facts) -> t.Iterator[str]:
    yield from _common(facts)


REASONS: t.Mapping[str, t.Callable[[Facts], t.Iterator[str]]] = {
    MAKE_BEFORE_BREAK: _make_before_break,
    PREFILLED: _prefilled,
    STANDBY: _standby,
    RESTART: _restart,
}


def _warnings(facts: Facts, strategy: str) -> t.Iterator[str]:
    yield from facts.start.warnings
    for what in facts.dropped:
        yield f"schema {facts.schema_on_disk} has no place for {what}: it is lost, a rollback brings it again"
    controlled = [bridge.name for bridge in facts.bridges if bridge.controllers]
    if controlled and not (strategy == MAKE_BEFORE_BREAK and _flushed_unseen(facts)):
        yield (
            f"bridges with a controller in the database ({_names(controlled)}) lose their flows for the time of one "
            "bundle commit when the controller connection comes up again"
        )
    for bridge in facts.bridges:
        if bridge.alone and bridge.fail_mode != "secure":
            yield (
                f"no controller of bridge {bridge.name} is connected, and it forwards as an Ethernet switch (fail_mode "
                "standalone): a new ovs-vswitchd begins with that only after three times its patience, 15 s by default; have a "
                "controller connected first, or delete them ('ovs-vsctl del-controller')"
            )
    if strategy == MAKE_BEFORE_BREAK:
        yield from _waits(facts)
    if facts.live and facts.live.share < ENOUGH and not _unproved(facts, strategy):
        yield f"the proof before the switch-over covers little: {facts.live.text}"
    yield from selection.announce(facts.groups, version(facts.old), version(facts.new))
    for what in _speakers(facts) if strategy != MAKE_BEFORE_BREAK else ():
        yield f"{what}, whose state starts anew: its peers may take the port down for a while"
    for bridge in facts.bridges:
        if bridge.mcast_snooping:
            yield f"bridge {bridge.name} snoops multicast: its table is learned anew, groups are flooded until then"
    if facts.tracked:
        yield _tracked(facts, strategy)
        yield from _deaf(facts, strategy)
    yield from _warnings_of_ports(facts, strategy)
    if facts.confined:
        yield (
            f"ovs-vswitchd is confined as {facts.confined}: its profile must allow the private run "
            "directory beside the real one"
        )


def _tracked(facts: Facts, strategy: str) -> str:
    what = f"the {facts.tracked} connections that the userspace datapath tracks (ct)"
    if strategy in (MAKE_BEFORE_BREAK, PREFILLED):
        return (
            f"{what} are carried over without the sequence numbers of TCP, which nothing shows: the new ovs-vswitchd does not "
            "look at them until it is told to (ovs-appctl dpctl/ct-enable-tcp-seq-chk)"
        )
    return f"{what} are known to the old process only: they are tracked anew, as if they began in the middle"


def _deaf(facts: Facts, strategy: str) -> t.Iterator[str]:
    """The main loop that lists connections is the one that reads packets, too."""
    soonest, listed = detection(facts.spoken), facts.tracked * _LISTED
    if strategy in (MAKE_BEFORE_BREAK, PREFILLED) and soonest is not None and listed >= soonest:
        yield (
            f"ovs-vswitchd hears no neighbour for about {listed:.0f} ms each time that it lists its {facts.tracked} tracked "
            f"connections, and BFD or CFM misses one after {soonest:.0f} ms: such a session may go down and up again. With "
            "longer intervals it does not"
        )


def _waits(facts: Facts) -> t.Iterator[str]:
    grown = [bridge.name for bridge in facts.bridges if bridge.stp or bridge.rstp]
    if grown:
        yield (
            f"the new ovs-vswitchd listens to the spanning trees of {_names(grown)} before it takes over: 35 to 70 s at the "
            "usual times, in which nothing is interrupted, and as long again in a rollback under traffic"
        )


def _flushed_unseen(facts: Facts) -> bool:
    """Whether the old process can answer the upcalls while the new one has empty tables: see ``_meet_flush_unseen``."""
    impatient = any(watched(interface) for bridge in facts.bridges for interface in bridge.interfaces)
    return facts.upcalls_told and not facts.userspace and not impatient and pauses(facts.new)


def pauses(text: str) -> bool:
    """Whether an ovs-vswitchd of this version knows ``revalidator/pause``, which no list of commands shows."""
    number = version(text)
    since: dict[Version, int] = {(2, 15): 6, (2, 16): 5, (2, 17): 3, (3, 0): 1}
    return number >= (*number[:2], since[number[:2]]) if number[:2] in since else number >= (3, 1)


def _warnings_of_ports(facts: Facts, strategy: str) -> t.Iterator[str]:
    cut_off = [interface.name for __, interface in _cut_off(facts)]
    if cut_off:
        yield (
            f"{facts.new} does not open devices with names of more than {LONGEST_NAME} bytes: {_names(cut_off)}, which are down "
            "now, are no ports any more"
        )
    policed = [i.name for b in facts.bridges for i in b.interfaces if i.policing_rate > 0]
    if policed:
        yield f"the policers of {_names(policed)} are set up again and start with a full bucket"
    if facts.other_config.get("hw-offload", "false").lower() == "true":
        yield "hardware offload is on: offloaded flows are removed when the new ovs-vswitchd starts and come back by upcall"
    if found := [] if facts.userspace else tunnels(facts.bridges):
        if strategy != MAKE_BEFORE_BREAK and recreates_tunnels(facts.new):
            yield f"{facts.new} re-creates the tunnel devices of {_names(found)} when it starts"
        elif recreates_tunnels(facts.old):
            yield (
                f"a rollback interrupts the tunnels {_names(found)} for a moment: {facts.old} re-creates their devices when it "
                "starts"
            )
    internal = [i.name for b in facts.bridges for i in b.interfaces if i.type == "internal"]
    if facts.dpdk and internal:
        yield f"the internal ports {_names(internal)} of the userspace datapath are made anew: addresses and routes are lost"


def _versions(vswitchd: str, server: str | None, schema: str) -> dict[str, str]:
    return {"ovs-vswitchd": vswitchd, "ovsdb-server": server or "0", "schema": schema}


def _names(names: t.Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
