# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink messages are read as they are written; what the kernel refuses is told; nonsense is an error and no loop."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import Netlink, Refusal

GET_LINK, DELETE_QDISC = 18, 37
LOOPBACK = struct.pack("=BxHiII", 0, 0, 1, 0, 0)
# A qdisc that nobody has: refused, whoever asks.
REFUSED = netlink.message(DELETE_QDISC, struct.pack("=BxxxiIII", 0, 1, 0x12340000, 0xFFFFFFFF, 0))


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=9)))
def test_attributes_are_read_as_they_are_written(values: dict[int, bytes]) -> None:
    data = netlink.joined(values)
    assert len(data) % 4 == 0
    assert netlink.attributes(b"head" + data, 4) == values


@given(st.binary(max_size=64))
def test_nonsense_is_an_error_or_nothing(data: bytes) -> None:
    with contextlib.suppress(HotUpgradeError):
        netlink.attributes(data)
    with contextlib.suppress(HotUpgradeError):
        for __, flags, number, body in netlink.parts(data):
            netlink.refusal(flags, number, body)


@given(st.lists(st.binary(max_size=3000), max_size=600))
def test_of_each_batch_the_last_message_alone_is_acknowledged(bodies: list[bytes]) -> None:
    batches = netlink.batches([netlink.message(16, body, netlink.ACK) for body in bodies])
    parts = [list(netlink.parts(batch)) for batch in batches]
    assert [each[2] for part in parts for each in part] == list(range(1, len(bodies) + 1))
    for part in parts:
        acknowledged = [bool(each[1] & netlink.ACK) for each in part]
        assert acknowledged == [False] * (len(part) - 1) + [True]
    assert all(len(batch) <= 1 << 16 for batch in batches)
    found = [each[3] for part in parts for each in part]
    assert [body[: len(sent)] for body, sent in zip(found, bodies)] == bodies


@pytest.mark.parametrize("capped", [False, True])
def test_a_refusal_has_its_name_and_the_kernels_words(capped: bool) -> None:
    request = netlink.message(16, b"1234" * 3)
    body = struct.pack("=i", -1) + (request[:16] if capped else request)
    body += netlink.attribute(1, b"not so\0")
    flags = 0x200 | (0x100 if capped else 0)
    assert netlink.refusal(flags, 5, body) == Refusal(4, 1, "not so")
    assert str(netlink.refusal(flags, 5, body)) == "EPERM (not so)"
    assert netlink.refusal(0, 5, bytes(20)) is None


def test_this_kernel_is_asked() -> None:
    with Netlink(netlink.ROUTE) as kernel:
        body = kernel.ask(netlink.message(GET_LINK, LOOPBACK), "the loopback device is not there")
        assert netlink.attributes(body, 16)[3] == b"lo\0"
        assert len(kernel.dump(netlink.message(GET_LINK, bytes(16)), "there are no devices")) >= 1


def test_what_this_kernel_refuses_is_told_and_stops_nothing() -> None:
    with Netlink(netlink.ROUTE) as kernel:
        refused = kernel.transact(netlink.batches([REFUSED] * 300))
        assert [each.place for each in refused] == list(range(300))
        with pytest.raises(HotUpgradeError, match=r"^a qdisc: E[A-Z]+"):
            kernel.ask(REFUSED, "a qdisc")
        with pytest.raises(HotUpgradeError, match="ENOENT"):
            Netlink(netlink.GENERIC).family("nobody")
