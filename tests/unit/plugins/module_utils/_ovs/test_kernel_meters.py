# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which meters are in the way of a starting ovs-vswitchd, and that those are deleted which are there."""

from __future__ import annotations

import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_meters
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import attributes


class Kernel:
    """A kernel that has the meters 0 to 1099, and one that a start has left."""

    def __init__(self, __: int) -> None:
        self.deleted: list[int] = []

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *__: object) -> None: ...

    def family(self, name: str) -> int:
        return {"ovs_meter": 30}[name]

    def ask(self, request: bytes, what: str) -> bytes:
        # Behind struct nlmsghdr, genlmsghdr (its first byte is the command) and ovs_header.
        command, (number,) = request[16], struct.unpack("=I", attributes(request, 16 + 8)[1])
        assert struct.unpack_from("=i", request, 20) == (7,)
        if number >= 1100 and number != 54545402:
            raise HotUpgradeError(what, "No such file or directory")
        if command == 3:
            self.deleted.append(number)
        return b""


def test_those_that_are_there_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Kernel] = []

    def connect(protocol: int) -> Kernel:
        made.append(Kernel(protocol))
        return made[-1]

    monkeypatch.setattr(kernel_meters, "Netlink", connect)
    monkeypatch.setattr(
        kernel_meters.Reader, "of", lambda _netlink: t.cast("t.Any", kernel_meters.Reader)(None, {}, 7)
    )
    assert kernel_meters.clear_the_way() == [1017, 1018]
    assert made[0].deleted == [1017, 1018, 54545402]


def test_the_places_are_those_of_the_numbers_that_are_tried() -> None:
    assert kernel_meters.IN_THE_WAY[:6] == [1017, 1018, 3065, 3066, 19449, 19450]
