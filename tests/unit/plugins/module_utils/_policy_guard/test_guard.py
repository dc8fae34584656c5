# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._policy_guard import agent
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._policy_guard import guard as policy_guard

OWN = "#!/bin/sh\n# of this site\nexit 0\n"


class FakeLauncher:
    """Remembers what runs."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.running: dict[str, list[str]] = {}

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        self.running[name] = list(argv)

    def disarm(self, name: str) -> None:
        self.running.pop(name, None)


class Clock:
    """Hours pass while one sleeps."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


class Bench:
    """A host in a folder, and what it has before the installation."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self.policy = root / "usr/sbin/policy-rc.d"
        self.policy.parent.mkdir(parents=True)
        (root / "etc/systemd/system").mkdir(parents=True)
        self.launcher = FakeLauncher(kind)
        self.guard = policy_guard.PolicyGuard(str(root), t.cast("t.Any", self.launcher), Clock())

    def install(self) -> None:
        """As apt.py does: what was there goes elsewhere."""
        self.policy.unlink(missing_ok=True)
        self.policy.write_bytes(agent.FORBIDDING)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())


@pytest.fixture(params=["systemd", "watcher"])
def bench(request: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(agent, "installers", list)
    return Bench(tmp_path, request.param)


def test_nothing_was_there_and_nothing_is_left(bench: Bench) -> None:
    bench.guard.start()
    bench.install()
    assert bench.guard.due
    assert bench.guard.end()
    assert bench.files() == []
    assert bench.launcher.running == {}


def test_a_policy_of_the_site_comes_back_with_its_mode(bench: Bench) -> None:
    bench.policy.write_text(OWN)
    bench.policy.chmod(0o751)
    bench.guard.start()
    bench.install()
    assert bench.guard.end()
    assert bench.policy.read_text() == OWN
    assert bench.policy.stat().st_mode & 0o7777 == 0o751
    assert bench.files() == ["usr/sbin/policy-rc.d"]


def test_a_link_comes_back_as_a_link(bench: Bench) -> None:
    bench.policy.symlink_to("/etc/alternatives/policy-rc.d")
    bench.guard.start()
    bench.install()
    assert bench.guard.end()
    assert os.readlink(bench.policy) == "/etc/alternatives/policy-rc.d"


def test_an_installation_that_ended_well_is_left_alone(bench: Bench) -> None:
    bench.guard.start()
    bench.policy.write_text(OWN)
    assert not bench.guard.end()
    assert bench.policy.read_text() == OWN


def test_a_site_that_forbids_everything_keeps_that(bench: Bench) -> None:
    bench.install()
    bench.guard.start()
    assert not bench.guard.end()
    assert bench.policy.read_bytes() == agent.FORBIDDING
    assert bench.launcher.running == {}


def test_the_next_run_does_what_a_dead_guard_did_not(bench: Bench) -> None:
    bench.policy.write_text(OWN)
    bench.guard.start()
    bench.install()
    bench.launcher.running.clear()
    bench.guard.start()
    assert bench.policy.read_text() == OWN
    assert list(bench.launcher.running) == [policy_guard.NAME]


@pytest.mark.parametrize("role", ["watch", "boot"])
def test_the_agent_needs_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Started with the arguments that the guard gives it, it leaves the host as it was."""
    bench.policy.write_text(OWN)
    bench.guard.start()
    bench.install()
    working = [[4711], [4711], []]
    monkeypatch.setattr(agent, "installers", lambda: working.pop(0))
    monkeypatch.setattr(agent.time, "sleep", lambda _seconds: None)
    argv = bench.launcher.running[policy_guard.NAME]
    agent.main(role, *argv[argv.index("watch") + 1 :])
    assert bench.policy.read_text() == OWN
    assert bench.files() == ["usr/sbin/policy-rc.d"]
    assert len(working) == (0 if role == "watch" else 3)


def test_the_agent_waits_until_there_is_an_installation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.guard.start()
    naps = iter([lambda: None, bench.install])
    monkeypatch.setattr(agent.time, "sleep", lambda _seconds: next(naps)())
    agent.watch(str(bench.policy), bench.guard.folder)
    assert agent.forbids(str(bench.policy))


def test_an_installation_that_does_not_end_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "installers", lambda: [4711])
    with pytest.raises(TimedOut, match="last seen: the processes 4711"):
        bench.guard.end()


def test_installers_are_known_by_their_environment(tmp_path: Path) -> None:
    """What a user starts of root's programs has his environment, too: its real user is he."""
    for pid, environment, users in (
        ("1", b"A=1\0OVSOPS_INSTALLS=1\0", "0\t0\t0\t0"),
        ("2", b"A=OVSOPS_INSTALLS=1\0", "0\t0\t0\t0"),
        ("4", b"OVSOPS_INSTALLS=1\0", "65534\t65534\t65534\t65534"),
        ("5", b"OVSOPS_INSTALLS=1\0", "65534\t0\t0\t0"),
        ("self", b"", ""),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "environ").write_bytes(environment)
        (tmp_path / pid / "status").write_text(f"Name:\tdpkg\nUid:\t{users}\nGid:\t0\t0\t0\t0\n")
    (tmp_path / "3").mkdir()
    assert agent.installers(str(tmp_path)) == [1]
