# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""LACP, BFD and CFM as one ovs-vswitchd runs them, compared with another, and what the neighbours would tell that one.

Also what a second process cannot go on with, spanning trees included (they are in ``trees``).

Pure but for ``hear``.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import (
    bfd,
    bonds,
    cfm,
    lacp,
    spanning_tree,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Interface, Port

# An interface, and what is to come in by it.
Heard = tuple[str, bytes]

# A neighbour that misses us sooner could do so while an overloaded host switches over, in milliseconds; and how many
# intervals of CFM that is (cfm_fault_interval).
SHORTEST_DETECTION = 200
_CFM_MISSED = 3.5
# Of a name, in bytes (stp_print_details in lib/stp.c).
_SHOWN = 10
# The types of interfaces whose frames pass by the kernel, and those at whose other end is another tree of the same process.
_OVERHEARD = ("", "system", "patch")


@dataclasses.dataclass(frozen=True)
class Spoken:
    """LACP by bond and member, BFD and CFM by interface, and all bonds; ``wrong`` is why nothing is known."""

    aggregates: t.Mapping[str, t.Mapping[str, lacp.Member]] = dataclasses.field(default_factory=dict)
    sessions: t.Mapping[str, bfd.Session] = dataclasses.field(default_factory=dict)
    endpoints: t.Mapping[str, cfm.Endpoint] = dataclasses.field(default_factory=dict)
    bonding: t.Mapping[str, bonds.Bond] = dataclasses.field(default_factory=dict)
    wrong: str = ""

    def members(self) -> dict[str, lacp.Member]:
        """Those of all bonds with LACP."""
        return {name: member for bond in self.aggregates.values() for name, member in bond.items()}


def overhear(control: Appctl) -> Spoken:
    """The same as ``hear`` for a plan, which tells what cannot be understood."""
    try:
        return hear(control)
    except (HotUpgradeError, ValueError) as error:
        return Spoken(wrong=str(error))


def hear(control: Appctl) -> Spoken:
    """What an ovs-vswitchd shows.  Raises ``HotUpgradeError`` when it cannot be understood."""
    return Spoken(
        lacp.parse(control.call("lacp/show")),
        bfd.parse(control.call("bfd/show")),
        cfm.parse(control.call("cfm/show")),
        bonds.parse(control.call("bond/show")),
    )


def speaking(bridges: t.Iterable[Bridge]) -> dict[str, tuple[str, Interface]]:
    """The interfaces of ports that run LACP, BFD or CFM, or are in a spanning tree, each with the name of its bridge.

    The other members of their bonds are among them: where one is down in the new process for a moment, that tells of moved MAC
    addresses by another (bundle_send_learning_packets).
    """
    found = {}
    for bridge in bridges:
        alone = {each.name for each in bridge.interfaces if watched(each)}
        ports = (port for port in bridge.ports if runs_lacp(port) or not alone.isdisjoint(port.interfaces))
        names = {name for port in ports for name in port.interfaces}
        names.update(each.name for each in spanning_tree.with_neighbours(bridge))
        found.update({each.name: (bridge.name, each) for each in bridge.interfaces if each.name in names})
    return found


def runs_lacp(port: Port) -> bool:
    """Whether a port runs LACP."""
    return port.lacp in ("active", "passive")


def runs_bfd(interface: Interface) -> bool:
    """Whether an interface runs BFD."""
    return interface.bfd.get("enable", "false").lower() == "true"


def watched(interface: Interface) -> bool:
    """Whether a neighbour misses an interface within fractions of a second: with BFD and CFM, not with LACP."""
    return runs_bfd(interface) or interface.cfm_mpid is not None


def detection(found: Spoken) -> float | None:
    """After how many milliseconds without a word the first neighbour is missed by BFD or CFM, or misses us; None without any."""
    times = [session.detection for session in found.sessions.values() if session.state == bfd.UP]
    return min([*times, *(_CFM_MISSED * each.interval for each in found.endpoints.values())], default=None)


def unprimable(bridges: t.Iterable[Bridge], found: Spoken) -> t.Iterator[str]:
    """One sentence for each thing that a second process cannot go on with, where the running one shows what is ``found``."""
    if found.wrong:
        yield found.wrong
        return
    bridges = list(bridges)
    in_trees = {each.name for bridge in bridges for each in spanning_tree.members(bridge)}
    for bridge in bridges:
        yield from _unheard(bridge, in_trees)
        for port in filter(runs_lacp, bridge.ports):
            yield from _other_key(bridge, port, found.aggregates.get(port.name, {}))
        for interface in bridge.interfaces:
            where = f"interface {interface.name} of bridge {bridge.name}"
            session, endpoint = found.sessions.get(interface.name), found.endpoints.get(interface.name)
            if session and session.state == bfd.UP and session.detection < SHORTEST_DETECTION:
                yield f"{where}: BFD takes a neighbour for dead after {session.detection} ms, {_TOO_SHORT}"
            if endpoint and _CFM_MISSED * endpoint.interval < SHORTEST_DETECTION:
                missed = round(_CFM_MISSED * endpoint.interval)
                yield f"{where}: CFM takes a neighbour for dead after {missed} ms, {_TOO_SHORT}"


def _unheard(bridge: Bridge, in_trees: t.Container[str]) -> t.Iterator[str]:
    """Of its spanning tree: see ``trees``."""
    found = spanning_tree.members(bridge)
    for each in found:
        if each.type == "patch" and each.options.get("peer") not in in_trees:
            yield (
                f"interface {each.name} of bridge {bridge.name} is in a spanning tree, and its peer in another bridge is in "
                "none: what the new process says there could leave by any port"
            )
        if each.type not in _OVERHEARD:
            yield (
                f"interface {each.name} of bridge {bridge.name} has the type {each.type}: what a neighbour in its spanning tree "
                "says there cannot be overheard"
            )
    if not bridge.rstp:
        yield from _unnumbered(bridge, found)


def _unnumbered(bridge: Bridge, found: t.Sequence[Interface]) -> t.Iterator[str]:
    numbered = {port.name for port in bridge.ports if "stp-port-num" in port.other_config}
    free = [each.name for each in found if each.port not in numbered]
    if free and len({name.encode()[:_SHOWN] for name in free}) < len(free):
        yield (
            f"ports of bridge {bridge.name} cannot be told apart by the {_SHOWN} bytes of their names that stp/show shows, and "
            f"may get other numbers: give each of them its other_config:stp-port-num ({', '.join(free[:5])} have none)"
        )
    if bridge.datapath_type == "netdev" and free:
        yield (
            f"bridge {bridge.name} may number its ports for STP anew when the new process gets the internal ports: give "
            f"each of them its other_config:stp-port-num ({', '.join(free[:5])} have none)"
        )


_TOO_SHORT = f"and a switch-over of a loaded host may take {SHORTEST_DETECTION} ms"


def _other_key(bridge: Bridge, port: Port, members: t.Mapping[str, lacp.Member]) -> t.Iterator[str]:
    """The key of a bond is the number of the member that was there first, in a new process of that with the first UUID.

    See lacp_member_register and member_get_actor (lib/lacp.c), iface_configure_lacp (vswitchd/bridge.c).
    """
    there = {each.name: each for each in bridge.interfaces if (each.ofport or -1) > 0}
    first = next((there[name] for name in port.opened if name in there), None)
    keys = {member.actor.key for member in members.values()}
    if first is None or not keys:
        return
    wanted = (first.other_config.get(name, "") for name in ("lacp-aggregation-key", "lacp-port-id"))
    coming = next(
        (int(text) for text in wanted if text.isdecimal() and 0 < int(text) < 1 << 16), first.ofport
    )
    if keys != {coming}:
        yield (
            f"port {port.name} of bridge {bridge.name}: the key of its aggregation would be {coming}, after its member "
            f"{first.name}, and is {', '.join(map(str, sorted(keys)))}: its partner would take it for another one "
            f"(other_config:lacp-aggregation-key={min(keys)} of its interfaces keeps it)"
        )


def strangers(old: Spoken, new: Spoken) -> list[str]:
    """One sentence for each member of a bond that a partner would take for another one than before."""
    known = new.members()
    names = "system", "system priority", "port", "port priority", "key"
    found = []
    for name, member in old.members().items():
        if name in known:
            pairs = zip(names, member.actor.identity, known[name].actor.identity)
            moved = [
                f"its {what} would be {after} and is {before}"
                for what, before, after in pairs
                if before != after
            ]
            if moved:
                found.append(f"LACP of {name}: {', '.join(moved)}")
    return found


def lacking(old: Spoken, new: Spoken) -> list[str]:
    """One sentence for each thing in which ``new`` would not go on as ``old`` does."""
    return [
        *_lacp_lacking(old, new),
        *_bfd_lacking(old, new),
        *_cfm_lacking(old, new),
        *_bonds_lacking(old, new),
    ]


def _lacp_lacking(old: Spoken, new: Spoken) -> t.Iterator[str]:
    known = new.members()
    for name, member in old.members().items():
        now = known.get(name)
        if now is None:
            yield f"LACP does not run on {name}"
        elif member.status == lacp.CURRENT and (now.status, now.attached) != (member.status, member.attached):
            yield f"LACP of {name} is {now.status} and {'attached' if now.attached else 'detached'}"


def _bfd_lacking(old: Spoken, new: Spoken) -> t.Iterator[str]:
    for name, session in old.sessions.items():
        now = new.sessions.get(name)
        if now is None:
            yield f"BFD does not run on {name}"
        elif session.state == bfd.UP != now.state:
            yield f"BFD of {name} is {now.state}"
        elif session.state == bfd.UP and _has_been_down(session, now):
            yield f"BFD of {name} tells its neighbour '{now.diagnostic}' and not '{session.diagnostic}'"
        elif session.state == bfd.UP and now.interval > session.interval:
            yield f"BFD of {name} speaks every {now.interval} ms and not every {session.interval} ms"


def _cfm_lacking(old: Spoken, new: Spoken) -> t.Iterator[str]:
    for name, endpoint in old.endpoints.items():
        now = new.endpoints.get(name)
        if now is None:
            yield f"CFM does not run on {name}"
        elif not endpoint.fault and (now.fault or not set(endpoint.remotes) <= set(now.remotes)):
            yield f"CFM of {name} has {now.fault or 'not heard all of its remote ends'}"


def _bonds_lacking(old: Spoken, new: Spoken) -> t.Iterator[str]:
    speaking_ones = {*old.members(), *old.sessions, *old.endpoints}
    for name, bond in old.bonding.items():
        if speaking_ones.isdisjoint(bond.members):  # only its carrier counts
            continue
        known = new.bonding[name].members if name in new.bonding else {}
        for member, was in bond.members.items():
            if member not in known or known[member].enabled != was.enabled:
                yield f"{member} of bond {name} is {'dis' if was.enabled else 'en'}abled"


def priming(old: Spoken, new: Spoken, interfaces: t.Mapping[str, Interface]) -> list[Heard]:
    """What the neighbours of ``old`` would tell ``new`` while it must not answer; it has to last until somebody else tells it."""
    found = _partners(old)
    for name, session in _up(old, new):
        now = new.sessions[name]
        for state, multiplier in _way_up(session, now):
            found.append((name, _control(session, now, interfaces[name], state, multiplier, bfd.FINAL)))
    return found + _checks(old)


def _has_been_down(session: bfd.Session, now: bfd.Session) -> bool:
    """Whether a session tells its neighbour of its last end, and another one would not."""
    return session.diagnostic in (bfd.EXPIRED, bfd.SIGNALED) and session.diagnostic != now.diagnostic


def _way_up(session: bfd.Session, now: bfd.Session) -> t.Iterator[tuple[str, int]]:
    """The states that a neighbour says, with its multiplier, so that the new session is up, and was down before as the other was.

    One that is to expire is left alone until it has.
    """
    up = now.state == bfd.UP
    if not _has_been_down(session, now):
        yield from [] if up else [("init", bfd.MOST)]
        yield bfd.UP, bfd.MOST
    elif session.diagnostic == bfd.SIGNALED:
        yield from [] if up else [("init", bfd.MOST)]
        yield from [("down", bfd.MOST), ("init", bfd.MOST), (bfd.UP, bfd.MOST)]
    elif not up:
        yield from [("init", 1), (bfd.UP, 1)]
    elif now.remote_multiplier != 1:
        yield bfd.UP, 1


def greeting(old: Spoken, new: Spoken, interfaces: t.Mapping[str, Interface]) -> list[Heard]:
    """What makes ``new`` tell all of them at once that it is there, and count the times of its neighbours from now."""
    found = _partners(old)
    for name, session in _up(old, new):
        found.append((name, _control(session, new.sessions[name], interfaces[name], bfd.UP, None, bfd.POLL)))
    return found + _checks(old)


def _partners(old: Spoken) -> list[Heard]:
    members = old.members().items()
    return [(name, lacp.from_partner(member)) for name, member in members if member.status == lacp.CURRENT]


def _up(old: Spoken, new: Spoken) -> list[tuple[str, bfd.Session]]:
    return [
        (name, session)
        for name, session in old.sessions.items()
        if session.state == bfd.UP and name in new.sessions
    ]


def _control(
    session: bfd.Session,
    now: bfd.Session,
    interface: Interface,
    state: str,
    multiplier: int | None,
    flags: int = 0,
) -> bytes:
    route = bfd.route(interface.bfd)
    return bfd.from_peer(session, now.discriminator, state, multiplier, flags, route)


def _checks(old: Spoken) -> list[Heard]:
    return [
        (name, frame)
        for name, endpoint in old.endpoints.items()
        if not endpoint.fault
        for frame in cfm.from_remotes(endpoint)
    ]
