# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offloads are wanted again as they were, as far as they can be changed."""

from __future__ import annotations

import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import offloads
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Told, numbered
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    NESTED,
    Netlink,
    attribute,
)


def bitset(value: bytes) -> bytes:
    return numbered(2, 9) + attribute(4, value)


def told(device: int, changeable: bytes, value: bytes) -> Told:
    header = attribute(1 | NESTED, numbered(1, device))
    return Told(header + attribute(2 | NESTED, bitset(changeable)) + attribute(3 | NESTED, bitset(value)))


def test_what_can_be_changed_is_wanted_again() -> None:
    (found,) = offloads.wanted(20, told(5, b"\x0f\1\0\0", b"\xf3\1\0\0"), {5})
    sent = Told(found.data, 20)
    assert struct.unpack_from("=HH", found.data, 4)[0] == 20
    assert sent.inside(1).number(1) == 5
    bits = sent.inside(3)
    assert (bits.number(2), bits.value(4), bits.value(5)) == (9, b"\x03\1\0\0", b"\x0f\1\0\0")
    assert Told(offloads.elsewhere(found.data, {5: 50}), 20).inside(1).number(1) == 50


def test_devices_of_others_and_those_without_any() -> None:
    assert not list(offloads.wanted(20, told(9, b"\1", b"\1"), {5}))
    assert not list(offloads.wanted(20, told(5, b"\0", b"\1"), {5}))


def test_this_kernel_is_asked() -> None:
    with Netlink(GENERIC) as socket:
        assert offloads.dump(socket, set()) == []
