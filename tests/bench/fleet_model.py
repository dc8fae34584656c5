# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a few measured rollouts to large ones: what a rollout takes is what the slowest of four things takes; pure.

A batch of the playbook is over when (1) one host has gone through it, from start to end, (2) as often as there are more hosts
than forks, (3) the CPUs have done the work of all hosts of the batch, and (4) the main process of Ansible, which is one thread,
has read all results. Where the hosts are on the same machine as the controller, as in the benchmark, its CPUs have the hosts'
work, too.
"""

from __future__ import annotations

import math
import typing as t


class Costs(t.NamedTuple):
    """In seconds: ``start`` of a run (CPU), and for each host ``controller`` and ``host`` (CPU), ``main`` of the controller's
    (CPU of the one process), and ``alone``, the time from start to end of a single host."""

    start: float
    controller: float
    main: float
    host: float
    alone: float


class Point(t.NamedTuple):
    """A rollout that was measured; all in seconds, see ``fleet.py``."""

    size: int
    elapsed: float
    controller_cpu: float
    main_cpu: float
    hosts_cpu: float


def fit(points: t.Sequence[Point]) -> Costs:
    """The costs out of rollouts of the same kind and different sizes, one of them of a single host."""
    one = next(point for point in points if point.size == 1)
    start, controller = line([(point.size, point.controller_cpu) for point in points])
    __, main = line([(point.size, point.main_cpu) for point in points])
    __, host = line([(point.size, point.hosts_cpu) for point in points])
    return Costs(start, controller, main, host, one.elapsed - start)


def line(points: t.Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The line through ``points`` with the least squares: its value at 0, and how steep it is."""
    across = sum(x for x, __ in points) / len(points)
    up = sum(y for __, y in points) / len(points)
    steep = sum((x - across) * (y - up) for x, y in points) / sum((x - across) ** 2 for x, __ in points)
    return up - steep * across, steep


def batches(serial: str, hosts: int) -> list[int]:
    """The sizes of all batches, as Ansible reads ``serial``: the last size goes on until all hosts are done."""
    sizes = serial.split(",")
    found: list[int] = []
    while left := hosts - sum(found):
        word = sizes[min(len(found), len(sizes) - 1)].strip()
        size = max(1, int(word[:-1]) * hosts // 100) if word.endswith("%") else int(word)
        found.append(min(size, left))
    return found


def seconds(costs: Costs, hosts: int, serial: str, forks: int, cores: int, shared: bool = False) -> float:
    """How long a rollout takes; ``cores`` are the controller's, and with ``shared`` the hosts' as well."""
    work = costs.controller + (costs.host if shared else 0.0)
    waiting = max(0.0, costs.alone - costs.controller - costs.host)
    total = costs.start
    for size in batches(serial, hosts):
        rounds = math.ceil(size / forks)
        computing = max(size * work / cores, size * costs.main)
        total += max(rounds * costs.alone, computing + waiting)
    return total
