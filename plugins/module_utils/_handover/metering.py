# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""OpenFlow meters of a second ovs-vswitchd, under the kernel's numbers of the first (see ``meters``).

Both tell the kernel of theirs, and neither knows of the other.  So whoever forwards tells the kernel last: the old process when
the new one has its meters, the new one when it has taken over, the old one again where that is undone.
"""

from __future__ import annotations

import collections
import itertools
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
    attempt,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import meters
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.meters import (
    tell_again,
    tell_again_beside_others,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch, settings_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import proof

# How many megaflows are traced to see which OpenFlow meter a kernel meter is.
_MOST_TRIES = 3

# How long an answer about a large switch may take, in seconds.
TIMEOUT = 60.0
# Of an old process that may answer nobody, since its database is dead, in seconds.
SHORT_TIMEOUT = 5.0

# The file of the transaction that tells that two processes may have told the kernel of their meters.
_SHARED = "meters.json"

# In kbit/s, one band that drops what is more (OFPMF_KBPS, OFPMBT_DROP; OpenFlow 1.3, 7.3.4.4).
_UNLIMITED = struct.pack("!HHHIII", 1, 1, 16, 0xFFFFFFFF, 0, 0)


def _trace(old: Appctl, flow: str) -> str:
    """What becomes of a packet of ``flow``; empty where that is not told, as of one that is gone."""
    try:
        return old.call("ofproto/trace", proof.KERNEL.name, flow)
    except Unreachable:
        raise
    except HotUpgradeError:
        return ""


class Metering:
    """The meters of all bridges, in the order in which a new process is to add them."""

    def __init__(self, scope: Scope, services: Services) -> None:
        self._scope, self._services = scope, services
        self._wanted: list[tuple[meters.Meter, bytes]] = []
        # Those that are only there until the others have their numbers.
        self._passing: list[meters.Meter] = []

    def order(self) -> None:
        """Put the meters in the order that gives those under traffic the kernel's numbers that they have.

        The kernel's flows name a meter by its number until they are flushed; the new process numbers from 0.
        """
        if self._scope.request.userspace:
            return
        configs = self._configs()
        live = self._under_traffic(configs)
        places = meters.order(sorted(configs), live)
        if None in places:
            bridge = max(live, key=lambda meter: live[meter])[0]
            free = (number for number in itertools.count(1) if (bridge, number) not in configs)
            self._passing = [(bridge, next(free)) for place in places if place is None]
        passing = iter(self._passing)
        wanted = [place if place is not None else next(passing) for place in places]
        self._wanted = [(meter, configs.get(meter, _UNLIMITED)) for meter in wanted]

    def _configs(self) -> dict[meters.Meter, bytes]:
        bridges = self._scope.bridges
        found = side_by_side(settings_of, map(self._scope.management, bridges))
        return {
            (name, number): config
            for name, settings in zip(bridges, found)
            for number, config in settings.meters.items()
        }

    def _under_traffic(self, configs: t.Mapping[meters.Meter, bytes]) -> dict[meters.Meter, int]:
        """Which number those have that the kernel's flows name, as traces of these flows tell."""
        if not configs:
            return {}
        old = self._services.control(VSWITCHD, TIMEOUT)
        live: dict[meters.Meter, int] = {}
        tried: collections.Counter[int] = collections.Counter()
        dump = old.call("dpctl/dump-flows", "--no-names", proof.KERNEL.dump)
        for flow in proof.metered(dump, ends=proof.traces_end(old.call("version"))):
            unknown = set(meters.numbers(flow.actions)) - set(live.values())
            if not any(tried[number] < _MOST_TRIES for number in unknown):
                continue
            tried.update(unknown)
            known = meters.used(_trace(old, flow.key))
            live.update({meter: number for meter, number in known.items() if meter in configs})
        return live

    def share(self) -> None:
        """Note that a second process is about to tell the kernel of meters under the numbers of the first, which has some.

        Raises ``OSError`` on a full disk: then nobody has done so yet.
        """
        if self._wanted:
            self._scope.transaction.write(_SHARED, {})

    def add(self, switches: t.Mapping[str, Switch]) -> None:
        """Give the new process its meters in that order; it has none yet, or the first of them from an earlier try."""
        for bridge, meters_of in itertools.groupby(self._wanted, lambda wanted: wanted[0][0]):
            of = switches[bridge].main
            messages = [
                wire.meter_mod(of.version, of.xid(), wire.METER_ADD, number, config)
                for (__, number), config in meters_of
            ]
            for message, error in of.refusals(messages):
                if error.name != "OFPMMFC_METER_EXISTS":
                    number = wire.meter_of(message)[0]
                    raise HotUpgradeError(f"bridge {bridge} refused meter {number}", error.name, VSWITCHD_LOG)
        for bridge, number in self._passing:
            of = switches[bridge].main
            of.send([wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, number)])

    def tell_of_old(self) -> list[str]:
        """Have the old process, which forwards, tell the kernel its meters after the new one has; what went wrong.

        Nothing to do where the kernel is not shared.
        """
        if self._scope.transaction.read(_SHARED) is None:
            return []
        return [text for texts in side_by_side(self._tell_of, self._scope.bridges) for text in texts]

    def _tell_of(self, bridge: str) -> list[str]:
        refused: list[str] = []

        def tell() -> None:
            with OpenFlow.connect(self._scope.management(bridge), timeout=SHORT_TIMEOUT) as of:
                refused.extend(tell_again_beside_others(of))

        return [f"meters of bridge {bridge}: {text}" for text in attempt(tell) + refused]

    def tell_of_new(self, switches: t.Mapping[str, Switch]) -> None:
        """The same of the new process, when that forwards; nobody else is connected to it yet."""
        if not self._scope.request.userspace:
            side_by_side(lambda switch: tell_again(switch.main), switches.values())

    def leave(self) -> list[str]:
        """The second process is gone: have the kernel have the meters of the old one, which goes on; what went wrong."""
        failures = self.tell_of_old()
        if not failures:
            self._scope.transaction.prune(_SHARED)
        return failures
