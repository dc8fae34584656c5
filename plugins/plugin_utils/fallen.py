# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of this run of Ansible have failed a hand-over, for those that have not begun theirs.

Ansible itself tells a host of a batch only what was known when its batch began the task: with fewer forks than hosts, one that
comes later would begin although the first ones have failed. So it is written down in the run's own directory.
"""

from __future__ import annotations

import json
import os
import typing as t

NAME = "ovsops.hot_upgrade.handovers"


def record(folder: str, host: str, why: str | None) -> None:
    """Note that the host's hand-over has failed, and why; or, with None, that it has begun or gone well."""
    line = json.dumps([host, why]) + "\n"
    descriptor = os.open(
        os.path.join(folder, NAME), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        # One write for a line: those of two processes do not mix.
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def failed(folder: str, hosts: t.Collection[str]) -> dict[str, str]:
    """Which of the ``hosts`` have failed, and why."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    last = dict(json.loads(line) for line in lines)
    return {host: why for host, why in last.items() if why is not None and host in hosts}
