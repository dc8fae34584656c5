# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import os
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import detached as deadman
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed

ODD = ['a "b" $(touch x)', "%h", "${HOME}", "back\\slash", "two\nlines", "'"]


class Systemd:
    """systemctl and systemd-run as far as the launcher uses them; ``active`` are the units that are."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.commands: list[list[str]] = []
        self.broken = False

    def __call__(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        words = list(argv)
        if words[:2] == ["systemctl", "is-active"]:
            on = words[2] in self.active
            return Completed(0 if on else 3, "active\n" if on else "inactive\n", "")
        self.commands.append(words)
        if self.broken:
            return Completed(1, "", "Failed to connect to bus")
        if words[0] == "systemd-run":
            name = next(word for word in words if word.startswith("--unit=")).partition("=")[2]
            timed = any(word.startswith("--on-active") for word in words)
            self.active.add(f"{name}.timer" if timed else f"{name}.service")
        if words[:2] == ["systemctl", "stop"]:
            self.active.discard(words[2])
        return Completed(0, "", "")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def launcher(tmp_path: Path, systemd: Systemd) -> deadman.SystemdLauncher:
    return deadman.SystemdLauncher(str(tmp_path), systemd)


def test_the_launcher_of_a_host(tmp_path: Path) -> None:
    assert deadman.launcher(str(tmp_path)).kind == "watcher"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert deadman.launcher(str(tmp_path)).kind == "systemd"


# --- systemd ----------------------------------------------------------------------------------------


def test_armed_under_systemd(launcher: deadman.SystemdLauncher, systemd: Systemd, tmp_path: Path) -> None:
    armed = launcher.arm("rollback", 60, ["/usr/bin/python3", "a $(b) ${HOME}"])
    (command,) = systemd.commands
    assert command[0] == "systemd-run"
    assert {"--unit=ovsops-rollback", "--on-active=60.000s", "--collect"} <= set(command)
    assert {"--property=Restart=on-failure", "--property=StartLimitIntervalSec=0"} <= set(command)
    assert command[-2:] == ["/usr/bin/python3", "a $$(b) $${HOME}"]
    assert launcher.armed("rollback") == armed
    assert (armed.seconds, armed.by) == (60, "systemd")
    record = tmp_path / "run/ovsops/rollback.armed"
    assert record.stat().st_mode & 0o777 == 0o600
    assert record.parent.stat().st_mode & 0o777 == 0o700


def test_once_started_it_is_armed_no_more(launcher: deadman.SystemdLauncher, systemd: Systemd) -> None:
    launcher.arm("rollback", 60, ["/bin/true"])
    systemd.active.add("ovsops-rollback.service")
    assert launcher.armed("rollback") is None
    assert launcher.running("rollback")


def test_disarming_stops_the_timer_before_the_service(
    launcher: deadman.SystemdLauncher, systemd: Systemd
) -> None:
    launcher.arm("rollback", 60, ["/bin/true"])
    systemd.active.add("ovsops-rollback.service")
    systemd.commands.clear()
    launcher.disarm("rollback")
    assert systemd.commands == [
        ["systemctl", "stop", "ovsops-rollback.timer"],
        ["systemctl", "stop", "ovsops-rollback.service"],
    ]
    assert launcher.armed("rollback") is None


@pytest.mark.parametrize("gone", [True, False])
def test_a_unit_that_ends_by_itself_just_now_is_no_fault(
    launcher: deadman.SystemdLauncher, systemd: Systemd, gone: bool
) -> None:
    systemd.active = {"ovsops-rollback.service"}

    def run(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        if argv[1] != "stop":
            return systemd(argv, timeout)
        systemd.active.difference_update(systemd.active if gone else ())
        return Completed(5, "", "Unit ovsops-rollback.service not loaded.")

    late = deadman.SystemdLauncher(launcher.root, run)
    if gone:
        late.disarm("rollback")
        return
    with pytest.raises(HotUpgradeError, match="does not stop"):
        late.disarm("rollback")


def test_disarming_what_is_not_there(launcher: deadman.SystemdLauncher, systemd: Systemd) -> None:
    launcher.disarm("rollback")
    assert systemd.commands == []


@pytest.mark.parametrize("suffix", ["timer", "service"])
def test_a_second_one_is_refused(launcher: deadman.SystemdLauncher, systemd: Systemd, suffix: str) -> None:
    systemd.active.add(f"ovsops-rollback.{suffix}")
    with pytest.raises(Refused, match="ovsops-rollback is armed or at work already"):
        launcher.arm("rollback", 60, ["/bin/true"])
    with pytest.raises(Refused):
        launcher.start("rollback", ["/bin/true"])
    assert systemd.commands == []


def test_a_systemd_that_does_not_answer(launcher: deadman.SystemdLauncher, systemd: Systemd) -> None:
    systemd.broken = True
    with pytest.raises(HotUpgradeError, match="systemd-run.* failed with status 1: Failed to connect to bus"):
        launcher.arm("rollback", 60, ["/bin/true"])
    assert launcher.armed("rollback") is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "x" * 101])
def test_names_that_are_no_unit(launcher: deadman.SystemdLauncher, name: str) -> None:
    with pytest.raises(ValueError, match="unit name"):
        launcher.start(name, ["/bin/true"])


def test_when_it_expires_is_told_by_the_wall_clock_of_now(
    launcher: deadman.SystemdLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = launcher.arm("rollback", 60, ["/bin/true"])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)  # the clock is set
    assert 3600 < armed.expires - now <= 3660


# --- watcher ----------------------------------------------------------------------------------------

TELL = """
import json, os, signal, sys
with open(sys.argv[1], "w") as pipe:
    json.dump({"words": sys.argv[2:], "session": os.getsid(0), "parent": os.getppid(), "pid": os.getpid()}, pipe)
signal.pause()
"""


@pytest.fixture
def watcher(tmp_path: Path) -> t.Iterator[deadman.WatcherLauncher]:
    """A launcher whose processes end with the test, also when it fails."""
    watcher = deadman.WatcherLauncher(str(tmp_path))
    yield watcher
    watcher.disarm("rollback")


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe: opening it for reading waits until the program writes."""
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def told(pipe: str) -> dict[str, t.Any]:
    with open(pipe) as file:
        return t.cast("dict[str, t.Any]", json.load(file))


def test_the_watcher_becomes_the_program_when_its_time_has_come(
    watcher: deadman.WatcherLauncher, pipe: str
) -> None:
    armed = watcher.arm("rollback", 0.2, [sys.executable, "-c", TELL, pipe, *ODD])
    assert (armed.seconds, armed.by) == (0.2, "watcher")
    message = told(pipe)
    assert message["words"] == ODD
    assert message["session"] != os.getsid(0)
    assert message["parent"] != os.getpid()
    assert watcher.armed("rollback") is None
    assert watcher.running("rollback")
    with pytest.raises(Refused, match=f"process {message['parent']}"):
        watcher.start("rollback", ["/bin/true"])
    watcher.disarm("rollback")
    assert not watcher.running("rollback")
    # Whether init has reaped it yet does not matter.
    assert deadman.identify(message["pid"]) is None


def test_a_disarmed_watcher_never_starts_the_program(
    watcher: deadman.WatcherLauncher, tmp_path: Path
) -> None:
    armed = watcher.arm("rollback", 3600, ["/bin/false"])
    assert watcher.armed("rollback") == armed
    assert not watcher.running("rollback")
    with pytest.raises(Refused, match="armed or at work already"):
        watcher.arm("rollback", 60, ["/bin/true"])
    assert watcher.armed("rollback") == armed
    watcher.disarm("rollback")
    assert watcher.armed("rollback") is None
    assert os.listdir(tmp_path / "run/ovsops") == []
    watcher.disarm("rollback")


def test_a_watcher_that_is_about_to_become_its_program_is_armed(
    watcher: deadman.WatcherLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment the kernel shows no command line of a process in execve(2)."""
    shown, real = [b"", b"", deadman._SLEEPER.encode() + b"\0"], t.cast("t.Any", open)

    def opened(path: t.Any, *mode: str, **more: t.Any) -> t.Any:
        if str(path).endswith("/cmdline"):
            return io.BytesIO(shown.pop(0))
        return real(path, *mode, **more)

    armed = watcher.arm("later", 3600.0, ["/bin/true"])
    with monkeypatch.context() as patched:
        patched.setattr(deadman, "open", opened, raising=False)
        assert watcher.armed("later") == armed
    watcher.disarm("later")


def test_started_at_once(watcher: deadman.WatcherLauncher, pipe: str) -> None:
    watcher.start("rollback", [sys.executable, "-c", TELL, pipe, *ODD])
    assert told(pipe)["words"] == ODD
    assert watcher.running("rollback")
    watcher.disarm("rollback")


def test_a_watcher_that_was_killed_is_armed_no_more(watcher: deadman.WatcherLauncher, tmp_path: Path) -> None:
    watcher.arm("rollback", 3600, ["/bin/false"])
    record = json.loads((tmp_path / "run/ovsops/rollback.armed").read_text())
    assert deadman.terminate(deadman.Process(*record["process"]))
    assert watcher.armed("rollback") is None
    watcher.arm("rollback", 3600, ["/bin/false"])
    watcher.disarm("rollback")


COUNT = """
import os, sys
count = len(open(sys.argv[1]).read()) if os.path.exists(sys.argv[1]) else 0
open(sys.argv[1], "a").write("x")
if count < 2:
    os.kill(os.getpid(), 9 if count else 15)
open(sys.argv[2], "w").write("done")
sys.exit(int(sys.argv[3]))
"""


@pytest.mark.parametrize("status", [0, 2], ids=["done", "the program is not there"])
def test_a_program_that_was_killed_is_started_again_until_it_ends_well(
    watcher: deadman.WatcherLauncher, tmp_path: Path, pipe: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        deadman, "_KEEPER", deadman._KEEPER.replace(f"time.sleep({deadman._PAUSE})", "time.sleep(0)")
    )
    watcher.start("rollback", [sys.executable, "-c", COUNT, str(tmp_path / "count"), pipe, str(status)])
    with open(pipe) as file:
        assert file.read() == "done"
    record = tmp_path / "run/ovsops/rollback.armed"
    end = time.monotonic() + 30
    while record.exists() or watcher.running("rollback"):
        assert time.monotonic() < end, "nothing is left of one that has ended"
    assert (tmp_path / "count").read_text() == "xxx"


def test_a_keeper_that_cannot_end_its_program_is_ended_with_it(
    watcher: deadman.WatcherLauncher, pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TELL
    watcher.start("rollback", [sys.executable, "-c", deaf, pipe])
    pid = told(pipe)["pid"]
    real = deadman.terminate
    monkeypatch.setattr(deadman, "terminate", lambda process, number=15: real(process, number, 0.2))
    watcher.disarm("rollback")
    end = time.monotonic() + 30
    while deadman.identify(pid) is not None:
        assert time.monotonic() < end


# --- boot guard -------------------------------------------------------------------------------------


@pytest.fixture
def guard(tmp_path: Path) -> deadman.BootGuard:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/ovs-vswitchd.service").touch()
    return deadman.BootGuard("restore", str(tmp_path))


def test_the_guard_runs_before_vswitchd_at_the_next_boot_only(
    guard: deadman.BootGuard, tmp_path: Path
) -> None:
    assert not guard.installed()
    guard.install("100% sure", ["/usr/bin/python3", *ODD])
    assert guard.installed()
    unit = Path(guard.unit_file).read_text()
    assert "Description=100%% sure\n" in unit
    assert "\nBefore=ovs-vswitchd.service " in unit
    assert f"\nConditionPathExists=!{tmp_path}/run/ovsops/restore.this-boot\n" in unit
    assert f"\nConditionPathExists={guard.unit_file}\n" in unit
    assert (
        '\nExecStart="/usr/bin/python3" "a \\"b\\" $$(touch x)" "%%h" "$${HOME}" "back\\\\slash" "two\\nlines" "\'"\n'
    ) in unit
    assert (tmp_path / "run/ovsops/restore.this-boot").exists()
    link = tmp_path / "etc/systemd/system/ovs-vswitchd.service.wants/ovsops-restore-boot.service"
    assert os.path.samefile(link, guard.unit_file)


def test_without_a_unit_of_vswitchd_the_boot_target_wants_it(
    guard: deadman.BootGuard, tmp_path: Path
) -> None:
    (tmp_path / "usr/lib/systemd/system/ovs-vswitchd.service").unlink()
    guard.install("x", ["/bin/true"])
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/ovsops-restore-boot.service"
    assert os.path.samefile(link, guard.unit_file)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_stays(guard: deadman.BootGuard, tmp_path: Path) -> None:
    (tmp_path / "run/ovsops").mkdir(parents=True)
    before = everything(tmp_path)
    guard.install("x", ["/bin/true"])
    guard.install("x", ["/bin/true"])
    guard.remove()
    guard.remove()
    assert everything(tmp_path) == before


def test_wants_of_others_stay(guard: deadman.BootGuard, tmp_path: Path) -> None:
    other = tmp_path / "etc/systemd/system/ovs-vswitchd.service.wants/other.service"
    other.parent.mkdir()
    other.touch()
    guard.install("x", ["/bin/true"])
    guard.remove()
    assert other.exists()
