# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of nftables is at a device, as nft tells it."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import nftables
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.nftables import Hook
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed

CHAINS: list[t.Any] = [
    {"metainfo": {"version": "1.0.6"}},
    {"chain": {"family": "ip", "table": "filter", "name": "input", "hook": "input"}},
    {"chain": {"family": "netdev", "table": "f", "name": "in", "dev": "br0", "hook": "ingress"}},
    {"chain": {"family": "inet", "table": "f", "name": "out", "dev": ["br0", "in1"], "hook": "ingress"}},
]
FLOWTABLES: list[t.Any] = [
    {"flowtable": {"family": "inet", "name": "ft", "table": "f", "dev": ["in1", "eth0"]}}
]


def nft(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
    told = {"chains": CHAINS, "flowtables": FLOWTABLES}[argv[-1]]
    return Completed(0, json.dumps({"nftables": told}), "")


def test_chains_and_flowtables_at_devices() -> None:
    assert nftables.hooks(nft) == (
        Hook("the chain in of the table netdev f of nftables", ("br0",)),
        Hook("the chain out of the table inet f of nftables", ("br0", "in1")),
        Hook("the flowtable ft of the table inet f of nftables", ("in1", "eth0")),
    )


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"nftables": [{"chain": 1}]}', '{"nftables": 3}'])
def test_what_is_no_answer_is_none(answer: str) -> None:
    def other(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        return Completed(0, answer, "")

    assert nftables.hooks(other) == ()


def test_without_nft_nothing_is_known() -> None:
    def nothing(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        raise HotUpgradeError("cannot run nft")

    def refused(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        return Completed(1, json.dumps({"nftables": CHAINS}), "Operation not supported")

    assert nftables.hooks(nothing) == nftables.hooks(refused) == ()
