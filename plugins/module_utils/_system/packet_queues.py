# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Where packets wait for a busy process: the receive queues of its packet sockets (packet(7)).

By these an ovs-vswitchd with the userspace datapath reads network devices (lib/netdev-linux.c, netdev_linux_rxq_construct).
Each holds some 270 small packets (net.core.rmem_default); what comes then is lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launcher import PIDFD_GETFD, system
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive

# What one queue may hold at most, in bytes of kernel memory: some 80,000 small packets.
LONGEST = 64 << 20

# include/uapi/asm-generic/socket.h; socket(7): beyond net.core.rmem_max, for who has CAP_NET_ADMIN.
_SO_RCVBUFFORCE = 33
# What is asked for is doubled by the kernel, for what it needs besides (socket(7), SO_RCVBUF).
_DOUBLED = 2


def lengthen(process: Process, memory: int) -> None:
    """Have the queues of a process hold up to ``memory`` bytes in all; none gets shorter.

    Memory is taken by what waits, not by the length.  Raises ``OSError`` where the kernel (before 5.6) or a security module
    does not let us; a process that has ended is left alone.
    """
    count = sum(1 for __ in _sockets(process))
    length = min(LONGEST, memory // max(count, 1))
    for each in _sockets(process):
        if _length(each) < length:
            _set_length(each, length)


def shorten(process: Process) -> None:
    """Have the queues of a process be as long as those of others; raises as ``lengthen`` does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as usual:  # net.core.rmem_default, as all have it
        length = _length(usual)
    for each in _sockets(process):
        if _length(each) > length:
            _set_length(each, length)


def waits(process: Process, sockets: t.Container[str]) -> bool:
    """Whether a packet waits for the process in one of its ``sockets``, by inode (/proc/PID/net/packet, packet_seq_show)."""
    with (
        contextlib.suppress(FileNotFoundError),
        open(f"/proc/{process.pid}/net/packet", encoding="ascii") as file,
    ):
        next(file)
        return any(fields[6] != "0" and fields[8] in sockets for fields in map(str.split, file))
    return False


def _length(each: socket.socket) -> int:
    return each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _set_length(each: socket.socket, length: int) -> None:
    each.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, length // _DOUBLED)


def _sockets(process: Process) -> t.Iterator[socket.socket]:
    """Copies of its packet sockets, one at a time: with thousands of ports all of them would be more than we may have open."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(process.pid)
        try:
            if alive(process):  # the descriptor pins it, so this holds from here on
                yield from _opened(process.pid, pidfd)
        finally:
            os.close(pidfd)


def _opened(pid: int, pidfd: int) -> t.Iterator[socket.socket]:
    with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
        for name in os.listdir(f"/proc/{pid}/fd"):
            copied = _copied(pid, pidfd, name)
            if copied is None:
                continue
            with copied:
                if copied.family == socket.AF_PACKET:
                    yield copied


def _copied(pid: int, pidfd: int, name: str) -> socket.socket | None:
    """The socket that ``name`` is in the process, None if it is something else, or closed by now."""
    try:
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            return None
        number = system("syscall", PIDFD_GETFD, pidfd, int(name), 0)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EBADF, errno.ESRCH):
            return None
        raise
    try:
        return socket.socket(fileno=number)
    except OSError:
        os.close(number)
        return None
