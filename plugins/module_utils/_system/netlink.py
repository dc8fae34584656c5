# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Netlink: messages as bytes, and one socket to ask the kernel with.

Written by hand, since importing pyroute2 takes longer than the windows in which this is done: what changes something is made
bytes beforehand (``batches``), so that in the window it is only sent.  Formats: netlink(7), include/uapi/linux/{netlink,
genetlink}.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError

ROUTE, GENERIC = 0, 16
REQUEST, ACK, DUMP, EXCLUSIVE, CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
NESTED = 0x8000
MESSAGE, ATTRIBUTE, GENERIC_HEADER = struct.Struct("=IHHII"), struct.Struct("=HH"), struct.Struct("=BBxx")

_ERROR, _DONE = 2, 3
_INTERRUPTED, _CAPPED, _WORDS_FOLLOW = 0x10, 0x100, 0x200
_KIND_MASK = 0x3FFF
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_NAMESPACE_COOKIE = 71  # SO_NETNS_COOKIE, on every machine but PA-RISC and SPARC
_ERROR_WORDS = 1
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_SECONDS = 5.0
_LARGEST_BATCH, _MOST_IN_A_BATCH, _BUFFER = 1 << 16, 256, 1 << 20
_DUMPS = 5
_DMESG = "Look at dmesg on this host"

Attributes = dict[int, bytes]


class Refusal(t.NamedTuple):
    """The message with the number ``place``, counted from 0, was refused with an errno, and in the kernel's ``words``."""

    place: int
    number: int
    words: str

    def __str__(self) -> str:
        name = errno.errorcode.get(self.number, f"error {self.number}")
        return f"{name} ({self.words})" if self.words else name


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def joined(values: t.Mapping[int, bytes]) -> bytes:
    """Attributes one after the other."""
    return b"".join(attribute(kind, value) for kind, value in values.items())


def attributes(data: bytes, offset: int = 0) -> Attributes:
    """The attributes from ``offset`` on; raises ``HotUpgradeError`` for what is none. Of equal ones the last counts."""
    return dict(each_attribute(data, offset))


def each_attribute(data: bytes, offset: int = 0) -> t.Iterator[tuple[int, bytes]]:
    """The attributes from ``offset`` on, in their order."""
    while offset < len(data):
        if offset + ATTRIBUTE.size > len(data):
            raise cut_off(data)
        size, kind = ATTRIBUTE.unpack_from(data, offset)
        if size < ATTRIBUTE.size or offset + size > len(data):
            raise cut_off(data)
        yield kind & _KIND_MASK, data[offset + ATTRIBUTE.size : offset + size]
        offset += size + -size % 4


def cut_off(data: bytes) -> HotUpgradeError:
    """The error for an answer that is not whole."""
    return HotUpgradeError("the kernel's answer is cut off", data[:32].hex(), _DMESG)


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A request; its length is a multiple of four, so that others can follow."""
    padded = body + bytes(-len(body) % 4)
    return MESSAGE.pack(MESSAGE.size + len(padded), kind, REQUEST | flags, 0, 0) + padded


def generic(family: int, command: int, version: int, body: bytes, flags: int = 0) -> bytes:
    """A request of a family of generic netlink; ``body`` is the family's own header and attributes."""
    return message(family, GENERIC_HEADER.pack(command, version) + body, flags)


def batches(messages: t.Sequence[bytes]) -> list[bytes]:
    """What ``Netlink.transact`` sends: messages numbered, several to a datagram, of which the last is acknowledged."""
    found: list[bytes] = []
    pending: list[bytes] = []
    size = 0
    for place, each in enumerate(messages):
        if pending and (size + len(each) > _LARGEST_BATCH or len(pending) == _MOST_IN_A_BATCH):
            found.append(_batch(pending, place - len(pending)))
            pending, size = [], 0
        pending.append(each)
        size += len(each)
    return [*found, _batch(pending, len(messages) - len(pending))] if pending else found


def _batch(messages: t.Sequence[bytes], first: int) -> bytes:
    whole = bytearray()
    for place, each in enumerate(messages, first + 1):
        length, kind, flags, __, __ = MESSAGE.unpack_from(each)
        last = place == first + len(messages)
        whole += MESSAGE.pack(length, kind, flags & ~ACK | (ACK if last else 0), place, 0)
        whole += each[MESSAGE.size :]
    return bytes(whole)


def parts(datagram: bytes) -> t.Iterator[tuple[int, int, int, bytes]]:
    """The messages in a datagram of the kernel: kind, flags, number of the request, body."""
    offset = 0
    while offset < len(datagram):
        if offset + MESSAGE.size > len(datagram):
            raise cut_off(datagram)
        length, kind, flags, number, __ = MESSAGE.unpack_from(datagram, offset)
        if length < MESSAGE.size or offset + length > len(datagram):
            raise cut_off(datagram)
        yield kind, flags, number, datagram[offset + MESSAGE.size : offset + length]
        offset += length + -length % 4


def refusal(flags: int, number: int, body: bytes) -> Refusal | None:
    """What an error message says; None for an acknowledgement."""
    if len(body) < 4:
        raise cut_off(body)
    (code,) = struct.unpack_from("=i", body)
    return Refusal(number - 1, -code, _words(flags, body)) if code else None


def _words(flags: int, body: bytes) -> str:
    if not flags & _WORDS_FOLLOW or len(body) < 4 + MESSAGE.size:
        return ""
    (length, *__) = MESSAGE.unpack_from(body, 4)
    offset = 4 + (MESSAGE.size if flags & _CAPPED else length + -length % 4)
    with contextlib.suppress(HotUpgradeError):
        return attributes(body, offset).get(_ERROR_WORDS, b"").rstrip(b"\0").decode(errors="replace")
    return ""


class Netlink:
    """One netlink socket of a protocol (``ROUTE``, ``GENERIC``); a context manager."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(_SECONDS)
        # Whether nothing changed while the last dump was made: else something may be left out of it.
        self.whole = True
        for option in (_CAP_ACK, _EXT_ACK):
            with contextlib.suppress(OSError):  # Linux before 4.3 and 4.12: refusals without words
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *__: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def address(self) -> int:
        """Where the kernel can send what it has to tell: the port id of netlink(7)."""
        if not self._socket.getsockname()[0]:
            self._socket.bind((0, 0))
        return int(self._socket.getsockname()[0])

    @property
    def namespace(self) -> int:
        """A number of its network namespace that no other one gets up to the next boot; 0 before Linux 5.14, which has none."""
        with contextlib.suppress(OSError):
            (number,) = struct.unpack("=Q", self._socket.getsockopt(socket.SOL_SOCKET, _NAMESPACE_COOKIE, 8))
            return int(number)
        return 0

    def told(self, seconds: float) -> t.Iterator[tuple[int, bytes]]:
        """What the kernel has sent on its own: kind and body of each message of one datagram.

        Raises ``TimeoutError`` where nothing comes for so many ``seconds``.
        """
        self._socket.settimeout(seconds)
        for kind, __, __, body in parts(self._socket.recv(_BUFFER)):
            yield kind, body

    def ask(self, request: bytes, what: str) -> bytes:
        """Send one request and return the body of its answer, empty for an acknowledgement.

        Raises ``HotUpgradeError``, with ``what`` as its subject, when the kernel refuses it or does not answer.
        """
        for __, kind, flags, number, body in self._answers(request, what):
            if kind != _ERROR:
                return body
            if refused := refusal(flags, number, body):
                raise HotUpgradeError(what, str(refused), _DMESG)
            return b""
        return b""

    def dump(self, request: bytes, what: str) -> list[tuple[int, bytes]]:
        """All that the kernel has of a kind: message kinds and bodies; asked again if it changed meanwhile.

        Raises ``HotUpgradeError``, with ``what`` as its subject.
        """
        for __ in range(_DUMPS):
            found, self.whole = self._dump(request, what)
            if self.whole:
                break
        return found  # what changes all the time is never the same for two looks

    def _dump(self, request: bytes, what: str) -> tuple[list[tuple[int, bytes]], bool]:
        found: list[tuple[int, bytes]] = []
        whole = True
        for __, kind, flags, number, body in self._answers(_with(request, DUMP), what):
            whole = whole and not flags & _INTERRUPTED
            if kind in (_ERROR, _DONE):
                refused = refusal(flags, number, body) if len(body) >= 4 else None
                if refused:
                    raise HotUpgradeError(what, str(refused), _DMESG)
                return found, whole
            found.append((kind, body))
        return found, whole

    def transact(self, prepared: t.Sequence[bytes]) -> list[Refusal]:
        """Send what ``batches`` has prepared, in its order, and return what was refused; nothing stops the rest."""
        refused: list[Refusal] = []
        for batch in prepared:
            for last, kind, flags, number, body in self._answers(batch, "a change of the network"):
                if kind == _ERROR and (found := refusal(flags, number, body)):
                    refused.append(found)
                if kind == _ERROR and number == last:
                    break
        return refused

    def _answers(self, request: bytes, what: str) -> t.Iterator[tuple[int, int, int, int, bytes]]:
        """What comes back, without end: the number of the last request that was sent, and a message's parts."""
        last = _last_number(request)
        try:
            self._socket.send(request)
            while True:
                for part in parts(self._socket.recv(_BUFFER)):
                    yield (last, *part)
        except OSError as error:
            slow = isinstance(error, socket.timeout)
            why = f"no answer within {_SECONDS:g} s" if slow else os.strerror(error.errno or 0)
            raise HotUpgradeError(what, why, _DMESG) from error

    def family(self, name: str) -> int:
        """The number of a family of generic netlink; it changes when its module is loaded anew."""
        body = attribute(_FAMILY_NAME, name.encode() + b"\0")
        request = generic(_CONTROLLER, _GET_FAMILY, 1, body)
        answer = self.ask(request, f"the kernel has no {name}: is the module openvswitch loaded?")
        return int(struct.unpack("=H", attributes(answer, GENERIC_HEADER.size)[_FAMILY_ID])[0])


def _last_number(request: bytes) -> int:
    offset = number = 0
    while offset < len(request):
        length, __, __, number, __ = MESSAGE.unpack_from(request, offset)
        offset += length
    return int(number)


def _with(request: bytes, flags: int) -> bytes:
    length, kind, given, number, port = MESSAGE.unpack_from(request)
    return MESSAGE.pack(length, kind, given | flags, number, port) + request[MESSAGE.size :]
