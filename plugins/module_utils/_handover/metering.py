# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""OpenFlow meters of a second ovs-vswitchd, under the kernel's numbers of the first (see ``meters``)."""

from __future__ import annotations

import itertools
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import meters, proof
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch, settings_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD

# How many megaflows are traced to see which kernel meter an OpenFlow meter is.
MOST_METERED = 500

# How long an answer about a large switch may take, in seconds.
TIMEOUT = 60.0
# Of an old process that may answer nobody, since its database is dead, in seconds.
SHORT_TIMEOUT = 5.0

# In kbit/s, one band that drops what is more (OFPMF_KBPS, OFPMBT_DROP; OpenFlow 1.3, 7.3.4.4).
_UNLIMITED = struct.pack("!HHHIII", 1, 1, 16, 0xFFFFFFFF, 0, 0)


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
        old = self._services.control(VSWITCHD, TIMEOUT)
        live: dict[meters.Meter, int] = {}
        dump = old.call("dpctl/dump-flows", "--no-names", proof.KERNEL.dump) if configs else ""
        for flow in proof.metered(dump, MOST_METERED):
            known = meters.used(old.call("ofproto/trace", proof.KERNEL.name, flow))
            live.update({meter: number for meter, number in known.items() if meter in configs})
            if live.keys() == configs.keys():
                break
        return live

    def set_again(self) -> None:
        """Have the old process tell the kernel all its meters once more; each begins with a full bucket."""
        for bridge in self._scope.bridges:
            with Switch(self._scope.management(bridge), timeout=SHORT_TIMEOUT) as switch:
                of, known = switch.main, switch.settings().meters
                of.send(
                    wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, number, config)
                    for number, config in known.items()
                )

    def add(self, switches: t.Mapping[str, Switch]) -> None:
        """Give the new process its meters in that order; it has none yet, or the first of them from an earlier try."""
        for (bridge, number), config in self._wanted:
            of = switches[bridge].main
            message = wire.meter_mod(of.version, of.xid(), wire.METER_ADD, number, config)
            for error in of.send([message]):
                if error.name != "OFPMMFC_METER_EXISTS":
                    raise HotUpgradeError(f"bridge {bridge} refused meter {number}", error.name, VSWITCHD_LOG)
        for bridge, number in self._passing:
            of = switches[bridge].main
            of.send([wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, number)])
