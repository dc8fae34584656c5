# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Network namespaces: those that there are, which of them a number of the kernel means, and working in one.

A namespace that neither a process nor a mount names cannot be found.
"""

from __future__ import annotations

import collections.abc
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import glob
import os
import resource
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink

OWN = "/proc/self/ns/net"
# The number of a namespace that the kernel knows none for: one that goes, or has nothing to do with ours.
NONE = -1

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_MOUNTS = ("/run/netns/*", "/run/docker/netns/*")
_RTM_GETNSID, _NETNSA_NSID, _NETNSA_FD = 90, 1, 3


@dataclasses.dataclass(frozen=True)
class Namespace:
    """One namespace by its identity (device and inode of nsfs), held by a descriptor."""

    device: int
    inode: int
    descriptor: int


@dataclasses.dataclass(frozen=True)
class Space:
    """A network namespace with sockets of rtnetlink and ethtool in it; ``number`` is what ours calls it, None for ours.

    The next one gets the inode of one that is gone, but not its ``cookie``.
    """

    namespace: Namespace
    number: int | None
    route: netlink.Netlink
    generic: netlink.Netlink
    cookie: int = 0

    @property
    def identity(self) -> tuple[int, int, int]:
        """By what a namespace is known."""
        return self.namespace.device, self.namespace.inode, self.cookie

    def close(self) -> None:
        """Let go of it."""
        self.route.close()
        self.generic.close()
        os.close(self.namespace.descriptor)


def every() -> list[Namespace]:
    """All that a process or a mount names, ours first; whoever gets them closes their descriptors.

    Raises ``HotUpgradeError`` when they are too many to be opened.
    """
    # Each takes some, whoever logs in may have 1,024 unless it asks for more, and any user can make namespaces.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found: dict[tuple[int, int], Namespace] = {}
    for path in _places():
        try:
            seen = os.stat(path)
            if (seen.st_dev, seen.st_ino) in found:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                for each in found.values():
                    os.close(each.descriptor)
                raise _too_many(error) from error
            continue  # its process has ended
        seen = os.fstat(descriptor)
        if not _is_one(descriptor) or (seen.st_dev, seen.st_ino) in found:
            os.close(descriptor)
            continue
        found[seen.st_dev, seen.st_ino] = Namespace(seen.st_dev, seen.st_ino, descriptor)
    return list(found.values())


def spaces() -> list[Space]:
    """Every network namespace, ours first.  Raises ``HotUpgradeError`` when there are too many."""
    found: list[Space] = []
    namespaces = every()
    for namespace in namespaces:
        try:
            with within(namespace):
                route, generic = netlink.Netlink(netlink.ROUTE), netlink.Netlink(netlink.GENERIC)
        except OSError as error:
            for space in found:
                space.close()
            for left in namespaces[len(found) :]:
                os.close(left.descriptor)
            raise _too_many(error) from error
        called = number(found[0].route, namespace) if found else None
        if found and called is None:
            called = NONE
        found.append(Space(namespace, called, route, generic, route.namespace))
    return found


def _too_many(error: OSError) -> HotUpgradeError:
    """The error for more network namespaces than there are descriptors for."""
    return HotUpgradeError(
        "the network namespaces of this host cannot all be looked at",
        f"{error.strerror}: each takes three files",
        "Look at 'lsns --type net' for who has made so many, and raise the limit of open files (ulimit -Hn, fs.file-max)",
    )


def _is_one(descriptor: int) -> bool:
    """Whether it is a network namespace: a name without its mount is left over where somebody was interrupted (ioctl_ns(2))."""
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def _places() -> t.Iterator[str]:
    yield OWN
    for pattern in _MOUNTS:
        yield from sorted(glob.glob(pattern))
    yield from (f"/proc/{name}/ns/net" for name in os.listdir("/proc") if name.isdigit())


def number(route: netlink.Netlink, namespace: Namespace) -> int | None:
    """What the namespace of the socket ``route`` calls ``namespace``; None when it has no number there."""
    body = bytes(4) + netlink.attribute(_NETNSA_FD, struct.pack("=I", namespace.descriptor))
    try:
        answer = route.ask(netlink.message(_RTM_GETNSID, body), "a network namespace has no number")
    except HotUpgradeError:  # not a network namespace
        return None
    (found,) = struct.unpack("=i", netlink.attributes(answer, 4)[_NETNSA_NSID])
    return int(found) if found >= 0 else None


@contextlib.contextmanager
def within(namespace: Namespace) -> collections.abc.Iterator[None]:
    """Have this thread work in ``namespace``: its new sockets and /proc/sys/net are of it."""
    with _away(lambda libc: libc.setns(namespace.descriptor, _CLONE_NEWNET)):
        yield


@contextlib.contextmanager
def private() -> collections.abc.Iterator[None]:
    """Have this thread work in a new namespace, with a loopback device alone, that goes with its last socket."""
    with _away(lambda libc: libc.unshare(_CLONE_NEWNET)):
        yield


@contextlib.contextmanager
def _away(go: t.Callable[[ctypes.CDLL], int]) -> collections.abc.Iterator[None]:
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _require(go)
        try:
            yield
        finally:
            _require(lambda libc: libc.setns(home, _CLONE_NEWNET))
    finally:
        os.close(home)


def _require(go: t.Callable[[ctypes.CDLL], int]) -> None:
    if go(ctypes.CDLL(None, use_errno=True)) != 0:
        raise HotUpgradeError(
            "cannot enter a network namespace",
            os.strerror(ctypes.get_errno()),
            "Entering one takes CAP_SYS_ADMIN: look for what confines the process (systemd unit, container)",
        )
