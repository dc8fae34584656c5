# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mode of upcalls is changed if it is the newer one, and nothing else of the datapath."""

from __future__ import annotations

import struct
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import upcall_dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink


@pytest.mark.parametrize(("features", "wanted"), [(0b1011, [0b0011]), (0b0011, [])])
def test_only_the_mode_per_cpu_is_taken_away(
    features: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[int] = []

    def ask(request: bytes, _what: str) -> bytes:
        found = netlink.attributes(request, 24)
        assert found[1] == b"ovs-system\0"
        if 5 in found:
            changes.extend(struct.unpack("=I", found[5]))
            return b""
        return bytes(8) + netlink.attribute(5, struct.pack("=I", features))

    class Kernel:
        def __init__(self, _protocol: int) -> None: ...

        def __enter__(self) -> t.Any:
            return types.SimpleNamespace(ask=ask, family=lambda _name: 30)

        def __exit__(self, *_words: object) -> None: ...

    monkeypatch.setattr(upcall_dispatch, "Netlink", Kernel)
    upcall_dispatch.send_upcalls_per_port()
    assert changes == wanted
