# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What vswitchd has learned and keeps in memory only: MAC tables and tunnel neighbours, through its control socket."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl

STATIC = "static"
_NEIGHBOUR = re.compile(r"(\S+) +((?:[0-9a-f]{2}:){5}[0-9a-f]{2})   (?P<bridge>.+)")

# ARP that says nothing, and, where no flow has such a packet learned, a question: the hidden flows of in-band control do.
_LESSONS = ("dl_type=0x0806", "dl_type=0x0806,arp_op=1")


class MacEntry(t.NamedTuple):
    """One line of ``fdb/show``: the ofport (``LOCAL`` for the bridge's own), VLAN, MAC address, whether it is static."""

    port: str
    vlan: int
    mac: str
    static: bool


class Neighbour(t.NamedTuple):
    """One line of ``tnl/neigh/show``."""

    ip: str
    mac: str
    bridge: str


def mac_table(vswitchd: Appctl, bridge: str) -> list[MacEntry]:
    """The MAC learning table of ``bridge``."""
    rows = (row.split() for row in vswitchd.call("fdb/show", bridge).splitlines()[1:])
    return [MacEntry(row[0], int(row[1]), row[2], row[3] == STATIC) for row in rows if len(row) == 4]


def neighbours(vswitchd: Appctl) -> list[Neighbour]:
    """The tunnel neighbours (ARP and ND) of all bridges, whose names may have blanks; not those that are stale."""
    rows = (_NEIGHBOUR.match(row) for row in vswitchd.call("tnl/neigh/show").split("\n"))
    return [Neighbour(*row.groups()) for row in rows if row and not row["bridge"].endswith(" STALE")]


def restore_mac_table(
    vswitchd: Appctl, bridge: str, ports: t.Mapping[str, str], entries: t.Iterable[MacEntry]
) -> list[str]:
    """Add the static ``entries`` again (``fdb/add``, 2.17 and newer); ``ports``: ofport -> interface name.

    Returns one sentence for each entry that could not be set.
    """
    lost = []
    for entry in entries:
        try:
            vswitchd.call("fdb/add", bridge, ports[entry.port], str(entry.vlan), entry.mac)
        except (KeyError, HotUpgradeError) as error:
            lost.append(f"MAC {entry.mac} in VLAN {entry.vlan} on port {entry.port} of {bridge}: {error}")
    return lost


def teach(
    vswitchd: Appctl,
    bridge: str,
    tags: t.Mapping[str, int],
    entries: t.Iterable[MacEntry],
    heard_at: t.Mapping[str, str],
) -> list[str]:
    """Have ``bridge`` learn the dynamic ``entries`` again; ``tags``: ofport of an access port -> its VLAN.

    ``heard_at``: ofport of a member of a bond, which is shown by any of them -> the one that takes packets.

    ``ofproto/trace -generate`` has the side effects of a packet, learning among them, and sends nothing.  What it has learned
    by itself is newer: a station may have moved.  Returns a sentence if some are not known afterwards.
    """

    def place(entry: MacEntry) -> tuple[str, int, str]:
        return heard_at.get(entry.port, entry.port), entry.vlan, entry.mac

    wanted = [entry for entry in entries if not entry.static]
    heard = {entry[1:3] for entry in mac_table(vswitchd, bridge)} if wanted else ()
    missing = [entry for entry in wanted if entry[1:3] not in heard]
    for kind in _LESSONS:
        for entry in missing:
            vlan = "" if entry.vlan in (0, tags.get(entry.port)) else f"dl_vlan={entry.vlan},"
            packet = f"in_port={place(entry)[0]},dl_src={entry.mac},dl_dst=ff:ff:ff:ff:ff:ff,{vlan}{kind}"
            with contextlib.suppress(HotUpgradeError):
                vswitchd.call("ofproto/trace", bridge, packet, "-generate")
        known = {place(entry) for entry in mac_table(vswitchd, bridge)} if missing else set()
        missing = [entry for entry in missing if place(entry) not in known]
    if not missing:
        return []
    return [
        f"{len(missing)} learned MAC addresses of {bridge}, as {missing[0].mac} on port {missing[0].port}: the next "
        "packet from each teaches it again"
    ]


def restore_neighbours(vswitchd: Appctl, entries: t.Iterable[Neighbour]) -> list[str]:
    """Set tunnel neighbours again. Returns one sentence for each that could not be set."""
    lost = []
    for entry in entries:
        try:
            vswitchd.call("tnl/neigh/set", entry.bridge, entry.ip, entry.mac)
        except HotUpgradeError as error:
            lost.append(f"tunnel neighbour {entry.ip} of {entry.bridge}: {error}")
    return lost
