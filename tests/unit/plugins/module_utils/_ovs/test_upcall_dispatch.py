# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mode of upcalls is changed if it is the newer one, and nothing else of the datapath."""

from __future__ import annotations

import json
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import upcall_dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.upcall_dispatch import Dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink


class Kernel:
    """A datapath with these ``features`` and, per CPU, ``sockets``; what it was told to change is in ``changes``."""

    def __init__(self, features: int, sockets: bytes = b"") -> None:
        self.found = {5: struct.pack("=I", features), **({8: sockets} if sockets else {})}
        self.changes: list[dict[int, bytes]] = []

    def __call__(self, _protocol: int) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_words: object) -> None: ...

    def family(self, name: str) -> int:
        return {"ovs_datapath": 30, "ovs_vport": 31, "ovs_flow": 32}[name]

    def ask(self, request: bytes, _what: str) -> bytes:
        told = netlink.attributes(request, 24)
        assert told.pop(1) == b"ovs-system\0"
        if told:
            self.changes.append(told)
        return bytes(8) + netlink.joined(self.found)

    def dump(self, _request: bytes, _what: str) -> list[tuple[int, bytes]]:
        port = netlink.joined({1: struct.pack("=I", 2), 5: b"port"})
        return [(31, bytes(8) + port)]

    def transact(self, prepared: t.Sequence[bytes]) -> list[t.Any]:
        self.changes += [netlink.attributes(each, 24) for each in prepared]
        return []


def number(value: int) -> bytes:
    return struct.pack("=I", value)


@pytest.mark.parametrize(("features", "wanted"), [(0b1011, [{5: number(0b0011)}]), (0b0011, [])])
def test_only_the_mode_per_cpu_is_taken_away(
    features: int, wanted: list[dict[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(features)
    monkeypatch.setattr(upcall_dispatch, "Netlink", kernel)
    upcall_dispatch.send_upcalls_per_port()
    assert kernel.changes == wanted


@pytest.mark.parametrize(
    ("kernel", "found", "changes"),
    [
        (Kernel(0b1011, b"cpu0cpu1"), Dispatch(0b1011, b"cpu0cpu1"), [{5: number(0b1011), 8: b"cpu0cpu1"}]),
        (
            Kernel(0b0011),
            Dispatch(0b0011, ports={2: b"port"}),
            [{1: number(2), 5: b"port"}, {5: number(0b0011)}],
        ),
    ],
)
def test_upcalls_go_again_where_they_went(
    kernel: Kernel, found: Dispatch, changes: list[dict[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upcall_dispatch, "Netlink", kernel)
    assert upcall_dispatch.read() == found
    upcall_dispatch.direct(Dispatch.of_json(json.loads(json.dumps(found.json()))))
    assert kernel.changes == changes


def test_a_kernel_that_does_not_tell_where_upcalls_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcall_dispatch, "Netlink", Kernel(0b1011))
    assert upcall_dispatch.read() is None
