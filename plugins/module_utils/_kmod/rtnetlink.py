# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What rtnetlink tells, and requests that say the same again.

The kernel takes most of what it tells as it was told, ifindex included, so what is not understood here comes back, too.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    ATTRIBUTE,
    Netlink,
    attribute,
    cut_off,
    message,
)

# Of a request that adds something (netlink(7)).
REPLACE, APPEND = 0x100, 0x800
_TYPE = 0x3FFF

NEWLINK, NEWROUTE, DELROUTE, NEWACTION, NEWNEXTHOP = 16, 24, 25, 48, 104
_HEADER = 16  # bytes of struct nlmsghdr
_IFLA_LINK, _RTA_OIF, _RTA_MULTIPATH, _NHA_OIF = 5, 4, 9, 5
# Where the attributes begin behind struct nlmsghdr, and which of them name devices.
_NAMING = {
    NEWROUTE: (12, (_RTA_OIF, _RTA_MULTIPATH)),
    DELROUTE: (12, (_RTA_OIF,)),
    NEWNEXTHOP: (8, (_NHA_OIF,)),
    NEWLINK: (16, (_IFLA_LINK,)),
}
_NO_DEVICE_IN_HEADER = (NEWROUTE, DELROUTE, NEWACTION, NEWNEXTHOP)


class Stage(enum.IntEnum):
    """The order in which things come back; those of one stage do not depend on each other."""

    CHILD = 0
    STATE = 1
    MASTER = 2
    PLACE = 3
    SYSCTL = 4
    ADDRESS = 5
    UP = 6
    ROUTE = 7
    NEXTHOP = 8
    NEXTHOPS = 9
    GATEWAY = 10
    NEIGHBOUR = 11
    PROPERTY = 12
    OFFLOAD = 13
    CLASS = 14
    FILTER = 15
    ACTION = 16
    SETTLE = 17


@dataclasses.dataclass(frozen=True)
class Request:
    """One request; ``device`` is the ifindex of whose it is, 0 for a route of others, and ``what`` it is for people.

    ``places`` is where in ``data`` it names devices besides those that every request of its kind names.  ``below`` is which
    namespace (of those of ``preserve``) has the device that it is made on, None for its own.
    """

    stage: Stage
    device: int
    what: str
    data: bytes
    places: tuple[int, ...] = ()
    below: int | None = None


def is_so_already(request: Request, number: int) -> bool:
    """Whether a refusal, by the ``number`` of its error, says that what is to be there is there, or what is to go is gone."""
    (kind,) = struct.unpack_from("=H", request.data, 4)
    return number == (errno.ESRCH if kind == DELROUTE else errno.EEXIST)


class Told:
    """The attributes behind the ``size`` bytes of a message's own header, each whole, as it will be sent again.

    Raises ``HotUpgradeError`` for what is cut off.
    """

    def __init__(self, body: bytes, size: int = 0) -> None:
        self._whole: dict[int, bytes] = {}
        while size + ATTRIBUTE.size <= len(body):
            length, kind = ATTRIBUTE.unpack_from(body, size)
            if length < ATTRIBUTE.size or size + length > len(body):
                raise cut_off(body)
            self._whole[kind & _TYPE] = body[size : size + length] + bytes(-length % 4)
            size += length + -length % 4

    def __contains__(self, kind: int) -> bool:
        return kind in self._whole

    def kinds(self) -> t.Iterable[int]:
        """The numbers of the attributes."""
        return self._whole.keys()

    def value(self, kind: int, default: bytes = b"") -> bytes:
        """What the attribute holds."""
        whole = self._whole.get(kind)
        if whole is None:
            return default
        (length, __) = ATTRIBUTE.unpack_from(whole)
        return whole[ATTRIBUTE.size : length]

    def number(self, kind: int) -> int | None:
        """The same as a number of 32 bits."""
        return int(struct.unpack("=I", self.value(kind))[0]) if kind in self else None

    def text(self, kind: int) -> str:
        """The same as a name, empty where there is none."""
        return self.value(kind).rstrip(b"\0").decode(errors="surrogateescape")

    def inside(self, kind: int) -> Told:
        """The attributes that the attribute holds."""
        return Told(self.value(kind))

    def only(self, *kinds: int) -> bytes:
        """These attributes, as far as they are there, as bytes."""
        return b"".join(self._whole[kind] for kind in kinds if kind in self._whole)

    def without(self, *kinds: int) -> bytes:
        """All but these, as bytes."""
        return b"".join(whole for kind, whole in self._whole.items() if kind not in kinds)


def dumped(route: Netlink, kind: int, header: bytes, what: str) -> list[bytes]:
    """All that the namespace of the socket ``route`` tells for a request of this kind."""
    beat()  # a tenant's namespace may hold any number of anything
    return [body for __, body in route.dump(message(kind, header), f"the kernel does not tell its {what}")]


def numbered(kind: int, value: int) -> bytes:
    """An attribute that holds a number of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def place_of(data: bytes, offset: int, *path: int) -> int:
    """Where the value of an attribute in an attribute in … begins, of those that begin at ``offset``; 0 if there is none."""
    end = len(data)
    for wanted in path:
        while offset + ATTRIBUTE.size <= end:
            length, kind = ATTRIBUTE.unpack_from(data, offset)
            if kind & _TYPE == wanted:
                offset, end = offset + ATTRIBUTE.size, offset + length
                break
            offset += max(ATTRIBUTE.size, length + -length % 4)
        else:
            return 0
    return offset


def elsewhere(request: Request, to: t.Mapping[int, int], below: t.Mapping[int, int]) -> Request:
    """The same for devices that have another ifindex now: ``to``, and ``below`` where ``request.below`` is.

    Most headers have it at the same place; a device names the one that it is on, besides.
    """
    data = bytearray(request.data)
    (kind,) = struct.unpack_from("=H", data, 4)
    if kind not in _NO_DEVICE_IN_HEADER:
        _replace(data, _HEADER + 4, to)
    others = to if request.below is None else below
    begin, attributes = _NAMING.get(kind, (0, ()))
    if attributes:
        _replace_attributes(data, _HEADER + begin, attributes, others)
    for place in request.places:
        _replace(data, place, others)
    return dataclasses.replace(request, device=to.get(request.device, request.device), data=bytes(data))


def _replace_attributes(
    data: bytearray, offset: int, kinds: t.Container[int], to: t.Mapping[int, int]
) -> None:
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if kind & _TYPE in kinds:
            first = offset + ATTRIBUTE.size
            hops = kind & _TYPE == _RTA_MULTIPATH
            for place in _hops(data, first, offset + length) if hops else [first]:
                _replace(data, place, to)
        offset += max(ATTRIBUTE.size, length + -length % 4)


def _hops(data: bytearray, offset: int, end: int) -> t.Iterator[int]:
    """Where each hop of a route (struct rtnexthop) has its ifindex."""
    while offset + 8 <= end:
        yield offset + 4
        (size,) = struct.unpack_from("=H", data, offset)
        offset += max(8, size + -size % 4)


def _replace(data: bytearray, place: int, to: t.Mapping[int, int]) -> None:
    (index,) = struct.unpack_from("=i", data, place)
    struct.pack_into("=i", data, place, to.get(index, index))
