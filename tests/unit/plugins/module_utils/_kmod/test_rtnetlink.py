# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes come back as they were told; devices with another ifindex are named by it."""

from __future__ import annotations

import contextlib
import errno
import struct
import types
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import rtnetlink
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    Told,
    elsewhere,
    numbered,
    place_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import attribute, message


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=9)), st.sampled_from([0, 0x8000, 0x4000]))
def test_what_is_told_is_said_again(values: dict[int, bytes], bits: int) -> None:
    """The bits beside the type, too: some of the kernel's parsers insist on them."""
    body = b"head" + b"".join(attribute(kind | bits, value) for kind, value in values.items())
    told = Told(body, 4)
    assert told.without() == body[4:]
    assert {kind: told.value(kind) for kind in values} == values


@given(st.binary(max_size=64))
def test_nonsense_is_an_error_or_nothing(data: bytes) -> None:
    with contextlib.suppress(HotUpgradeError):
        Told(data)


def test_a_part_of_it() -> None:
    told = Told(numbered(1, 7) + attribute(2, b"name\0") + attribute(3, numbered(1, 9)))
    assert (told.number(1), told.number(4), told.text(2), told.value(4, b"no")) == (7, None, "name", b"no")
    assert told.only(2, 4, 1) == attribute(2, b"name\0") + numbered(1, 7)
    assert told.without(2) == numbered(1, 7) + attribute(3, numbered(1, 9))
    assert told.inside(3).number(1) == 9


def sent(kind: int, body: bytes, to: dict[int, int]) -> bytes:
    found = elsewhere(Request(Stage.STATE, 5, "x", message(kind, body)), to, {})
    return found.data[16:]


def test_a_device_with_another_number() -> None:
    header = struct.Struct("=BxHiII")
    body = header.pack(0, 0, 5, 1, 1) + numbered(5, 6) + numbered(4, 6)  # it is on 6, and has an MTU of 6
    assert sent(16, body, {5: 50, 6: 60}) == header.pack(0, 0, 50, 1, 1) + numbered(5, 60) + numbered(4, 6)


def test_a_device_on_one_of_another_namespace() -> None:
    """Each namespace counts for itself."""
    header = struct.Struct("=BxHiII")
    link = attribute(3, numbered(1, 6))
    body = header.pack(0, 0, 6, 0, 0) + numbered(5, 6) + link
    data = message(16, body)
    request = Request(Stage.CHILD, 6, "x", data, (place_of(data, 32, 3, 1),), below=0)
    found = elsewhere(request, {}, {6: 60})
    assert found.data[16:] == header.pack(0, 0, 6, 0, 0) + numbered(5, 60) + attribute(3, numbered(1, 60))
    assert elsewhere(request, {6: 7}, {}).data[16:] == header.pack(0, 0, 7, 0, 0) + body[16:]


def test_an_address_with_another_number() -> None:
    header = struct.Struct("=BBBBI")
    body = header.pack(2, 24, 0, 0, 5) + numbered(4, 5)
    assert sent(20, body, {5: 50}) == header.pack(2, 24, 0, 0, 50) + numbered(4, 5)


def test_a_route_names_its_devices_in_attributes() -> None:
    header = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 4, 0, 1, 0)
    gateway = attribute(5, b"\1\2\3\4")
    hops = struct.pack("=HBBi", 16, 0, 0, 5) + gateway + struct.pack("=HBBi", 8, 0, 0, 9)
    body = header + numbered(4, 5) + attribute(9, hops)
    moved = struct.pack("=HBBi", 16, 0, 0, 50) + gateway + struct.pack("=HBBi", 8, 0, 0, 9)
    assert sent(24, body, {5: 50}) == header + numbered(4, 50) + attribute(9, moved)


def test_a_nexthop_has_its_flags_where_others_have_their_device() -> None:
    header = struct.pack("=BBBBI", 2, 0, 4, 0, 4)
    assert sent(104, header + numbered(5, 4), {4: 40}) == header + numbered(5, 40)


def test_a_device_that_is_named_in_the_middle() -> None:
    data = message(48, bytes(4) + attribute(1, numbered(1, 5) + attribute(2, numbered(3, 5))))
    place = place_of(data, 20, 1, 2, 3)
    assert struct.unpack_from("=I", data, place) == (5,)
    assert place_of(data, 20, 1, 4) == 0
    found = elsewhere(Request(Stage.ACTION, 5, "x", data, (place,)), {5: 50}, {})
    assert found.data[16:] == bytes(4) + attribute(1, numbered(1, 5) + attribute(2, numbered(3, 50)))
    assert found.device == 50


def test_who_reads_much_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []
    monkeypatch.setattr(rtnetlink, "beat", lambda: beats.append(1))
    route: t.Any = types.SimpleNamespace(dump=lambda _request, _what: [(24, b"a"), (24, b"b")])
    assert rtnetlink.dumped(route, 26, b"", "routes") == [b"a", b"b"]
    assert beats == [1]


def test_what_is_there_need_not_be_made_and_what_is_gone_not_deleted() -> None:
    made, deleted = (Request(Stage.ROUTE, 5, "", message(kind, bytes(12))) for kind in (24, 25))
    assert rtnetlink.is_so_already(made, errno.EEXIST)
    assert rtnetlink.is_so_already(deleted, errno.ESRCH)
    assert not rtnetlink.is_so_already(made, errno.ESRCH)
    assert (
        elsewhere(Request(Stage.ROUTE, 5, "", message(25, bytes(12) + numbered(4, 5))), {5: 9}, {}).device
        == 9
    )
