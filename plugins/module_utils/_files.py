# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Files that are there whole, or not at all, after a power loss."""

from __future__ import annotations

import contextlib
import os
import tempfile


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


def sync_directory(path: str) -> None:
    """Return when the disk knows which names the directory holds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
