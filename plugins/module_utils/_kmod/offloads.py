# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a device leaves to hardware or does itself, as ethtool(8) -K sets it (include/uapi/linux/ethtool_netlink.h)."""

from __future__ import annotations

import contextlib
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    Told,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC_HEADER,
    NESTED,
    Netlink,
    attribute,
    generic,
)

_FAMILY, _VERSION, _GET, _SET = "ethtool", 1, 11, 12
_HEADER, _CHANGEABLE, _WANTED = 1, 2, 3
_DEVICE, _FLAGS, _COMPACT, _NO_ANSWER = 1, 3, 1, 2
_SIZE, _VALUE, _MASK = 2, 4, 5


def dump(socket: Netlink, gone: t.Container[int]) -> list[Request]:
    """What gives the devices ``gone`` in the namespace of ``socket`` their offloads back; nothing before Linux 5.7."""
    found: list[Request] = []
    with contextlib.suppress(HotUpgradeError):
        family = socket.family(_FAMILY)
        request = generic(family, _GET, _VERSION, _header(numbered(_FLAGS, _COMPACT)))
        for __, body in socket.dump(request, "the kernel does not tell offloads"):
            found += wanted(family, Told(body, GENERIC_HEADER.size), gone)
    return found


def wanted(family: int, told: Told, gone: t.Container[int]) -> t.Iterator[Request]:
    """The same of one device: everything that can be changed is set to what was wanted."""
    device = told.inside(_HEADER).number(_DEVICE)
    changeable, value = told.inside(_CHANGEABLE).value(_VALUE), told.inside(_WANTED).value(_VALUE)
    if device is None or device not in gone or not any(changeable):
        return
    kept = bytes(one & other for one, other in zip(value, changeable))
    bits = numbered(_SIZE, told.inside(_WANTED).number(_SIZE) or 0)
    bits += attribute(_VALUE, kept) + attribute(_MASK, changeable)
    header = _header(numbered(_DEVICE, device) + numbered(_FLAGS, _NO_ANSWER))
    data = generic(family, _SET, _VERSION, header + attribute(_WANTED | NESTED, bits))
    yield Request(Stage.OFFLOAD, device, "the offloads", data)


def elsewhere(data: bytes, to: t.Mapping[int, int]) -> bytes:
    """The same request for a device that has another ifindex now: it is the first thing in it."""
    place = 16 + GENERIC_HEADER.size + 4 + 4
    (index,) = struct.unpack_from("=I", data, place)
    return data[:place] + struct.pack("=I", to.get(index, index)) + data[place + 4 :]


def _header(content: bytes) -> bytes:
    return attribute(_HEADER | NESTED, content)
