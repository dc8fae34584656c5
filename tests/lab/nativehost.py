# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Native hosts: a lab root file system in namespaces of its own, on the machine's own kernel.

A host is a process in new mount, network, UTS and IPC namespaces over a shared, read-only root; what it
writes goes to a folder of its own. There is no systemd inside: daemons are started by the packages' init
scripts. The lab's backend (``native.py``) gives each a pid namespace, a network and sshd; tests that only
want Open vSwitch of some version take a ``NativeHost``, whose daemons have the pids this machine sees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from tests.lab.images import REPOSITORY

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BOOT = Path(__file__).resolve().parent / "native-boot.sh"


def boot_argv(folder: Path, root: Path, name: str, network: t.Sequence[str] = ("",)) -> list[str]:
    """The command line of a host's first process; ``network`` as native-boot.sh takes it from $5 on.

    The capability to load modules is dropped: a host must never change the machine's kernel.
    """
    spaces = ["--mount", "--net", "--uts", "--ipc", "--propagation", "private"]
    arguments = [str(folder), str(root), str(REPOSITORY), name, *network]
    return ["unshare", *spaces, "setpriv", "--bounding-set", "-sys_module", "/bin/sh", str(BOOT), *arguments]


class NativeError(Exception):
    """A native host that cannot be started or used, as a sentence."""


@dataclasses.dataclass(frozen=True)
class NativeHost:
    """A running host without network: its first process, that one's start time (clock ticks), its folder."""

    name: str
    pid: int
    started: int
    folder: str

    @classmethod
    def start(cls, name: str, root: Path, folder: Path) -> NativeHost:
        """Start a host on file system ``root``, writing to ``folder``. Raises NativeError."""
        process = subprocess.Popen(
            boot_argv(folder, root, name),
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            said = ""
            for line in process.stdout:
                if line == "ready\n":
                    return cls(name, process.pid, start_time(process.pid), str(folder))
                said += line
        process.wait()
        raise NativeError(f"Native host {name} did not start: {said.strip()}")

    def alive(self) -> bool:
        """Tell whether the host's first process is still the one that was started."""
        try:
            return start_time(self.pid) == self.started
        except FileNotFoundError:
            return False

    def enter(self, *argv: str) -> list[str]:
        """The command line that runs ``argv`` inside."""
        spaces = ["--mount", "--net", "--uts", "--ipc", "--wd=/"]
        return ["nsenter", "--target", str(self.pid), *spaces, "--", *argv]

    def path(self, inside: str) -> str:
        """The path at which this machine reaches the host's file or socket ``inside``."""
        return f"/proc/{self.pid}/root{inside}"

    def run(
        self, *argv: str, check: bool = True, feed: str = "", env: t.Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` inside, with ``feed`` as its input; NativeError with its last words if it fails."""
        environment = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(env or {})}
        done = subprocess.run(
            self.enter(*argv), input=feed, env=environment, text=True, capture_output=True, check=False
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout)[-2000:]
            raise NativeError(f"{self.name}: {' '.join(argv)[:200]} failed with {done.returncode}: {said}")
        return done

    def stop(self) -> None:
        """End the host and everything in it, by pid, and delete its folder; its mounts end with it."""
        if self.alive():
            # While it is open nobody else's namespace gets its number.
            with open(f"/proc/{self.pid}/ns/uts", "rb") as own:
                self._end_all(f"uts:[{os.fstat(own.fileno()).st_ino}]")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_all(self, uts: str) -> None:
        # ip-netns(8) gives its commands other mount and network namespaces, but no other UTS namespace.
        deadline = time.monotonic() + 20
        while left := _processes_in(uts):
            if time.monotonic() > deadline:
                raise NativeError(f"Native host {self.name}: the processes {left} do not end")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0.01)


def _processes_in(uts: str) -> list[int]:
    """The processes whose UTS namespace is ``uts``, as /proc/PID/ns/uts reads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/uts") == uts:
                    found.append(int(entry.name))
    return found


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)): with the pid it names a process for good."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
