# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the host of tests/bench/snapshot.py: one operation, timed; prints one line of JSON.

``snapshot`` and ``restore`` are times of whole processes, ``…_engine`` of the calls inside, without the start of
an interpreter.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import typing as t

SNAPSHOT, SCRIPT = "/srv/snapshot", "/srv/restore.sh"
OVS_SAVE = "/usr/share/openvswitch/scripts/ovs-save"


def timed(argv: list[str], **options: t.Any) -> tuple[float, float, bytes]:
    """(seconds, peak memory of the largest process in MB, output) of a process."""
    begin = time.monotonic()
    output = subprocess.run(argv, check=True, stdout=subprocess.PIPE, **options).stdout
    seconds = time.monotonic() - begin
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, output


def ourselves(operation: str, names: list[str]) -> tuple[float, float, dict[str, float]]:
    """This file again as a process of its own, doing ``operation``."""
    seconds, memory, output = timed([sys.executable, __file__, f"{operation}-now", *names])
    return seconds, memory, json.loads(output)


def ovs_save(names: list[str]) -> dict[str, float]:
    """Upstream's way to save; its output is the script that restores."""
    seconds, memory, output = timed([OVS_SAVE, "save-flows", *names])
    with open(SCRIPT, "wb") as file:
        # The script deletes the saved flows as its last act; they are needed for the next repetition.
        file.writelines(line + b"\n" for line in output.splitlines() if not line.startswith(b"rm -rf"))
    return {"snapshot": seconds, "snapshot_memory": memory}


def ovs_restore(names: list[str]) -> dict[str, float]:
    """Upstream's way to restore."""
    return {"restore": timed(["/bin/sh", SCRIPT])[0]}


def take(names: list[str]) -> dict[str, float]:
    """Our snapshot."""
    seconds, memory, inside = ourselves("take", names)
    return {"snapshot": seconds, "snapshot_memory": memory, **inside}


def restore(names: list[str]) -> dict[str, float]:
    """Our restore: stage and commit in one go."""
    seconds, __, inside = ourselves("restore", names)
    return {"restore": seconds, **inside}


def engine() -> t.Any:
    """The engine, imported only where it is measured."""
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as _flow_snapshot

    connection = Connection("/run/openvswitch", "unix:/run/openvswitch/db.sock", 60.0)
    return _flow_snapshot, directory, connection


def take_now(names: list[str]) -> dict[str, float]:
    flow_snapshot, __, connection = engine()
    begin = time.monotonic()
    flow_snapshot.take(connection, SNAPSHOT, names)
    return {"snapshot_engine": time.monotonic() - begin}


def restore_now(names: list[str]) -> dict[str, float]:
    flow_snapshot, snapshots, connection = engine()
    begin = time.monotonic()
    states = snapshots.read(SNAPSHOT, at_once=False).states
    with flow_snapshot.Restoration(connection, states) as restoration:
        restoration.commit()
    return {"restore_engine": time.monotonic() - begin}


def stage_commit(names: list[str]) -> dict[str, float]:
    """The two halves of a restore apart: staging long before, the commit in the window."""
    flow_snapshot, snapshots, connection = engine()
    begin = time.monotonic()
    states = snapshots.read(SNAPSHOT, at_once=False).states
    with flow_snapshot.Restoration(connection, states) as restoration:
        staged = time.monotonic()
        restoration.commit()
        return {"stage": staged - begin, "commit": time.monotonic() - staged}


def verify(names: list[str]) -> dict[str, float]:
    """Our comparison; a difference ends the benchmark."""
    flow_snapshot, snapshots, connection = engine()
    begin = time.monotonic()
    differences = flow_snapshot.compare(connection, snapshots.read(SNAPSHOT, at_once=False).states)
    seconds = time.monotonic() - begin
    if differences:
        sys.exit("; ".join(f"{name}: {difference}" for name, difference in differences.items()))
    return {"verify_engine": seconds}


def floor(names: list[str]) -> dict[str, float]:
    """Send the bytes of a restore, all encoded before the clock starts: only ovs-vswitchd works."""
    __, snapshots, __ = engine()
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow

    states = snapshots.read(SNAPSHOT).states
    connections = [OpenFlow.connect(f"/run/openvswitch/{name}.mgmt") for name in states]
    everything = []
    for of, state in zip(connections, states.values()):
        deletions = wire.delete_flows(of.version, of.xid()) + wire.delete_groups(of.version, of.xid())
        parts = [
            wire.bundle_control(of.version, of.xid(), 1, wire.BUNDLE_OPEN),
            wire.bundled(of.version, 1, deletions),
        ]
        parts += [wire.bundled(of.version, 1, data) for data in state.objects()]
        parts.append(wire.bundle_control(of.version, of.xid(), 1, wire.BUNDLE_COMMIT))
        everything.append(b"".join(parts))
    begin = time.monotonic()
    for of, data in zip(connections, everything):
        errors = of.send([data])
        if errors:
            sys.exit(errors[0].name)
    return {"restore_engine": time.monotonic() - begin}


def floor_snapshot(names: list[str]) -> dict[str, float]:
    """Ask for all flows and drop the answer: only ovs-vswitchd works."""
    engine()
    from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch

    switches = [Switch(f"/run/openvswitch/{name}.mgmt") for name in names]
    begin = time.monotonic()
    for switch in switches:
        for __ in switch.replies():
            pass
    return {"snapshot_engine": time.monotonic() - begin}


OPERATIONS = {
    "ovs-save": ovs_save,
    "ovs-restore": ovs_restore,
    "take": take,
    "restore": restore,
    "take-now": take_now,
    "restore-now": restore_now,
    "stage-commit": stage_commit,
    "verify": verify,
    "floor": floor,
    "floor-snapshot": floor_snapshot,
}

if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    print(json.dumps(OPERATIONS[sys.argv[1]](sys.argv[2:])))
