# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The traffic probe: start, stop and evaluate the agent that measures a host during an upgrade.

A probe is one directory, ``<base>/probe-<name>/`` (0700): the agent's program and
parameters, what it recorded, and ``lock``: an agent runs exactly as long as it holds
the flock on that file, whose content is its pid. The record format is described in
``agent.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import inspect
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import try_lock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe import agent
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe.around_gap import (
    AroundGap,
    around_gap,
)

BASE = "/run/ovsops"
WARM_UP = 5.0
DRAIN = 1.0
_MAX_RECORDED = 128 << 20
_WORST_RUNS = 10
_MILLISECOND = 1_000_000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure; the module's options, which document them."""

    sender_namespace: str
    receiver_namespace: str
    address: str
    port: int = 47000
    rate: int = 200
    new_flow_rate: int = 40
    max_duration: int = 900


@dataclasses.dataclass(frozen=True)
class LossRun:
    """Consecutive lost packets; times in milliseconds, ``at_ms`` since the start of the probe.

    ``outage_ms`` is the time between the sending of the packets around the run.
    """

    at_ms: float
    lost: int
    outage_ms: float


@dataclasses.dataclass(frozen=True)
class StreamResult:
    """One stream in numbers; a gap is silence at the receiver, an outage is silence that lost packets."""

    sent: int
    received: int
    lost: int
    duplicated: int
    refused_by_sender: int
    longest_gap_ms: float
    longest_outage_ms: float
    longest_send_gap_ms: float
    max_latency_ms: float
    worst_runs: tuple[LossRun, ...]
    around_gap: AroundGap


@dataclasses.dataclass(frozen=True)
class Result:
    """Both streams; ``ended`` is stopped, max_duration or killed; the module's RETURN documents all."""

    ended: str
    started_monotonic_us: int
    duration_ms: float
    receiver_dropped: int
    last_error: str
    established: StreamResult
    new_flows: StreamResult
    events: str


@dataclasses.dataclass(frozen=True)
class Event:
    """One record: kind and stream as in the agent, sequence number, nanoseconds of CLOCK_MONOTONIC."""

    kind: int
    stream: int
    sequence: int
    when: int


def decode(data: bytes) -> list[Event]:
    """Decode the content of ``events.bin``; an incomplete last record (a killed agent) is left out."""
    whole = len(data) - len(data) % agent.EVENT.size
    return [Event(*fields) for fields in agent.EVENT.iter_unpack(data[:whole])]


def analyse(events: t.Iterable[Event], stream: int, start: int) -> StreamResult:
    """Evaluate one stream; ``start`` is the probe's start in monotonic nanoseconds.

    A stream that dies and never comes back has a gap and an outage up to its last sent packet.
    """
    sent: dict[int, int] = {}
    arrived: dict[int, int] = {}
    arrivals: list[int] = []
    refused = 0
    for event in events:
        if event.stream != stream:
            continue
        if event.kind == agent.SENT:
            sent[event.sequence] = event.when
        elif event.kind == agent.ARRIVED:
            arrivals.append(event.when)
            arrived[event.sequence] = min(event.when, arrived.get(event.sequence, event.when))
        else:
            refused += 1
    order = sorted(sent)
    runs = sorted(_loss_runs(order, sent, arrived, start), key=lambda run: -run.outage_ms)
    sending = [sent[number] for number in order]
    received = sum(number in arrived for number in order)
    sending_gap = _longest_gap(sending)
    gap = _longest_gap(sending[:1] + sorted(arrivals) + sending[-1:])
    return StreamResult(
        sent=len(sent),
        received=received,
        lost=len(sent) - received,
        duplicated=len(arrivals) - len(arrived),
        refused_by_sender=refused,
        longest_gap_ms=_ms(gap[1] - gap[0]),
        longest_outage_ms=max((run.outage_ms for run in runs), default=0.0),
        longest_send_gap_ms=_ms(sending_gap[1] - sending_gap[0]),
        max_latency_ms=_ms(max((arrived[n] - sent[n] for n in arrived if n in sent), default=0)),
        worst_runs=tuple(runs[:_WORST_RUNS]),
        around_gap=around_gap(sent, arrived, gap, start),
    )


def _loss_runs(
    order: t.Sequence[int], sent: t.Mapping[int, int], arrived: t.Container[int], start: int
) -> t.Iterator[LossRun]:
    """Yield the runs of lost packets in the order of sending."""
    position = 0
    while position < len(order):
        if order[position] in arrived:
            position += 1
            continue
        first = position
        while position < len(order) and order[position] not in arrived:
            position += 1
        before = sent[order[max(first - 1, 0)]]
        after = sent[order[min(position, len(order) - 1)]]
        yield LossRun(_ms(sent[order[first]] - start), position - first, _ms(after - before))


def _longest_gap(moments: t.Sequence[int]) -> tuple[int, int]:
    """Its begin and its end; both are the same moment where there are not two."""
    pairs = zip(moments, moments[1:])
    return max(
        pairs, key=lambda pair: pair[1] - pair[0], default=(moments[0], moments[0]) if moments else (0, 0)
    )


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / _MILLISECOND, 3)


class Probe:
    """One probe on this host, by name."""

    def __init__(self, name: str, base: str = BASE) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise Refused(
                f"Probe name {name!r} is not usable",
                "it becomes a directory name",
                "Use up to 64 letters, digits, '-' and '_'.",
            )
        self.name = name
        self.directory = os.path.join(base, f"probe-{name}")

    def state(self) -> str:
        """Tell whether the probe is absent, running or ended (it has a result)."""
        if not os.path.isdir(self.directory):
            return "absent"
        return "running" if self.running() else "ended"

    def running(self) -> bool:
        """Tell whether an agent is at work, or being started."""
        try:
            # Shared: those who only look are not in each other's way.
            with self._lock(fcntl.LOCK_SH) as held:
                return not held
        except FileNotFoundError:
            return False

    def needs_start(self, settings: Settings) -> bool:
        """Tell whether ``start`` would start an agent; raises Refused for what cannot be started."""
        check(settings)
        if not self.running():
            return True
        running = self._settings()
        if running is None:
            raise self._being_started()
        if running == settings:
            return False
        theirs, ours = dataclasses.asdict(running), dataclasses.asdict(settings)
        differences = ", ".join(
            f"{key} {theirs[key]!r} (asked: {ours[key]!r})" for key in ours if theirs[key] != ours[key]
        )
        raise Refused(
            f"Probe {self.name!r} is already running with other parameters",
            f"it has {differences}",
            "Stop it first (state=stopped), or give this one another name and port.",
        )

    def start(self, settings: Settings) -> bool:
        """Start measuring; return True once a packet of both streams has crossed, False if it was running.

        A finished measurement of the same name is replaced. Raises Refused or HotUpgradeError.
        """
        if not self.needs_start(settings):
            return False
        os.makedirs(os.path.dirname(self.directory), mode=0o700, exist_ok=True)
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with self._lock(fcntl.LOCK_EX) as held:
            if not held:
                raise self._being_started()
            try:
                # The pid of an earlier agent is somebody else's by now.
                os.ftruncate(held.descriptor, 0)
                self._launch(settings, held.descriptor)
            except BaseException:
                self._kill()
                shutil.rmtree(self.directory)
                raise
        return True

    def stop(self) -> bool:
        """End the measurement, keep what it recorded; return whether it was running."""
        if not self.running():
            return False
        # The agent may end by itself, or be about to write its pid, at this very moment.
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(self._pid(), signal.SIGTERM)
        if not self._wait_until_ended(DRAIN + 10):
            self._kill()
            self._wait_until_ended(10)
        return True

    def remove(self) -> bool:
        """Stop the probe and delete its directory; return whether there was one."""
        if self.state() == "absent":
            return False
        self.stop()
        shutil.rmtree(self.directory)
        return True

    def result(self) -> Result:
        """Evaluate what was recorded; raises HotUpgradeError when there is nothing."""
        try:
            with open(self._path("events.bin"), "rb") as file:
                events = decode(file.read())
            start = self._json("start.json")["monotonic_ns"]
        except FileNotFoundError as error:
            raise HotUpgradeError(
                f"Probe {self.name!r} has no measurement on this host",
                f"{error.filename} is missing",
                "Start it with state=started before the change that is to be measured.",
            ) from error
        end = self._end()
        return Result(
            ended=end["reason"],
            started_monotonic_us=start // 1000,
            duration_ms=_ms(max((event.when for event in events), default=start) - start),
            receiver_dropped=end["receiver_dropped"],
            last_error=end["last_error"],
            established=analyse(events, agent.ESTABLISHED, start),
            new_flows=analyse(events, agent.NEW_FLOW, start),
            events=self._path("events.bin"),
        )

    def _being_started(self) -> Refused:
        return Refused(
            f"Probe {self.name!r} is being started by someone else",
            f"{self._path('lock')} is locked",
            "Run this task again: it accepts a probe that runs with the same parameters.",
        )

    def _launch(self, settings: Settings, lock: int) -> None:
        for entry in os.listdir(self.directory):
            if entry != "lock":
                os.unlink(self._path(entry))
        self._write("probe.py", inspect.getsource(agent))
        self._write("settings.json", json.dumps(dataclasses.asdict(settings)))
        self._write("parameters.json", json.dumps(_agent_parameters(settings)._asdict()))
        receiving, sending = os.pipe()
        with open(receiving, "rb", buffering=0) as ready:
            with self._create("log") as log, open(sending, "wb"):
                subprocess.run(
                    [sys.executable, "-I", self._path("probe.py"), self.directory, str(lock), str(sending)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=(lock, sending),
                    check=True,
                )
            answer = self._answer(ready)
        if answer.get("silent"):
            raise Refused(
                f"Probe {self.name!r} was not started: within {WARM_UP:g} s, no packet of the stream "
                f"{' and '.join(answer['silent'])} arrived",
                f"sender in {_spoken(settings.sender_namespace)}, receiver {settings.address} "
                f"in {_spoken(settings.receiver_namespace)}"
                + (f", the sender's kernel said: {answer['error']}" if answer["error"] else ""),
                "Check the addresses, the routes, the links and the flows between both ends with ping.",
            )
        if answer:
            raise Refused(
                f"Probe {self.name!r} was not started",
                answer["error"],
                f"Address {settings.address} must belong to {_spoken(settings.receiver_namespace)} "
                f"and UDP port {settings.port} must be free there.",
            )

    def _answer(self, ready: t.BinaryIO) -> dict[str, t.Any]:
        """Read the agent's one line."""
        deadline = time.monotonic() + WARM_UP + 25
        line = b""
        while not line.endswith(b"\n"):
            due = readable([ready.fileno()], deadline - time.monotonic())
            block = ready.read(4096) if due else b""
            if not block:
                with open(self._path("log"), errors="replace") as log:
                    raise HotUpgradeError(
                        f"The agent of probe {self.name!r} did not start",
                        log.read().strip() or "it said nothing in time",
                        f"Run it by hand: {sys.executable} -I {self._path('probe.py')}.",
                    )
            line += block
        return t.cast("dict[str, t.Any]", json.loads(line))

    @contextlib.contextmanager
    def _lock(self, kind: int) -> t.Iterator[_Lock | None]:
        """Hold the lock of the directory, or yield None when an agent or a starter holds it.

        ``kind`` is LOCK_EX, or LOCK_SH for a look: it keeps no other look away, and makes no file.
        Raises FileNotFoundError where there is none to look at.
        """
        create = os.O_CREAT if kind == fcntl.LOCK_EX else 0
        descriptor = os.open(self._path("lock"), os.O_RDWR | create | os.O_CLOEXEC, 0o600)
        try:
            # A starter that failed has removed the directory, with the file that was locked here.
            ours = try_lock(descriptor, kind) and os.fstat(descriptor).st_nlink
            yield _Lock(descriptor) if ours else None
        finally:
            os.close(descriptor)

    def _wait_until_ended(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(self._pid(), signal.SIGKILL)

    def _pid(self) -> int:
        with open(self._path("lock")) as file:
            return int(file.read())

    def _settings(self) -> Settings | None:
        """The settings of the agent at work; None while one is being started, which writes them."""
        try:
            return Settings(**self._json("settings.json"))
        except (FileNotFoundError, ValueError):
            return None

    def _end(self) -> dict[str, t.Any]:
        try:
            return self._json("end.json")
        except FileNotFoundError:
            return {"reason": "killed", "receiver_dropped": 0, "last_error": ""}

    def _json(self, name: str) -> dict[str, t.Any]:
        with open(self._path(name)) as file:
            return t.cast("dict[str, t.Any]", json.load(file))

    def _create(self, name: str) -> t.TextIO:
        return open(
            os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w"
        )

    def _write(self, name: str, content: str) -> None:
        with self._create(name) as file:
            file.write(content)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


@dataclasses.dataclass(frozen=True)
class _Lock:
    descriptor: int


@dataclasses.dataclass(frozen=True)
class Ensured:
    """What ``ensure`` found and left: absent, running or ended; the result where one was asked for."""

    before: str
    after: str
    directory: str
    result: Result | None = None


def ensure(name: str, state: str, settings: Settings, check_mode: bool, base: str = BASE) -> Ensured:
    """Bring probe ``name`` to ``state`` (started, stopped, absent); with ``check_mode`` only tell.

    Raises Refused for what cannot be started and HotUpgradeError where nothing was measured.
    """
    probe = Probe(name, base)
    before = probe.state()
    if state == "started":
        if probe.needs_start(settings) and not check_mode:
            probe.start(settings)
        return Ensured(before, "running", probe.directory)
    if state == "absent":
        if not check_mode:
            probe.remove()
        return Ensured(before, "absent", probe.directory)
    if check_mode:
        result = probe.result() if before == "ended" else None
        return Ensured(before, "absent" if before == "absent" else "ended", probe.directory, result)
    probe.stop()
    return Ensured(before, "ended", probe.directory, probe.result())


def check(settings: Settings) -> None:
    """Raise Refused for settings that cannot be measured on this host."""
    _check_numbers(settings)
    files = [_namespace_file(settings.sender_namespace), _namespace_file(settings.receiver_namespace)]
    sender, receiver = (_inode(path) for path in files)
    if sender == receiver:
        raise Refused(
            "The traffic probe would measure nothing",
            f"sender and receiver are both in {_spoken(settings.sender_namespace)}: "
            "their packets would not cross a bridge",
            "Give each end a network namespace of its own, attached to the bridge.",
        )


def _check_numbers(settings: Settings) -> None:
    hint = "Give the address that the receiver's end has in its namespace."
    try:
        address = ipaddress.IPv4Address(settings.address)
    except ValueError as error:
        raise Refused(
            f"{settings.address!r} is no address for the receiver",
            "an IPv4 address is needed",
            hint,
        ) from error
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise Refused(f"{settings.address} is no address for the receiver", "it is not unicast", hint)
    limits = {"port": 65535, "rate": 2000, "new_flow_rate": 1000, "max_duration": 86400}
    for key, limit in limits.items():
        value = getattr(settings, key)
        if not 1 <= value <= limit:
            raise Refused(
                f"{key}={value} is out of range", f"1 to {limit} is possible", f"Choose {key} in that range."
            )
    # One SENT and one ARRIVED record for each packet, in a tmpfs.
    recorded = 2 * agent.EVENT.size * (settings.rate + settings.new_flow_rate) * settings.max_duration
    if recorded > _MAX_RECORDED:
        raise Refused(
            "The traffic probe would record too much",
            f"{settings.rate} + {settings.new_flow_rate} packets/s for {settings.max_duration} s are "
            f"{recorded >> 20} MiB in {BASE}, {_MAX_RECORDED >> 20} MiB are allowed",
            "Lower max_duration or the rates.",
        )


def _namespace_file(name: str) -> str:
    """'' is the namespace of this process, a name lives in /run/netns (ip-netns(8)), a path is itself."""
    if not name:
        return ""
    return name if name.startswith("/") else os.path.join("/run/netns", name)


def _inode(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path or "/proc/self/ns/net")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        raise Refused(
            "A network namespace of the traffic probe does not exist",
            f"{path} is missing",
            "`ip netns list` shows the names there are; a path such as /proc/PID/ns/net works too.",
        ) from error
    return found.st_dev, found.st_ino


def _agent_parameters(settings: Settings) -> agent.Parameters:
    return agent.Parameters(
        sender=_namespace_file(settings.sender_namespace),
        receiver=_namespace_file(settings.receiver_namespace),
        address=settings.address,
        port=settings.port,
        rate=settings.rate,
        new_flow_rate=settings.new_flow_rate,
        max_duration=settings.max_duration,
        warm_up=WARM_UP,
        drain=DRAIN,
    )


def _spoken(namespace: str) -> str:
    return f"network namespace {namespace!r}" if namespace else "the host's own network namespace"
