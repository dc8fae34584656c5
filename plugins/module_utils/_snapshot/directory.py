# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The snapshot directory: written complete or not at all, read only if every byte is as written.

Format 1 is described in docs/snapshot-format.md.  The name of a bridge is data in the manifest, never part
of a file name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Refused,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import sync_directory, try_lock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.content import Part
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import read_chunks

T = t.TypeVar("T")

FORMAT = 1
MANIFEST = "manifest.json"
CONFIGURATION = "conf.db"
_MOST_MANIFEST = 64 << 20
_BLOCK = 1 << 20
# What a flow takes in a snapshot, generously, for the check of free space.
_BYTES_PER_FLOW = 256
_BYTES_AT_LEAST = 1 << 20
_VERSIONS = {name: version for version, name in wire.VERSION_NAMES.items()}
_RETAKE = "Take the snapshot again; this one cannot be trusted"


@dataclasses.dataclass(frozen=True)
class SavedBridge:
    """One bridge of a snapshot, as its manifest describes it.

    ``ofports``: interface -> ofport.  ``file`` holds ``settings_bytes`` of settings, then groups, then flows, in
    the OpenFlow messages with which the switch told them.
    """

    name: str
    datapath_id: str | None
    datapath_type: str
    openflow_version: str
    ports_version: str
    ofports: dict[str, int]
    counts: dict[str, int]
    not_carried: list[str]
    file: str
    settings_bytes: int
    fdb: list[dict[str, t.Any]]
    neighbours: list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class _Saved(flowstate.Told):
    """A state in a file; whoever streams it to its end has had every byte of that file checked."""

    check_file: t.Callable[[], None]

    def objects(self) -> t.Iterator[bytes]:
        """See ``State``."""
        return self._checked(super().objects())

    def parts(self) -> t.Iterator[Part]:
        """See ``State``."""
        return self._checked(super().parts())

    def _checked(self, found: t.Iterator[T]) -> t.Iterator[T]:
        """``found``; nonsense in the file is damage."""
        try:
            yield from found
        except ProtocolError:
            self.check()
            raise

    def check(self) -> None:
        """Raise ``Refused`` if the file is not as it was written."""
        self.check_file()


class Snapshot:
    """A snapshot directory that has been read."""

    def __init__(self, path: str, manifest: dict[str, t.Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.bridges = tuple(SavedBridge(**bridge) for bridge in manifest["bridges"])
        self._files = {bridge.file: manifest["files"][bridge.file] for bridge in self.bridges}

    @property
    def taken_at(self) -> datetime.datetime:
        """When it was taken (UTC)."""
        return datetime.datetime.fromisoformat(self.manifest["taken_at"])

    @property
    def flows(self) -> int:
        """How many flows all bridges have."""
        return sum(bridge.counts["flows"] for bridge in self.bridges)

    def bridge(self, name: str) -> SavedBridge:
        """The bridge ``name``. Raises ``Refused`` if the snapshot does not have it."""
        for bridge in self.bridges:
            if bridge.name == name:
                return bridge
        have = ", ".join(repr(bridge.name) for bridge in self.bridges) or "no bridge"
        raise Refused(
            f"the snapshot {self.path} has no bridge {name!r}", f"it has {have}", "Correct the option bridges"
        )

    def state(self, name: str) -> flowstate.State:
        """The OpenFlow state of the bridge ``name``; its replies are read from the file, and checked, each time."""
        bridge = self.bridge(name)
        check = functools.partial(_check_file, self.path, bridge.file, self._files[bridge.file])
        with _open(self.path, bridge.file) as file:
            try:
                settings = flowstate.read_settings(wire.each(file.read(bridge.settings_bytes)))
            except ProtocolError:
                check()
                raise
        versions = _VERSIONS[bridge.openflow_version], _VERSIONS[bridge.ports_version]
        return _Saved(*versions, settings, bridge.counts["flows"], lambda: self._replies(bridge), check)

    @property
    def states(self) -> dict[str, flowstate.State]:
        """The OpenFlow state of every bridge, by name."""
        return {bridge.name: self.state(bridge.name) for bridge in self.bridges}

    def _replies(self, bridge: SavedBridge) -> t.Iterator[bytes]:
        with _open(self.path, bridge.file) as opened:
            file = _Hashing(opened)
            file.read(bridge.settings_bytes)
            for chunk in read_chunks(file):
                yield from wire.each(chunk)
        file.check(self.path, bridge.file, self._files[bridge.file])


class _Hashing:
    """Reads a file of a snapshot to its end and hashes it on the way."""

    def __init__(self, file: t.BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def check(self, path: str, name: str, wanted: dict[str, t.Any]) -> None:
        """Raise ``Refused`` if what was read is not what the manifest says."""
        if self._digest.hexdigest() != wanted["sha256"]:
            raise _damaged(path, name, "its SHA-256 is not the one in the manifest")


# Reading


def read(path: str, at_once: bool = True) -> Snapshot:
    """Open the snapshot ``path`` and check every file against its SHA-256.

    Raises ``Refused``, naming the file, if it is no snapshot, of an unknown format, or damaged.  Not ``at_once``: only
    their sizes; a bridge's file is checked while its state is streamed, which is early enough for ``stage``.
    """
    _check_owner(path)
    manifest = _read_manifest(path)
    if manifest["format"] != FORMAT:
        what = f"the snapshot {path} has format {manifest['format']!r}"
        raise Refused(
            what, f"this version of the collection reads format {FORMAT}", "Use the version that wrote it"
        )
    if manifest.get("sha256") != _manifest_sum(manifest):
        raise Refused(f"{os.path.join(path, MANIFEST)} is damaged", "its checksum is another", _RETAKE)
    for name, wanted in manifest["files"].items():
        (_check_file if at_once else _check_size)(path, name, wanted)
    try:
        return Snapshot(path, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"{os.path.join(path, MANIFEST)} is incomplete", str(error), _RETAKE) from error


def exists(path: str) -> bool:
    """Whether something is at ``path``. Raises ``Refused`` if that is no snapshot, so that it is never replaced."""
    if not os.path.lexists(path):
        return False
    _check_owner(path)
    _read_manifest(path)
    return True


def remove(path: str) -> None:
    """Delete the snapshot ``path`` if there is one. Raises ``Refused`` for anything else."""
    if exists(path):
        shutil.rmtree(path)


def _check_owner(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError as error:
        raise Refused(f"there is no snapshot {path}", "", "Take one first, with state=present") from error
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is no snapshot", "it is no directory", "Choose another path")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        seen = f"owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
        raise Refused(
            f"{path} is not to be trusted as a snapshot",
            f"others can write to it: {seen}",
            "Choose another path",
        )


def _read_manifest(path: str) -> dict[str, t.Any]:
    name = os.path.join(path, MANIFEST)
    try:
        with _open(path, MANIFEST) as file:
            data = file.read(_MOST_MANIFEST)
    except FileNotFoundError as error:
        raise Refused(f"{path} is no snapshot", f"it has no {MANIFEST}", "Choose another path") from error
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise Refused(f"{name} is damaged or no manifest", str(error), _RETAKE) from error
    if (
        not isinstance(manifest, dict)
        or "format" not in manifest
        or not isinstance(manifest.get("files"), dict)
    ):
        raise Refused(
            f"{name} is not the manifest of a snapshot", "it names no format and files", "Choose another path"
        )
    return manifest


def _check_file(path: str, name: str, wanted: dict[str, t.Any]) -> None:
    """Raise ``Refused`` if a file of the snapshot is not as the manifest says."""
    _check_size(path, name, wanted)
    try:
        with _open(path, name) as opened:
            file = _Hashing(opened)
            while file.read(_BLOCK):
                pass
    except OSError as error:
        raise _unreadable(path, name, error) from error
    file.check(path, name, wanted)


def _check_size(path: str, name: str, wanted: dict[str, t.Any]) -> None:
    try:
        with _open(path, name) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unreadable(path, name, error) from error
    if size != wanted["size"]:
        raise _damaged(path, name, f"it has {size} bytes instead of {wanted['size']}")


def _unreadable(path: str, name: str, error: OSError) -> Refused:
    return Refused(f"{os.path.join(path, name)} cannot be read", error.strerror or str(error), _RETAKE)


def _damaged(path: str, name: str, why: str) -> Refused:
    return Refused(f"{os.path.join(path, name)} is damaged", why, _RETAKE)


def _open(path: str, name: str) -> t.BinaryIO:
    """Open a file of the snapshot: a regular one directly in ``path``, never through a link."""
    full = os.path.join(path, name)
    if name != os.path.basename(name) or name in ("", ".", ".."):
        raise Refused(
            f"{os.path.join(path, MANIFEST)} names a file outside of the snapshot", repr(name), _RETAKE
        )
    return os.fdopen(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _manifest_sum(manifest: dict[str, t.Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# Writing


class Writer:
    """Builds a snapshot beside ``path`` and gives it that name in ``finish``; a context manager.

    Left without ``finish`` it removes what it wrote.  What a killed writer left behind is removed by the next.
    """

    def __init__(self, path: str, flows: int) -> None:
        """``flows``: how many there will be, for the check of free space. Raises ``Refused``."""
        self.path = os.path.abspath(path)
        exists(self.path)
        self._parent, self._name = os.path.split(self.path)
        if not os.path.isdir(self._parent):
            raise Refused(f"there is no directory {self._parent}", "", "Create it, or choose another path")
        self._remove_leftovers()
        _check_space(self._parent, flows)
        self._directory = tempfile.mkdtemp(dir=self._parent, **self._pattern)
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._files: dict[str, dict[str, t.Any]] = {}

    @property
    def _pattern(self) -> dict[str, str]:
        return {"prefix": f".{self._name}.", "suffix": ".partial"}

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        os.close(self._lock)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk of {self._parent} is full"
            raise HotUpgradeError(
                what, "the snapshot was not finished and is removed", "Make room, or choose another path"
            ) from error

    def file(self, name: str) -> File:
        """A new file of the snapshot, to be closed before ``finish``."""
        return File(self._directory, name, self._files)

    def finish(self, manifest: dict[str, t.Any]) -> Snapshot:
        """Write the manifest, make everything durable, and give the snapshot its name; an older one is replaced."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        full = {"format": FORMAT, "taken_at": now, **manifest, "files": self._files}
        full["sha256"] = _manifest_sum(full)
        with File(self._directory, MANIFEST, {}) as file:
            file.write(json.dumps(full, indent=1, sort_keys=True).encode())
        os.fsync(self._lock)
        old = None
        if os.path.lexists(self.path):
            old = tempfile.mkdtemp(dir=self._parent, **self._pattern)
            os.rename(self.path, old)
        os.rename(self._directory, self.path)
        sync_directory(self._parent)
        if old:
            _delete_beside(old)
        return Snapshot(self.path, full)

    def _remove_leftovers(self) -> None:
        prefix, suffix = self._pattern["prefix"], self._pattern["suffix"]
        for entry in os.scandir(self._parent):
            if not (
                entry.name.startswith(prefix)
                and entry.name.endswith(suffix)
                and entry.is_dir(follow_symlinks=False)
            ):
                continue
            with contextlib.suppress(FileNotFoundError):
                _remove(entry.path)


def _remove(path: str) -> None:
    """Delete the directory ``path``, unless somebody else has it locked."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor):
            shutil.rmtree(path)
    finally:
        os.close(descriptor)


def _delete_beside(path: str) -> None:
    """Delete the directory ``path`` while the caller goes on: the disk takes as long to free a file as to write some of it.

    The process does not end before that; if it is killed, the next writer finds a leftover.
    """

    def delete() -> None:
        with contextlib.suppress(OSError):
            _remove(path)

    threading.Thread(target=delete).start()


class File:
    """A file of a snapshot in the making: size and SHA-256 are recorded when it is closed.

    Without a thread of its own: hashing and writing fit into the time that the switch takes for its next answer, and on
    two processors a thread would run where the switch does.
    """

    def __init__(self, directory: str, name: str, record: dict[str, dict[str, t.Any]]) -> None:
        self.name = name
        self._record = record
        self._descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._size = self._started = 0
        self._digest = hashlib.sha256()

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        try:
            if kind is None:
                os.fsync(self._descriptor)
                self._record[self.name] = {"size": self._size, "sha256": self._digest.hexdigest()}
        finally:
            os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        """Append ``data``. Raises ``OSError`` if the disk failed."""
        self._digest.update(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._size += len(data)
        if self._size - self._started >= _BLOCK:
            self._start_writing()

    def _start_writing(self) -> None:
        """Let the disk begin, so that little is left for the end: Linux starts to write dirty pages that nobody needs."""
        length = self._size - self._started
        os.posix_fadvise(self._descriptor, self._started, length, os.POSIX_FADV_DONTNEED)
        self._started = self._size


def _check_space(directory: str, flows: int) -> None:
    free = os.statvfs(directory)
    have, need = free.f_bavail * free.f_frsize, flows * _BYTES_PER_FLOW + _BYTES_AT_LEAST
    if have < need:
        why = f"{have >> 20} MB are free, {flows} flows may need {(need >> 20) + 1} MB"
        raise Refused(
            f"not enough room for a snapshot in {directory}", why, "Make room, or choose another path"
        )
