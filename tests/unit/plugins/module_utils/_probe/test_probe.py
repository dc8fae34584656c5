# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import random
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe import agent, probe
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe.around_gap import AroundGap

MS = 1_000_000
SETTINGS = probe.Settings("/proc/self/ns/net", "", "192.0.2.2")


def sent(number: int, at_ms: float, stream: int = agent.ESTABLISHED) -> probe.Event:
    return probe.Event(agent.SENT, stream, number, int(at_ms * MS))


def arrived(number: int, at_ms: float, stream: int = agent.ESTABLISHED) -> probe.Event:
    return probe.Event(agent.ARRIVED, stream, number, int(at_ms * MS))


# --- analysis ---------------------------------------------------------------------------------------


def test_a_stream_without_trouble() -> None:
    events = [event for n in range(5) for event in (sent(n, 5 * n), arrived(n, 5 * n + 1))]
    assert probe.analyse(events, agent.ESTABLISHED, 0) == probe.StreamResult(
        sent=5,
        received=5,
        lost=0,
        duplicated=0,
        refused_by_sender=0,
        longest_gap_ms=5.0,
        longest_outage_ms=0.0,
        longest_send_gap_ms=5.0,
        max_latency_ms=1.0,
        worst_runs=(),
        around_gap=AroundGap(1.0, 5.0, 1, tuple((5.0 * n, 1.0, 0) for n in range(5))),
    )


def test_an_outage_spans_from_the_packet_before_to_the_packet_after() -> None:
    events = [sent(n, 10 * n) for n in range(10)] + [arrived(n, 10 * n + 2) for n in (0, 1, 2, 6, 8, 9)]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert (found.sent, found.received, found.lost) == (10, 6, 4)
    assert found.longest_outage_ms == 40.0
    assert found.longest_gap_ms == 40.0
    assert found.worst_runs == (probe.LossRun(30.0, 3, 40.0), probe.LossRun(70.0, 1, 20.0))


def test_times_count_from_the_start_of_the_probe() -> None:
    events = [sent(0, 1000), sent(1, 1010), sent(2, 1020), arrived(0, 1001), arrived(2, 1021)]
    assert probe.analyse(events, agent.ESTABLISHED, 990 * MS).worst_runs[0].at_ms == 20.0


def test_a_stream_that_dies_is_silent_until_its_last_packet_was_sent() -> None:
    events = [sent(n, 10 * n) for n in range(100)] + [arrived(n, 10 * n) for n in range(3)]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert found.longest_gap_ms == 970.0
    assert found.longest_outage_ms == 970.0


def test_a_stream_that_begins_dead_is_silent_from_its_first_packet() -> None:
    events = [sent(n, 10 * n) for n in range(10)] + [arrived(n, 10 * n) for n in (8, 9)]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert found.longest_gap_ms == 80.0
    assert found.longest_outage_ms == 80.0


def test_packets_that_the_sender_could_not_send_are_lost_and_counted_apart() -> None:
    refused = probe.Event(agent.REFUSED, agent.ESTABLISHED, 1, 10 * MS)
    events = [sent(0, 0), arrived(0, 1), sent(1, 10), refused, sent(2, 20), arrived(2, 21)]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert (found.sent, found.lost, found.refused_by_sender) == (3, 1, 1)


def test_copies_are_duplicates_and_the_first_one_counts_for_latency() -> None:
    events = [sent(0, 0), arrived(0, 9), arrived(0, 3), arrived(0, 30)]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert (found.received, found.duplicated, found.max_latency_ms) == (1, 2, 3.0)


def test_a_pause_of_the_sender_shows_as_one() -> None:
    events = [event for n, at in enumerate((0, 5, 405)) for event in (sent(n, at), arrived(n, at))]
    found = probe.analyse(events, agent.ESTABLISHED, 0)
    assert found.longest_send_gap_ms == found.longest_gap_ms == 400.0
    assert found.longest_outage_ms == 0.0


def test_nothing_sent_is_nothing_lost() -> None:
    found = probe.analyse([sent(0, 1, agent.NEW_FLOW)], agent.ESTABLISHED, 0)
    assert (found.sent, found.lost, found.longest_gap_ms, found.longest_outage_ms) == (0, 0, 0.0, 0.0)


# Per packet: how late each of its copies arrives, in ms.
FATES = st.lists(st.lists(st.integers(0, 900), max_size=3), max_size=60)


@given(FATES, st.integers(0, 2**32), st.sampled_from([agent.ESTABLISHED, agent.NEW_FLOW]))
def test_counts_follow_from_the_fate_of_each_packet(fates: list[list[int]], seed: int, stream: int) -> None:
    events = [sent(n, 5 * n, stream) for n in range(len(fates))]
    events += [arrived(n, 5 * n + late, stream) for n, copies in enumerate(fates) for late in copies]
    noise = [sent(n, n, 1 - stream) for n in range(7)]
    random.Random(seed).shuffle(events)
    found = probe.analyse(events + noise, stream, 0)
    assert found.sent == len(fates)
    assert found.lost == sum(not copies for copies in fates)
    assert found.received == found.sent - found.lost
    assert found.duplicated == sum(len(copies) - 1 for copies in fates if copies)
    assert sum(run.lost for run in found.worst_runs) <= found.lost
    assert all(run.outage_ms <= found.longest_outage_ms for run in found.worst_runs)
    assert (found.lost > 0) == bool(found.worst_runs)
    # Every run has at most the packet before and the one after beside its own.
    assert all(run.outage_ms <= 5 * (run.lost + 1) for run in found.worst_runs)
    assert found.max_latency_ms == max((min(copies) for copies in fates if copies), default=0)


@given(st.binary(max_size=200))
def test_decode_takes_whole_records_only(data: bytes) -> None:
    events = probe.decode(data)
    assert len(events) == len(data) // 16
    again = b"".join(agent.EVENT.pack(e.kind, e.stream, e.sequence, e.when) for e in events)
    assert len(again) == len(events) * 16
    assert probe.decode(again) == events


# --- the agent's schedule ---------------------------------------------------------------------------


class Clock:
    """Stands in for the agent's ``time``: moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(1000, int(seconds * 1_000_000_000))


class Ends:
    """Sender and receiver in one; ``pauses`` maps a packet number to a stall of the process, in ms."""

    def __init__(self, clock: Clock, pauses: dict[int, int]) -> None:
        self.clock = clock
        self.pauses = pauses
        self.times: tuple[list[int], list[int]] = ([], [])
        self.drained: list[int] = []

    def send(self, stream: int, now: int) -> None:
        self.times[stream].append(now)
        if stream == agent.ESTABLISHED:
            self.clock.now += self.pauses.get(len(self.times[stream]), 0) * MS

    def drain(self) -> None:
        self.drained.append(self.clock.now)


def run_agent(
    monkeypatch: pytest.MonkeyPatch, pauses: dict[int, int], stop_after: int | None = None
) -> tuple[str, Ends]:
    clock = Clock()
    monkeypatch.setattr(agent, "time", clock)
    ends = Ends(clock, pauses)
    parameters = agent.Parameters("", "", "192.0.2.2", 1, 200, 40, 2, 1.0, 1.0)

    def stopping() -> bool:
        return stop_after is not None and len(ends.times[0]) >= stop_after

    return agent.send_and_receive(parameters, t.cast(t.Any, ends), t.cast(t.Any, ends), stopping), ends


def test_both_streams_keep_their_rate_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    reason, ends = run_agent(monkeypatch, {})
    assert reason == "max_duration"
    assert [len(times) for times in ends.times] == [400, 80]
    assert ends.times[0][:3] == [0, 5 * MS, 10 * MS]
    assert len(ends.drained) == 39


def test_told_to_stop_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    reason, ends = run_agent(monkeypatch, {}, stop_after=7)
    assert (reason, len(ends.times[0])) == ("stopped", 7)


def test_a_short_delay_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _reason, ends = run_agent(monkeypatch, {100: 30})
    assert len(ends.times[0]) == 400


def test_a_long_pause_is_not_followed_by_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    _reason, ends = run_agent(monkeypatch, {100: 1000})
    after = [moment for moment in ends.times[0] if moment > 1000 * MS]
    assert 95 <= len(after) <= 102
    assert min(b - a for a, b in zip(after[1:], after[2:])) >= 4 * MS


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "a/b", "é", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="Probe name"):
        probe.Probe(name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"address": "h2"}, "IPv4"),
        ({"address": "fd00::1"}, "IPv4"),
        ({"address": "127.0.0.1"}, "unicast"),
        ({"address": "224.0.0.1"}, "unicast"),
        ({"port": 0}, "port=0"),
        ({"port": 65536}, "port=65536"),
        ({"rate": 0}, "rate=0"),
        ({"new_flow_rate": 1001}, "new_flow_rate=1001"),
        ({"max_duration": 0}, "max_duration=0"),
        ({"rate": 2000, "max_duration": 7200}, "MiB"),
        ({"sender_namespace": "ovsops-none"}, "/run/netns/ovsops-none is missing"),
        ({"receiver_namespace": "/proc/self/ns/net"}, "would measure nothing"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(change: dict[str, t.Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        probe.check(dataclasses.replace(SETTINGS, **change))


def test_the_defaults_are_within_the_limits() -> None:
    probe._check_numbers(SETTINGS)


def test_without_a_measurement_there_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(HotUpgradeError, match="has no measurement"):
        probe.ensure("p", "stopped", SETTINGS, check_mode=False, base=str(tmp_path))
    assert probe.ensure("p", "stopped", SETTINGS, check_mode=True, base=str(tmp_path)).result is None
    assert probe.ensure("p", "absent", SETTINGS, check_mode=False, base=str(tmp_path)).before == "absent"
    assert os.listdir(tmp_path) == []


def test_a_killed_agent_is_told_from_a_stopped_one(tmp_path: Path) -> None:
    directory = tmp_path / "probe-p"
    directory.mkdir()
    (directory / "start.json").write_text('{"monotonic_ns": 5000000, "realtime_ns": 1}')
    (directory / "events.bin").write_bytes(agent.EVENT.pack(agent.SENT, 0, 0, 6 * MS) + b"torn")
    outcome = probe.ensure("p", "stopped", SETTINGS, check_mode=False, base=str(tmp_path))
    assert outcome.result is not None
    assert (outcome.before, outcome.result.ended) == ("ended", "killed")
    assert (outcome.result.established.lost, outcome.result.duration_ms) == (1, 1.0)


@contextlib.contextmanager
def being_started(base: Path) -> t.Iterator[probe.Probe]:
    """A probe whose lock somebody holds, who has written no settings yet."""
    one = probe.Probe("x", str(base))
    os.makedirs(one.directory)
    with open(os.path.join(one.directory, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield one


@pytest.mark.parametrize("written", [None, "", '{"addr'])
def test_a_probe_that_is_being_started_is_no_fault_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str | None
) -> None:
    monkeypatch.setattr(probe, "check", lambda settings: None)
    with being_started(tmp_path) as one:
        if written is not None:
            Path(one.directory, "settings.json").write_text(written)
        with pytest.raises(Refused, match="being started by someone else"):
            one.start(SETTINGS)


def test_a_look_is_in_nobodys_way(tmp_path: Path) -> None:
    one = probe.Probe("x", str(tmp_path))
    os.makedirs(one.directory)
    assert not one.running()
    assert os.listdir(one.directory) == []
    with open(os.path.join(one.directory, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert not one.running()
