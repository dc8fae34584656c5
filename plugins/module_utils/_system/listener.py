# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Frames to one address that come and go by a network device, overheard (packet(7), filtered in the kernel: bpf(4))."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import typing as t

_EVERY_PROTOCOL = 3
_OUTGOING = 4
_SO_ATTACH_FILTER = 26
# Of a frame that is longer the rest is left out, and of a flood all that does not fit into the socket.
_LONGEST = 128
_MOST = 16

# Instructions of the classic Berkeley packet filter: load a word or half a word of the frame, compare, return.
_LOAD_WORD, _LOAD_HALF, _EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06


class Heard(t.NamedTuple):
    """A frame, and whether this host has sent it."""

    frame: bytes
    own: bool


class Listener:
    """What is overheard on ``device`` to the link-layer address ``destination`` (6 bytes); close it after use.

    Raises ``OSError`` where there is no such device.
    """

    def __init__(self, device: str, destination: bytes) -> None:
        # Without a protocol it hears nothing before it is bound: no frame is in it that the filter has not seen.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._attach(destination)
            self._socket.bind((device, _EVERY_PROTOCOL))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _attach(self, destination: bytes) -> None:
        word, half = struct.unpack("!IH", destination)
        # Where a comparison fails, the two numbers in the middle say how many instructions are left out.
        program = [
            (_LOAD_WORD, 0, 0, 0),
            (_EQUAL, 0, 3, word),
            (_LOAD_HALF, 0, 0, 4),
            (_EQUAL, 0, 1, half),
            (_RETURN, 0, 0, _LONGEST),
            (_RETURN, 0, 0, 0),
        ]
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
        described = struct.pack("HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)

    def fileno(self) -> int:
        """For whoever waits for something to be heard."""
        return self._socket.fileno()

    def heard(self) -> list[Heard]:
        """What has been heard since the last call, in that order, and not more than a few of it.

        A device that is down, or goes down, says nothing; when it is up again it is heard again.
        """
        found: list[Heard] = []
        while len(found) < _MOST:
            try:
                frame, address = self._socket.recvfrom(_LONGEST)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENETDOWN):
                    break
                raise
            found.append(Heard(frame, address[2] == _OUTGOING))
        return found

    def close(self) -> None:
        """Hear nothing any more."""
        self._socket.close()
