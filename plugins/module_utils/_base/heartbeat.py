# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The heartbeat of whoever works: by it others tell one that is slow from one that hangs.

The time of the last beat is in a file that is mapped into memory, so a beat costs no system call, waits for no disk and can
be afforded in the window.  It beats where work goes on: at each step, answer and look of a ``Waiter``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
import typing as t

# Process id, start of that process, monotonic nanoseconds of the last beat.
_LAYOUT = struct.Struct("=qqq")
_LAST = struct.Struct("=q")

_mapped: mmap.mmap | None = None
_thread = threading.local()


class Beat(t.NamedTuple):
    """Whose heart it is, by process id and start of the process, and how long ago it beat, in seconds."""

    pid: int
    started: int
    age: float


def beat() -> None:
    """Say that work goes on; nothing happens in a process that is not ``beating``."""
    if _mapped is not None and not hasattr(_thread, "unheard"):
        # As one store of eight bytes: pack_into() writes zeros first, and a reader in between saw a heart that never beat.
        _mapped[_LAYOUT.size - _LAST.size : _LAYOUT.size] = _LAST.pack(time.monotonic_ns())


@contextlib.contextmanager
def unheard() -> t.Iterator[None]:
    """What this thread does meanwhile is no sign that work goes on: it would go on beside work that hangs."""
    _thread.unheard = True
    try:
        yield
    finally:
        del _thread.unheard


@contextlib.contextmanager
def beating(path: str, pid: int, started: int) -> t.Iterator[None]:
    """Have ``beat`` be heard at ``path``, as that of this process; a host where that is not possible does without."""
    global _mapped
    before, _mapped = _mapped, _begin(path, pid, started)
    try:
        yield
    finally:
        ours, _mapped = _mapped, before
        if ours is not None:
            ours.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def last(path: str) -> Beat | None:
    """The last beat at ``path``; None when nobody's heart has beaten there."""
    try:
        with open(path, "rb") as file:
            pid, started, at = _LAYOUT.unpack(file.read())
    except (OSError, struct.error):
        return None
    return Beat(pid, started, (time.monotonic_ns() - at) / 1e9)


def _begin(path: str, pid: int, started: int) -> mmap.mmap | None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _LAYOUT.pack(pid, started, time.monotonic_ns()))
            return mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None
