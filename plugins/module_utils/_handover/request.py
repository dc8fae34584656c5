# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a hand-over is to do: decided once, from one look at the host, and written down before anything is done.

It is the ``request.json`` of a transaction.  Engine and guard run the transaction's own copy of this file; the connected side has
the one of its collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import (
    BESIDE,
    WITHIN,
    Homes,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import require_format
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Json

# The operations of such a request; the module is ``ovs_NAME``.
NAME, RELOAD = "handover", "kmod-reload"

# Whether established flows go round the datapath while the module is away.
BYPASS = AUTO, REQUIRE, NO = ("auto", "require", "no")

# What reads another format does not know what it means.
FORMAT = 1

DOUBTED = "Restart the service by its unit or by root, then begin again"


@dataclasses.dataclass(frozen=True)
class Reload:
    """The kernel module that is loaded in the window: ``new`` and ``old`` are their files, which may be compressed.

    ``bypass`` is one of ``BYPASS``, ``stand_in`` whether one is to answer for new flows (``stand_in.py``).
    """

    new: str
    old: str
    bypass: str
    stand_in: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """``bridges`` are those that are handed over, with their controllers; ``ports`` how many these have together.

    ``vswitchd`` and ``server`` are the daemons of the beginning, ``supervisors`` who owns them, by name (see
    ``owners.choice.as_json``); ``schema`` is its file on the disk, empty where there is none; ``boot`` identifies the boot
    of the beginning; ``start`` is how the service of ovsdb-server starts it; ``back_of`` is the transaction that is taken
    back by this one; ``protocols`` tells that the new process goes on with LACP, BFD and CFM, ``bonds`` that
    there are some; ``confirm_timeout`` and
    ``timeout`` are in seconds; ``health_before`` is for whoever judges the hand-over, perhaps another run than the first one;
    ``homes`` are the containers that the daemons move between.
    """

    strategy: str
    plan: Json
    rundir: str
    remote: str
    timeout: float
    bridges: t.Mapping[str, tuple[str, ...]]
    ports: int
    lost_ports: tuple[str, ...]
    userspace: bool
    dpdk: bool
    snapshot: str | None
    confirm: str
    confirm_timeout: float
    prove: int
    accept: tuple[str, ...]
    convert: bool
    downgrade: bool
    dispatch: bool
    restart_server: bool
    start: Foresight
    schema: str
    vswitchd: Instance
    server: Instance
    supervisors: t.Mapping[str, Json]
    boot: str
    back_of: str | None = None
    protocols: bool = False
    bonds: bool = False
    health_before: Json | None = None
    reload: Reload | None = None
    homes: Homes | None = None

    @classmethod
    def read(cls, record: Json) -> Request:
        """Undo ``json``; raises ``HotUpgradeError`` when it was written in another format."""
        name = str(record.get("operation"))
        require_format(record, name if name == RELOAD else NAME, FORMAT)
        known = {name: value for name, value in record.items() if name not in ("operation", "format")}
        return cls(**{
            **known,
            "bridges": {name: tuple(controllers) for name, controllers in known["bridges"].items()},
            "lost_ports": tuple(known["lost_ports"]),
            "accept": tuple(known["accept"]),
            "start": _foresight(known["start"]),
            "vswitchd": _instance(known["vswitchd"]),
            "server": _instance(known["server"]),
            "reload": Reload(**known["reload"]) if known.get("reload") else None,
            "homes": _homes(known.get("homes")),
        })  # fmt: skip

    def json(self) -> Json:
        """As a transaction writes it down."""
        operation = NAME if self.reload is None else RELOAD
        return {"operation": operation, "format": FORMAT, **dataclasses.asdict(self)}

    @property
    def coming(self) -> str:
        """The version of the ovs-vswitchd that is started; empty where the plan does not tell."""
        versions = self.plan.get("before" if self.back_of else "after", {})
        return str(versions.get("ovs-vswitchd") or "")

    def of_now(self, bridges: t.Sequence[Bridge]) -> Request:
        """The same for the ``bridges`` that there are now."""
        return dataclasses.replace(self, **inventory(bridges))


def inventory(bridges: t.Sequence[Bridge]) -> dict[str, t.Any]:
    """What a request says of ``bridges``, the ones that are handed over."""
    return {
        "bridges": {bridge.name: tuple(bridge.controllers) for bridge in bridges},
        "ports": sum(len(bridge.interfaces) for bridge in bridges),
        "bonds": any(len(port.interfaces) > 1 for bridge in bridges for port in bridge.ports),
    }


def _foresight(record: Json) -> Foresight:
    values: t.Any = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Foresight(**values)


def _homes(record: Json | None) -> Homes | None:
    return Homes(record["before"], record["after"], tuple(record["pods"])) if record else None


def _instance(record: Json) -> Instance:
    return Instance(Process(**record["process"]), tuple(record["argv"]), dict(record["environment"]))


def first_of(instance: Instance, connection: Connection) -> Instance:
    """``instance`` as the next process is to be started; raises ``Refused`` when root must not start one like it.

    An earlier hand-over may have given it a run directory and a database under names that go with the process.
    """
    if instance.doubt:
        raise Refused(
            f"root cannot start another {instance.argv[0]} like the running one", instance.doubt, DOUBTED
        )
    environment = dict(instance.environment)
    if "OVS_RUNDIR" in environment:
        environment["OVS_RUNDIR"] = connection.rundir
    ours = tuple(f"unix:{connection.rundir}{between}" for between in (BESIDE, WITHIN))
    argv = tuple(connection.remote if word.startswith(ours) else word for word in instance.argv)
    return Instance(instance.process, argv, environment)
