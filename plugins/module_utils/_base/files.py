# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Files that are there whole, or not at all, after a power loss; files that one process has for itself."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import typing as t


def write_durable(path: str, content: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Replace ``path`` so that a reader, or a power loss, finds the old or the new content; raises ``OSError``.

    ``owner`` (user and group) gets the file by its descriptor: its name may be a link to another file a moment later
    where the directory is not root's.
    """
    directory = os.path.dirname(path)
    descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        os.rename(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
    sync_directory(directory)


def open_regular(path: str) -> t.BinaryIO:
    """The regular file ``path``, to be read; raises ``OSError`` for a link, a pipe, a device.

    For directories that are another user's, who could lead root anywhere, or have it wait (docs/security.md).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return file


def try_lock(file: int | t.IO[t.Any], kind: int = fcntl.LOCK_EX) -> bool:
    """Whether nobody else has locked ``file``, which is then ours until it is closed (flock(2)); does not wait."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(path: str) -> None:
    """Return when the disk knows which names the directory holds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
