# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues of a process that has packet sockets: of this one."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import packet_queues
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify

MB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets are root's")


@pytest.fixture(name="process")
def _process() -> Process:
    return t.cast("Process", identify(os.getpid()))


@pytest.fixture(name="sockets")
def _sockets() -> t.Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
            stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)),
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        ]


def lengths(sockets: t.Iterable[socket.socket]) -> list[int]:
    return [each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for each in sockets]


def test_packet_sockets_share_the_memory(process: Process, sockets: list[socket.socket]) -> None:
    other = lengths(sockets)[2]
    packet_queues.lengthen(process, 8 * MB)
    assert lengths(sockets) == [4 * MB, 4 * MB, other]


def test_one_takes_no_more_than_the_longest(process: Process, sockets: list[socket.socket]) -> None:
    packet_queues.lengthen(process, 1 << 40)
    assert lengths(sockets)[0] == packet_queues.LONGEST


def test_none_gets_shorter(process: Process, sockets: list[socket.socket]) -> None:
    before = lengths(sockets)
    packet_queues.lengthen(process, 2000)
    assert lengths(sockets) == before


def test_afterwards_they_are_as_before(process: Process, sockets: list[socket.socket]) -> None:
    before = lengths(sockets)
    packet_queues.lengthen(process, 8 * MB)
    packet_queues.shorten(process)
    assert lengths(sockets) == before


@pytest.mark.usefixtures("sockets")
def test_nothing_stays_open(process: Process) -> None:
    before = len(os.listdir("/proc/self/fd"))
    packet_queues.lengthen(process, 8 * MB)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_has_ended_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = t.cast("Process", identify(child.pid))
        child.communicate(b"\n")
    packet_queues.lengthen(process, 8 * MB)


def test_another_process_of_the_same_number_is_left_alone(
    process: Process, sockets: list[socket.socket]
) -> None:
    before = lengths(sockets)
    packet_queues.lengthen(dataclasses.replace(process, started=process.started - 1), 8 * MB)
    assert lengths(sockets) == before


@pytest.mark.usefixtures("sockets")
def test_a_kernel_that_does_not_let_us_is_told(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: t.Any) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(packet_queues, "system", refuse)
    with pytest.raises(OSError, match="not implemented"):
        packet_queues.lengthen(process, 8 * MB)


def test_a_socket_that_is_closed_meanwhile_is_nothing(
    process: Process, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, before = packet_queues.system, lengths(sockets)

    def closed_then(*words: t.Any) -> int:
        if words[3] == sockets[0].fileno():
            raise OSError(errno.EBADF, "Bad file descriptor")
        return copy(*words)

    monkeypatch.setattr(packet_queues, "system", closed_then)
    packet_queues.lengthen(process, 8 * MB)
    assert lengths(sockets)[0] == before[0]
    assert lengths(sockets)[1] == 8 * MB


def test_all_packets_wait(process: Process, sockets: list[socket.socket]) -> None:
    everything, packets = 3, {b"packet %d" % number for number in range(2000)}
    sockets[0].bind(("lo", everything))
    packet_queues.lengthen(process, 128 * MB)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody_reads:
        nobody_reads.bind(("127.0.0.1", 0))
        for packet in packets:
            sockets[2].sendto(packet, nobody_reads.getsockname())
    sockets[0].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while packets:
            packets.discard(sockets[0].recv(65536)[14 + 20 + 8 :])
    assert not packets


def test_what_waits_is_seen(process: Process, sockets: list[socket.socket]) -> None:
    waiting = sockets[0]
    waiting.bind(("lo", 3))
    inodes = {str(os.fstat(waiting.fileno()).st_ino)}
    sockets[2].sendto(b"x", ("127.0.0.1", 9))
    assert packet_queues.waits(process, inodes)
    assert not packet_queues.waits(process, {"1"})


@pytest.mark.usefixtures("sockets")
def test_a_descriptor_that_is_something_else_by_now_is_closed(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tap device it would keep everybody else away."""
    copy, ends = packet_queues.system, os.pipe()
    monkeypatch.setattr(packet_queues, "system", lambda *words: copy(*words[:3], ends[0], 0))
    before = len(os.listdir("/proc/self/fd"))
    packet_queues.lengthen(process, 8 * MB)
    assert len(os.listdir("/proc/self/fd")) == before
    for end in ends:
        os.close(end)
