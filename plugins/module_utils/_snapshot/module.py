# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What the module ovs_flow_snapshot does: its options in, an outcome out."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    NONE,
    Difference,
    Ignore,
    compare,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory as snapshots
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as engine

Values = dict[str, t.Any]


def behave(call: Call) -> Outcome:
    """Do what ``state`` asks for."""
    states = {
        "present": _present,
        "restored": _restored,
        "compared": _compared,
        "verified": _compared,
        "absent": _absent,
    }
    return states[call.params["state"]](call)


def _present(call: Call) -> Outcome:
    connection, path, names = call.connection, call.params["path"], call.params["bridges"] or []
    live = engine.live_bridges(connection, names)
    if _is_current(connection, path, live):
        return _outcome(call, snapshots.read(path), changed=False)
    before = _content(snapshots.read(path)) if snapshots.exists(path) and _is_sound(path) else {}
    if call.check_mode:
        after = {bridge.name: {"flows": engine.count_flows(connection, bridge.name)} for bridge in live}
        return Outcome(True, {"snapshot": path, "bridges": []}, before, after)
    snapshot = engine.take(connection, path, names, call.params["backup_database"])
    return _outcome(call, snapshot, changed=True, before=before, after=_content(snapshot))


def _is_current(connection: Connection, path: str, live: t.Sequence[Bridge]) -> bool:
    """Whether there is a sound snapshot with exactly these bridges and exactly their state of now."""
    if not snapshots.exists(path) or not _is_sound(path):
        return False
    snapshot = snapshots.read(path)
    if [bridge.name for bridge in snapshot.bridges] != [bridge.name for bridge in live]:
        return False
    if any(snapshot.bridge(bridge.name).ofports != bridge.ofports for bridge in live):
        return False
    return not engine.compare(connection, snapshot.states)


def _is_sound(path: str) -> bool:
    try:
        snapshots.read(path)
    except Refused:
        return False
    return True


def _restored(call: Call) -> Outcome:
    connection, params = call.connection, call.params
    # Not at once: the comparison below reads, and checks, every byte before anything changes.
    snapshot = snapshots.read(params["path"], at_once=False)
    saved = _chosen(snapshot, params["bridges"])
    live = _live(connection, saved)
    moved = {} if params["ofports"] == "ignore" else _moved(saved, live)
    if moved and params["ofports"] == "refuse":
        texts = "; ".join(f"{name}: {text}" for name, found in moved.items() for text in found)
        hint = "Set ofports=pin to give the interfaces their old numbers first, or ofports=ignore if no flow uses them"
        raise Refused("the flows of the snapshot are only right with its ofports", texts, hint)
    pin = bool(moved)
    states = {bridge.name: _wanted(snapshot, bridge.name, params["lifetime"]) for bridge in saved}
    ignore = dataclasses.replace(_ignore(params["ignore"]), ports=True)  # No restore adds or deletes ports.
    differences = engine.compare(connection, states, ignore)
    if call.check_mode or not (differences or pin):
        return _outcome(call, snapshot, bool(differences or pin), differences=differences, moved=moved)
    if pin:
        engine.pin_ports(connection, saved)
    with engine.Restoration(
        connection, {name: states[name] for name in (states if pin else differences)}
    ) as restoration:
        restoration.commit()
    lost = engine.restore_learned(connection, saved)
    left = engine.compare(connection, states, ignore)
    outcome = _outcome(call, snapshot, True, differences=differences, moved=moved, not_restored=lost)
    if not left:
        return outcome
    why = "; ".join(f"{name}: {difference}" for name, difference in left.items())
    hint = "Somebody else changes the flows, perhaps a controller: stop it, or set ignore to what may differ"
    error = HotUpgradeError("the bridges differ from the snapshot after the restore", why, hint)
    return dataclasses.replace(outcome, error=error)


def _compared(call: Call) -> Outcome:
    params, connection = call.params, call.connection
    # The comparison reads, and checks, every byte of the bridges that are compared.
    snapshot = snapshots.read(params["path"], at_once=bool(params["bridges"]))
    saved, ignore = _chosen(snapshot, params["bridges"]), _ignore(params["ignore"])
    if params["against"]:
        other = snapshots.read(params["against"])
        moved = _moved(saved, {bridge.name: other.bridge(bridge.name) for bridge in saved})
        pairs = {bridge.name: (snapshot.state(bridge.name), other.state(bridge.name)) for bridge in saved}
        found = {name: compare(*pair, ignore) for name, pair in pairs.items()}
        differences = {name: difference for name, difference in found.items() if not difference.same}
    else:
        moved = _moved(saved, _live(connection, saved))
        differences = engine.compare(
            connection, {bridge.name: snapshot.state(bridge.name) for bridge in saved}, ignore
        )
    outcome = _outcome(call, snapshot, changed=False, differences=differences, moved=moved)
    if params["state"] == "compared" or not (differences or moved):
        return outcome
    what = params["against"] or "the host"
    why = [f"{name}: {text}" for name, texts in moved.items() for text in texts]
    why += [f"{name}: {difference}" for name, difference in differences.items()]
    error = HotUpgradeError(
        f"{what} differs from the snapshot {params['path']}",
        "; ".join(why),
        "The result's differences list them",
    )
    return dataclasses.replace(outcome, error=error)


def _live(connection: Connection, saved: t.Sequence[snapshots.SavedBridge]) -> dict[str, Bridge]:
    names = [bridge.name for bridge in saved]
    return {bridge.name: bridge for bridge in engine.live_bridges(connection, names)}


def _moved(
    saved: t.Sequence[snapshots.SavedBridge], other: t.Mapping[str, engine.Numbered]
) -> dict[str, list[str]]:
    """What ``moved_ports`` says of each bridge; one without such ports is not in the result."""
    found = {bridge.name: engine.moved_ports(bridge, other[bridge.name]) for bridge in saved}
    return {name: texts for name, texts in found.items() if texts}


def _absent(call: Call) -> Outcome:
    path = call.params["path"]
    there = snapshots.exists(path)
    before = _content(snapshots.read(path)) if there and _is_sound(path) else {}
    if there and not call.check_mode:
        snapshots.remove(path)
    return Outcome(there, {"snapshot": path, "bridges": []}, before, {})


def _chosen(snapshot: snapshots.Snapshot, names: t.Sequence[str] | None) -> list[snapshots.SavedBridge]:
    return [snapshot.bridge(name) for name in names] if names else list(snapshot.bridges)


def _wanted(snapshot: snapshots.Snapshot, name: str, lifetime: str) -> flowstate.State:
    state = snapshot.state(name)
    if lifetime == "full":
        return state
    elapsed = datetime.datetime.now(datetime.timezone.utc) - snapshot.taken_at
    return flowstate.remaining(state, elapsed.total_seconds())


def _ignore(options: Values | None) -> Ignore:
    options = options or {}
    flags = {name: bool(options.get(name)) for name in ("cookies", "timeouts", "expiring", "learned")}
    return Ignore(**flags, tables=frozenset(options.get("tables") or ()))


def _content(snapshot: snapshots.Snapshot) -> Values:
    return {bridge.name: bridge.counts for bridge in snapshot.bridges}


def _outcome(
    call: Call,
    snapshot: snapshots.Snapshot,
    changed: bool,
    differences: t.Mapping[str, Difference] | None = None,
    moved: t.Mapping[str, list[str]] | None = None,
    not_restored: t.Sequence[str] = (),
    before: Values | None = None,
    after: Values | None = None,
) -> Outcome:
    values: Values = {
        "snapshot": snapshot.path,
        "taken_at": snapshot.manifest["taken_at"],
        "host": snapshot.manifest["host"],
        "versions": snapshot.manifest["versions"],
        "bridges": [_bridge_values(bridge) for bridge in snapshot.bridges],
    }
    if call.params["return_text"]:
        chosen = _chosen(snapshot, call.params["bridges"])
        values["text"] = {bridge.name: _text(snapshot.state(bridge.name)) for bridge in chosen}
    if differences is None:
        return Outcome(
            changed, values, _content(snapshot) if before is None else before, after or _content(snapshot)
        )
    moved = moved or {}
    texts = {
        name: _difference_values(differences.get(name, NONE), moved.get(name, []))
        for name in sorted(differences.keys() | moved.keys())
    }
    values |= {"matches": not texts, "differences": texts, "not_restored": list(not_restored)}
    missing = {name: found["missing"] for name, found in texts.items()}
    extra = {name: found["extra"] for name, found in texts.items()}
    if call.params["state"] == "restored":
        return Outcome(changed, values, before=extra, after=missing)
    return Outcome(changed, values, before=missing, after=extra)


def _text(state: flowstate.State) -> list[str]:
    return oftext.lines([*wire.each(flowstate.settings_messages(state)), *state.messages()])


def _bridge_values(bridge: snapshots.SavedBridge) -> Values:
    names = (
        "name",
        "datapath_id",
        "datapath_type",
        "openflow_version",
        "ofports",
        "counts",
        "not_carried",
        "file",
    )
    return {name: getattr(bridge, name) for name in names}


def _difference_values(difference: Difference, ports: t.Sequence[str]) -> Values:
    return {
        "ports": list(ports),
        "missing": oftext.lines(difference.missing),
        "extra": oftext.lines(difference.extra),
        "missing_count": difference.missing_count,
        "extra_count": difference.extra_count,
    }
