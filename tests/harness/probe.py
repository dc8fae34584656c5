# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traffic probe as its users know it: by its module, its result, and its record of every packet (ovs_traffic_probe)."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import subprocess
import time
import typing as t

from tests.harness import runs
from tests.lab import hosts
from tests.lab.images import LabError

# The namespaces that populate.py makes.
ENDPOINTS = {"sender_namespace": "h1", "receiver_namespace": "h2", "address": "10.0.0.2"}
NAME = "harness"
SENT, ARRIVED = 1, 2
ESTABLISHED, NEW = 0, 1
# Kind, stream, number in the stream, CLOCK_MONOTONIC in nanoseconds: as the agent documents it.
RECORD = struct.Struct("<BBxxIq")

Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Losses:
    """Packets of the probe that were lost or came twice; the longest silence at the receiver, in ms."""

    established: int
    new: int
    duplicates: int
    sent: int
    gap_ms: float

    @classmethod
    def of(cls, result: Json) -> t.Self:
        """From a result of ovs_traffic_probe."""
        streams = result["established"], result["new_flows"]
        return cls(
            streams[0]["lost"],
            streams[1]["lost"],
            sum(stream["duplicated"] for stream in streams),
            sum(stream["sent"] for stream in streams),
            max(stream["longest_gap_ms"] for stream in streams),
        )

    def __str__(self) -> str:
        return (
            f"lost {self.established} established, {self.new} new, {self.duplicates} duplicates of {self.sent}, "
            f"longest gap {self.gap_ms:.0f} ms"
        )


@dataclasses.dataclass
class Probe:
    """A probe while it runs; ``result`` (that of ovs_traffic_probe) when it has ended."""

    result: Json = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def probing(
    lab: hosts.Lab, host: hosts.Host, afterwards: float, name: str = NAME, **settings: t.Any
) -> t.Iterator[Probe]:
    """Send an established flow and new flows from h1 to h2 meanwhile, and so many seconds longer.

    Raises ``LabError`` when the probe does not start or has no result.
    """
    _run(lab, host, name, {"state": "started", **ENDPOINTS, **settings})
    probe = Probe()
    try:
        yield probe
        # What breaks late is seen, too, and nothing tells of that.
        time.sleep(afterwards)
    finally:
        ended = _run(lab, host, name, {"state": "stopped"})
    probe.result = ended["result"]


def _run(lab: hosts.Lab, host: hosts.Host, name: str, arguments: Json) -> Json:
    result = runs.module(lab, host, "ovs_traffic_probe", {"name": name, **arguments})
    if result["failed"]:
        raise LabError(f"the probe cannot be {arguments['state']}: {result['msg']}")
    return result


def events(lab: hosts.Lab, host: hosts.Host) -> list[tuple[int, int, int, int]]:
    """Every packet of the last probe that was sent or has arrived, as ``RECORD`` has it; what was written last may be torn."""
    argv = hosts.ssh_argv(lab, host, "cat", f"/run/ovsops/probe-{NAME}/events.bin")
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))
