# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_handover`` does while it is connected: look, plan, hand the work to the engine, wait for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import sync_directory
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    ending,
    executables,
    guard,
    runner,
    shaping,
    supervisors,
    traffic,
    watch,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import (
    unexplained,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.plan import (
    STRATEGIES,
    Facts,
    Plan,
    decide,
    sentences,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.record import report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import (
    Request,
    first_of,
    inventory,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.supervisors import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.counts import count
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_content, service_start
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    Daemon,
    inspect,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    FLOW_RESTORE_WAIT,
    Bridge,
    Connection,
    is_true,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import (
    SCHEMA_FILES,
    disk_schema_version,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import read_database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import links, unit_files
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.likeness import drops
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    doubt_of_directory,
    user_name,
    user_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    FINISHED,
    ROLLED_BACK,
    Json,
    Transaction,
)

PACKAGE = "ansible_collections.ovsops.hot_upgrade.plugins.module_utils"

# How often a hand-over is begun whose preparation somebody's changes of the database overtake.
MOST_TRIES = 3

# How often the service manager is asked whether engine and guard are there, where neither is at work, in seconds.
LOOK_INTERVAL = 1.0

_PROGRAM = b"""import sys
sys.path.insert(0, __file__.rpartition("/")[0])
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.runner import main
main(sys.argv[1:])
"""


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is asked of a hand-over: the options of ``ovs_handover``."""

    strategy: str
    force: bool
    snapshot: str | None
    confirm: str
    confirm_timeout: float
    prove: int
    accept: t.Sequence[str] = ()
    target_version: str | None = None


def hand_over(connection: Connection, wish: Wish, check_mode: bool) -> Outcome:
    """Bring the daemons of this host to the version on the disk, and wait until that is done or undone."""
    facts = look(connection)
    if check_mode and wish.target_version:
        facts = facts.with_version(wish.target_version)
    decision = decide(facts, wish.strategy, wish.force)
    request = requested(connection, facts, decision, wish) if decision.strategy else None
    values: Json = {"plan": request.plan if request else describe(decision, wish.prove)}
    if not decision.needed:
        return Outcome(False, values, decision.before, decision.before)
    if request is None:
        return Outcome(False, values, decision.before, decision.before, _refusal(decision, wish.strategy))
    if check_mode:
        return Outcome(True, values, decision.before, decision.after)
    transaction = _carry_out(connection, request, wish)
    state = transaction.state
    if state == APPLIED:
        transactions.attempt(lambda: lease.renew(transaction))
    if state == APPLIED and wish.confirm == "automatic":
        ending.confirm(transaction)
    values.update(report(transaction))
    if state in (APPLIED, CONFIRMED):
        return Outcome(True, values, decision.before, decision.after)
    return Outcome(True, values, decision.before, decision.before, _failure(values))


def _carry_out(connection: Connection, request: Request, wish: Wish) -> Transaction:
    """Hand over, and once more with a plan of now when somebody's change of the database has overtaken the preparation."""
    for __ in range(MOST_TRIES):
        transaction = begin(request)
        state = wait(transaction)
        overtaken = (transaction.read("result.json") or {}).get(transactions.AGAIN)
        if state != ROLLED_BACK or not overtaken:
            break
        # Not the plan of before: ovsdb-server may be the new one already.
        facts = look(connection)
        decision = decide(facts, wish.strategy, wish.force)
        if decision.strategy is None:
            break
        request = requested(connection, facts, decision, wish)
    return transaction


def end(identifier: str | None, state: str, check_mode: bool) -> Outcome:
    """Confirm a transaction (the one that is not finished), or roll it back; one that is there already stays."""
    transaction = _named(identifier)
    before = transaction.state
    if before == state or check_mode:
        return Outcome(before != state, report(transaction), {"state": before}, {"state": state})
    if state == CONFIRMED:
        _require_alive(transaction)
        ending.confirm(transaction)
    else:
        with transaction.engine():
            ending.roll_back(transaction, "it was asked for")
    values = report(transaction)
    error = _failure(values) if values["state"] == FAILED else None
    return Outcome(True, values, {"state": before}, {"state": values["state"]}, error)


def verify(identifier: str | None) -> Outcome:
    """Account for every difference between what the switch held before the hand-over, and holds now; nothing is changed."""
    transaction = _named(identifier)
    if transaction.state == CONFIRMED:  # somebody else has, and looked before
        return Outcome(False, report(transaction), {}, {})
    if transaction.state != APPLIED:
        raise Refused(
            f"transaction {transaction.id} is {transaction.state}: there is nothing to verify any more",
            "the switch is followed from the snapshot to the confirmation or the way back",
            "The field changes of its result has what was seen up to then",
        )
    with lease.leased(transaction):
        transactions.attempt(lambda: runner.revive(transaction))
        changes = watch.ask(transaction.file(watch.SOCKET))
    transactions.attempt(lambda: transaction.note(changes=changes))
    values = report(transaction)
    fault = unexplained(changes)
    if not fault:
        return Outcome(False, values, {}, {})
    hint = f"Roll back transaction {transaction.id}, or look for who changed the flows and confirm it"
    what = "the switch does not hold what it held, and nobody was seen to change it"
    return Outcome(False, values, {}, {}, HotUpgradeError(what, fault, hint))


def _require_alive(transaction: Transaction) -> None:
    """Raise ``HotUpgradeError`` when a daemon that is to be confirmed is not there any more."""
    ended = ending.ended_since(transaction) if transaction.state == APPLIED else None
    if ended:
        raise HotUpgradeError(
            f"transaction {transaction.id} cannot be confirmed",
            ended,
            "The host goes back to the version before by itself; look into the daemon's log for why it ended",
        )


def _named(identifier: str | None) -> Transaction:
    """The named transaction, else the one that is not finished."""
    transaction = transactions.find(identifier) if identifier else transactions.unfinished()
    if transaction is None:
        raise Refused(
            "there is no hand-over to end on this host",
            "every transaction is finished: it was confirmed, or rolled back by the host itself",
            "Name one with the option transaction to see how it ended",
        )
    return transaction


def settle(identifier: str | None, check_mode: bool, root: str = transactions.ROOT) -> Outcome:
    """Wait until a transaction waits for its confirmation or is finished; what a dead engine has left is undone.

    It is the named one, else the one that is not finished, else the last one; a host without any has nothing to tell.
    The time until it goes back by itself begins anew, since somebody is here now.  What could not be undone is tried once
    more; if it still cannot, the state is ``failed``.
    """
    known = transactions.transactions(root)
    transaction = transactions.find(identifier, root) if identifier else transactions.unfinished(root)
    transaction = transaction or (known[-1] if known else None)
    if transaction is None:
        return Outcome(False, {})
    before = transaction.state
    if not check_mode and not transaction.finished and wait(transaction) == FAILED:
        # What stood in the way may be gone.
        _take_back(transaction)
    if not check_mode and transaction.state == APPLIED:
        lease.renew(transaction)
    values = report(transaction)
    return Outcome(values["state"] != before, values, {"state": before}, {"state": values["state"]})


def look(connection: Connection) -> Facts:
    """The facts that a plan rests on.  Raises ``HotUpgradeError`` when the database does not answer."""
    vswitchd = inspect(VSWITCHD, connection.rundir, connection.timeout)
    server = inspect(OVSDB_SERVER, connection.rundir, connection.timeout)
    database = read_database(connection)
    process = vswitchd.process
    instances = {
        daemon.name: supervisors.inspect(daemon.process) for daemon in (vswitchd, server) if daemon.process
    }
    return Facts(
        vswitchd=vswitchd,
        server=server,
        schema_running=database.schema_version,
        schema_on_disk=disk_schema_version() or database.schema_version,
        bridges=database.bridges,
        other_config=database.other_config,
        flows=_flows(connection, database.bridges) if process else 0,
        memory_available=_kilobytes("/proc/meminfo", "MemAvailable:") << 10,
        memory_vswitchd=_kilobytes(f"/proc/{process.pid}/status", "VmRSS:") << 10 if process else 0,
        foreign_flag=is_true(database.other_config.get(FLOW_RESTORE_WAIT)),
        confined=_confinement(process.pid) if process else None,
        down=frozenset(filter(links.is_down, _cut_off_devices(database.bridges))),
        tracked=_tracked(connection, database.bridges) if process else 0,
        socket_user=_socket_user(server),
        start=_foresight(connection, server, vswitchd),
        groups=traffic.select_groups(connection, database.bridges) if process else (),
        live=traffic.live(connection, database.bridges) if process else None,
        instances=instances,
        distrust=tuple(_distrust(connection.rundir, instances)),
        dropped=_dropped(connection),
        ingress=_ingress(connection),
    )


def _distrust(rundir: str, instances: t.Mapping[str, Instance]) -> t.Iterator[str]:
    """What a hand-over would have to rely on although somebody else than root can change it (docs/security.md)."""
    wrong = doubt_of_directory(os.path.dirname(os.path.realpath(rundir)))
    if wrong:
        yield f"a run directory cannot be made beside {rundir}: {wrong}"
    for name, instance in instances.items():
        if instance.doubt:
            yield f"root cannot start another {name} like the running one: {instance.doubt}"
        user = user_of(instance.process.pid)
        if user and not drops(instance.argv):
            yield (
                f"{name} runs as {user_name(user)}, which it did not become by --user: nothing that is kept for a way back "
                f"could be executed as that user; have it started as root with --ovs-user={user_name(user)} (ovs-ctl)"
            )


def begin(request: Request, root: str = transactions.ROOT) -> Transaction:
    """Write down what is to be done and start the engine; a dead transaction is undone first."""
    clear_away(root)
    with transactions.making(request.json(), root) as transaction:
        lease.renew(transaction)
        _copy_program(transaction)
        runner.start(transaction)
    return transaction


def clear_away(root: str = transactions.ROOT) -> None:
    """Undo what an engine that died has left.  Raises ``Busy`` when one is at work or waits for confirmation."""
    for transaction in transactions.transactions(root):
        if transaction.finished:
            continue
        if transaction.state == APPLIED:
            raise transactions.Busy(transaction)
        _take_back(transaction)
        if transaction.state == FAILED:
            raise Refused(
                "an earlier hand-over could not be undone",
                f"transaction {transaction.id}: {'; '.join((transaction.read('result.json') or {}).get('not_undone', []))}",
                "Mend what it names and start again",
            )


def _take_back(transaction: Transaction) -> None:
    """Roll back one whose engine has died.  Raises ``Busy`` when it is at work, on its way, or has done its work."""
    with transaction.engine():
        if guard.is_coming(transaction, launcher()) or transaction.state == APPLIED:
            raise transactions.Busy(transaction)
        if not transaction.finished:
            ending.roll_back(transaction, guard.DIED)


def wait(transaction: Transaction) -> str:
    """Return the state when the engine has ended its work, however long it takes to come.

    The guard undoes the work of an engine that dies or hangs; when none of the two is there any more, this process does.
    """
    settled = (APPLIED, FAILED, *FINISHED)
    looked, gone = time.monotonic(), 0
    while transaction.state not in settled:
        if transaction.running():
            looked, gone = time.monotonic(), 0
        elif time.monotonic() > looked + LOOK_INTERVAL:
            looked, gone = time.monotonic(), 0 if _is_there() else gone + 1
        # Twice: one that was started again a moment ago, and one that has just moved the state, are there.
        if gone > 1:
            with contextlib.suppress(transactions.Busy):
                _take_back(transaction)
        time.sleep(0.1)
    return transaction.state


def _is_there() -> bool:
    launch = launcher()
    return launch.running(guard.ENGINE) or launch.running(guard.GUARD)


def describe(decision: Plan, prove: int, steps: t.Sequence[str] = ()) -> Json:
    """The plan as JSON; ``steps`` are the names that the timeline will show."""
    return {
        "strategy": decision.strategy,
        "needed": decision.needed,
        "reasons": {name: list(reasons) for name, reasons in decision.refused.items()},
        "warnings": list(decision.warnings),
        "proof": decision.proof if prove else "nothing is proved before the switch-over: prove is 0",
        "before": dict(decision.before),
        "after": dict(decision.after),
        "steps": list(steps),
        "summary": sentences(decision),
    }


def _refusal(decision: Plan, wanted: str) -> Refused:
    """What stands in the way of every strategy is said once, then what else stands in the way of each."""
    reasons = decision.refused if wanted == "auto" else {wanted: decision.refused[wanted]}
    first, *others = reasons.values()
    allowed = [name for name in STRATEGIES if name not in decision.refused]
    shared = [text for text in first if all(text in texts for texts in others)]
    own = {name: [text for text in texts if text not in shared] for name, texts in reasons.items()}
    why = [*shared, *(f"{name}: {', '.join(texts)}" for name, texts in own.items() if texts)]
    hint = (
        f"It allows {', '.join(allowed)}: choose one of these, or auto"
        if allowed
        else "Fix what is named, and start again"
    )
    return Refused(
        f"this host cannot be handed over{'' if wanted == 'auto' else f' by {wanted}'}", "; ".join(why), hint
    )


def _failure(values: Json) -> HotUpgradeError:
    if values["state"] == FAILED:
        return HotUpgradeError(
            "the hand-over failed and could not be undone completely",
            f"{values['reason']}; not undone: {'; '.join(values['not_undone'])}",
            f"Mend what is named, then roll back transaction {values['transaction']} again",
        )
    found = values["measured"] or "nothing: look at the host with ovs_info"
    return HotUpgradeError("the hand-over was taken back", values["reason"], f"Found afterwards: {found}")


def requested(connection: Connection, facts: Facts, decision: Plan, wish: Wish) -> Request:
    """What is to be done where ``facts`` led to the ``decision``, which has a strategy."""
    daemons = {VSWITCHD: facts.vswitchd, OVSDB_SERVER: facts.server}
    request = Request(
        strategy=decision.strategy or "",
        plan={},
        rundir=connection.rundir,
        remote=connection.remote,
        timeout=connection.timeout,
        **inventory(facts.bridges),
        lost_ports=decision.lost_ports,
        userspace=decision.userspace,
        dpdk=decision.dpdk,
        snapshot=wish.snapshot,
        confirm=wish.confirm,
        confirm_timeout=wish.confirm_timeout,
        prove=wish.prove if decision.comparable else 0,
        accept=tuple(wish.accept),
        convert=decision.convert,
        downgrade=decision.downgrade,
        dispatch=decision.dispatch,
        restart_server=decision.restart_server,
        start=decision.start,
        schema=_schema_file() or "",
        vswitchd=first_of(facts.instances[VSWITCHD], connection),
        server=first_of(facts.instances[OVSDB_SERVER], connection),
        supervisors={
            name: supervisors.describe(supervisors.supervisor(daemon), daemon.binary)
            for name, daemon in daemons.items()
        },
        boot=boot_id(),
    )
    steps = [step.name for step in ending.steps_for(request)]
    return dataclasses.replace(request, plan=describe(decision, wish.prove, steps))


def _copy_program(transaction: Transaction) -> None:
    """Copy the code that this process runs, wherever it was loaded from (AnsiballZ imports from a zip file).

    On the disk when this returns: the guard of the next boot runs it after a power loss.
    """
    lib = transaction.file("lib")
    os.mkdir(lib, 0o700)
    directories = {lib}
    for name, source in sorted(_sources().items()):
        *packages, short = name.split(".")
        for depth in range(1, len(packages) + 1):
            directory = os.path.join(lib, *packages[:depth])
            if directory not in directories:
                os.mkdir(directory, 0o700)
                _write(os.path.join(directory, "__init__.py"), b"")
                directories.add(directory)
        _write(os.path.join(lib, *packages, f"{short}.py"), source)
    _write(os.path.join(lib, "run.py"), _PROGRAM)
    for directory in (*directories, transaction.path):
        sync_directory(directory)


def _sources() -> dict[str, bytes]:
    """The engine's modules that this process has imported, by their full names."""
    found = {}
    for name, module in sys.modules.items():
        loader = getattr(module, "__loader__", None)
        # The connected side is not copied, and packages are empty.
        if (
            name.startswith(f"{PACKAGE}._")
            and name != f"{PACKAGE}._ansible"
            and not hasattr(module, "__path__")
        ):
            source = t.cast("t.Any", loader).get_source(name)
            # Ansible's own loader of collections, which ansible-test has, returns bytes.
            found[name] = source if isinstance(source, bytes) else source.encode()
    return found


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _cut_off_devices(bridges: t.Sequence[Bridge]) -> set[str]:
    names = {interface.name for bridge in bridges for interface in bridge.interfaces}
    return {links.device(name) for name in names} - names


def _flows(connection: Connection, bridges: t.Iterable[Bridge]) -> int:
    paths = [management_socket(connection.rundir, bridge.name) for bridge in bridges]
    return sum(counts.flows for counts in side_by_side(lambda path: count(path, connection.timeout), paths))


def _tracked(connection: Connection, bridges: t.Sequence[Bridge]) -> int:
    """How many connections the userspace datapath tracks: the kernel keeps its own (dpctl/ct-stats-show, 2.6)."""
    if all(bridge.datapath_type != "netdev" for bridge in bridges):
        return 0
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), connection.timeout)
    try:
        found = re.search(r"Total: (\d+)", control.call("dpctl/ct-stats-show", "netdev@ovs-netdev"))
    except HotUpgradeError:  # no datapath: nothing is tracked
        return 0
    return int(found.group(1)) if found else 0


def _foresight(connection: Connection, *found: Daemon) -> service_start.Foresight:
    """What starting the services of these daemons would do besides starting them."""
    with connection.open() as database:
        known = service_start.known(database)
    services = [_service(daemon) for daemon in found]
    foreseen = service_start.together(service_start.foresee(service, known) for service in services)
    lost = executables.missing(services)
    return dataclasses.replace(foreseen, refusals=(*lost, *foreseen.refusals))


def _ingress(connection: Connection) -> tuple[str, ...]:
    """The ports with an ingress qdisc that is not Open vSwitch's."""
    with connection.open() as database:
        found = shaping.foreign(database, shaping.shapers())
    return tuple(each.device for each in found if each.ingress)


def _dropped(connection: Connection) -> tuple[str, ...]:
    """What is in the database that the schema on the disk has no place for."""
    path = _schema_file()
    if path is None:
        return ()
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
    with connection.open() as database:
        if database.schema_version == schema["version"]:
            return ()
        return tuple(map(str, database_content.dropped(database_content.read(database), schema)))


def _schema_file() -> str | None:
    """The schema that the packages on the disk bring."""
    paths = (os.path.join("/", name) for name in SCHEMA_FILES)
    return next((path for path in paths if os.path.exists(path)), None)


def _service(daemon: Daemon) -> unit_files.Service | None:
    owner = supervisors.supervisor(daemon) if daemon.running else None
    if not isinstance(owner, supervisors.Systemd):
        return None
    return unit_files.read(owner.unit, ignored=(supervisors.DROP_IN, supervisors.HOLD))


def _socket_user(server: Daemon) -> str | None:
    owner = supervisors.supervisor(server) if server.running else None
    return owner.socket_user if isinstance(owner, supervisors.Systemd) else None


def _kilobytes(path: str, key: str) -> int:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1])
    raise HotUpgradeError(f"{path} has no line {key}", "the kernel is not one that is known")


def _confinement(pid: int) -> str | None:
    """The AppArmor or SELinux label that confines the process (proc_pid_attr(5)), None when none does."""
    label = _first_line(f"/proc/{pid}/attr/current")
    if label.endswith(" (enforce)"):
        return label
    if _first_line("/sys/fs/selinux/enforce") == "1" and "unconfined" not in label:
        return label
    return None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip("\0\n ")
    except OSError:
        return ""
