# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Puts policy-rc.d back when an installation was cut short: the detached half of ``guard.py``.

``ansible.builtin.apt`` with ``policy_rc_d`` replaces /usr/sbin/policy-rc.d while dpkg works; killed meanwhile, it leaves
it so that no package can ever start a service again. This file is copied to the host and runs alone, with the
standard library only::

    python3 -I agent.py watch|boot POLICY FOLDER FILE...

``watch`` ends when an installation is over, however it ended; ``boot`` does what is due at once. Then FOLDER, which holds
what was there before, and the FILEs are removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import syslog
import time

# What the processes of an installation have in their environment.
MARK = b"OVSOPS_INSTALLS=1"
# More than exec(2) gives a program of it: a process may point at as much memory as it likes (PR_SET_MM_MAP).
MOST = 8 << 20
# What apt.py (PolicyRcD) writes for policy_rc_d: 101.
FORBIDDING = b"#!/bin/sh\nexit 101\n"
KEPT = "before"
INTERVAL = 1.0
# A play that was ended before it installed anything needs nobody who watches for longer, in seconds.
LONGEST = 86400.0


def forbids(path: str) -> bool:
    """Whether ``path`` is the policy of an installation."""
    try:
        with open(path, "rb") as file:
            return file.read(len(FORBIDDING) + 1) == FORBIDDING
    except OSError:
        return False


def _started_by_root(folder: str) -> bool:
    """Whether its real user is root: a program of root's that anybody may start (setuid) has the environment of whoever did."""
    with open(os.path.join(folder, "status"), "rb") as file:
        return file.read().partition(b"\nUid:\t")[2].startswith(b"0\t")


def installers(proc: str = "/proc") -> list[int]:
    """The process ids of an installation; only what root has started counts."""
    found = []
    for name in filter(str.isdigit, os.listdir(proc)):
        folder = os.path.join(proc, name)
        with contextlib.suppress(OSError):
            if _started_by_root(folder):
                with open(os.path.join(folder, "environ"), "rb") as file:
                    if MARK in file.read(MOST).split(b"\0"):
                        found.append(int(name))
    return found


def copy(source: str, target: str) -> None:
    """Copy a file (or a link as a link) with mode, times and owner, on the disk when this returns; raises ``OSError``."""
    draft = f"{target}.ovsops-new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft)
    shutil.copy2(source, draft, follow_symlinks=False)
    owner = os.lstat(source)
    os.chown(draft, owner.st_uid, owner.st_gid, follow_symlinks=False)
    if not os.path.islink(draft):
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
    os.rename(draft, target)


def put_back(policy: str, folder: str) -> bool:
    """Replace an installation's policy by what ``folder`` keeps, or by nothing; False when it is not an installation's."""
    if not forbids(policy):
        return False
    kept = os.path.join(folder, KEPT)
    if os.path.lexists(kept):
        copy(kept, policy)
    else:
        os.unlink(policy)
    return True


def watch(policy: str, folder: str) -> None:
    """Return when an installation has been seen and is over."""
    touched = False
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and os.path.isdir(folder):
        touched = touched or forbids(policy)
        if touched and not installers():
            return
        time.sleep(INTERVAL)


def main(role: str, policy: str, folder: str, *files: str) -> None:
    """See above."""
    if role == "watch":
        watch(policy, folder)
    if os.path.isdir(folder) and put_back(policy, folder):
        syslog.openlog("ovsops")
        syslog.syslog(
            syslog.LOG_WARNING, f"{policy} was put back: the installation that had replaced it was cut short"
        )
    for file in files:
        with contextlib.suppress(OSError):
            os.unlink(file)
        if os.path.dirname(file).endswith(".wants"):
            # One that is not empty is somebody else's.
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(file))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
