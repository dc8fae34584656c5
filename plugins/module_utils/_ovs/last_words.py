# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Why a daemon did not start: its standard error is that of the one before it, so its words are looked for elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import open_regular
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run

LOG_DIRECTORY = "/var/log/openvswitch"
MOST = 500
_MOST_READ = 1 << 20
# How long a program may need to say its version, in seconds.
TIMEOUT = 5.0
_GRAVE = re.compile(r"\|(?:EMER|ERR)\|")


def log_size(argv: t.Sequence[str]) -> int:
    """How long the log of a daemon with this command line is now."""
    try:
        return os.stat(_log(argv)).st_size
    except OSError:
        return 0


def last_words(argv: t.Sequence[str], since: int, runner: Runner | None = run) -> str:
    """What a daemon that was started as ``argv`` said of its end: the errors in its log after ``since`` bytes, else what
    its program says when it is to do nothing but tell its version (a library that is missing, an unknown option); without
    a ``runner`` it is not asked.
    """
    lines = written(argv, since).splitlines()
    grave = [line for line in lines if _GRAVE.search(line)]
    told = "\n".join(grave)[-MOST:]
    if not told and runner is not None:
        told = _dry(argv, runner)
    return told or "\n".join(lines[-3:])[-MOST:]


def written(argv: t.Sequence[str], since: int) -> str:
    """What a daemon with this command line has written into its log after ``since`` bytes; all of it if that is a new one."""
    return _read(_log(argv), since)


def _dry(argv: t.Sequence[str], runner: Runner) -> str:
    try:
        # Not even its log is opened.
        words = [word for word in argv if word.partition("=")[0] != "--log-file"]
        done = runner([*words, "--version"], TIMEOUT)
    except HotUpgradeError as error:
        return str(error)
    return done.err.strip()[-MOST:] if done.rc else ""


def _log(argv: t.Sequence[str]) -> str:
    """The file of ``--log-file`` (lib/vlog.c)."""
    for word in argv:
        option, __, path = word.partition("=")
        if option == "--log-file" and path:
            return path
    return os.path.join(LOG_DIRECTORY, f"{os.path.basename(argv[0])}.log")


def _read(path: str, since: int) -> str:
    """What a regular file holds after ``since`` bytes; its directory may belong to the daemon's user (docs/security.md)."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(since if since <= size else 0, size - _MOST_READ))
        return file.read(_MOST_READ).decode(errors="replace")
    return ""
