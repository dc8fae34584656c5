# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet in a table, with a host that does not answer, and of that one alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness import runs
from tests.lab import hosts
from tests.lab import lab as laboratory


def test_every_host_has_a_line(tmp_path: Path) -> None:
    name = "status"
    gone = {"ovs_hosts": {"hosts": {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 9}}}}
    (tmp_path / "gone.json").write_text(json.dumps(gone))
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "native", 2, "3.5.0")
            hosts.script(
                lab, lab.hosts[1], f"{runs.NO_RESTART}\n{' '.join(runs.install('3.1.0'))} >/dev/null 2>&1"
            )
            argv = runs.playbook_argv(
                [lab.inventory, tmp_path / "gone.json"], {}, playbook="ovsops.hot_upgrade.status"
            )
            done = runs.play(argv)
            limited = runs.play([*argv[:-1], "--limit", "gone", argv[-1]])
        finally:
            hosts.down(name)
    assert done.returncode == limited.returncode == 2
    assert "gone does not answer" in limited.stdout
    assert any(line.strip(' ",').startswith("gone ") for line in limited.stdout.splitlines()), limited.stdout
    assert "host1" not in limited.stdout
    lines = [line.strip(' ",') for line in done.stdout.splitlines()]
    (heading,) = [line for line in lines if line.startswith("HOST ")]
    assert heading.split()[:3] == ["HOST", "RUNS", "ON"]
    first, second, third = (
        next(line for line in lines if line.startswith(f"{host} ")) for host in ("host1", "host2", "gone")
    )
    assert first.split()[1:4] == ["3.5.0", "3.5.0", "4.0.0"]
    assert second.split()[1:3] == ["3.5.0", "3.1.0"]
    assert second.split()[4].startswith("20")
    assert "no answer" in third
