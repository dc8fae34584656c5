# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptors of 1024 and more, which select(2) does not know, and a look that nobody goes back to it."""

from __future__ import annotations

import ast
import os
import resource
import socket
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import polling, waiting
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.jsonrpc import JsonRpc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import identify

SELECT_KNOWS = 1024


@pytest.fixture
def _many_descriptors() -> t.Iterator[None]:
    """As on a host with hundreds of bridges: the next descriptor is above what select(2) knows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], SELECT_KNOWS + 200), before[1]))
    taken: list[int] = []
    while not taken or taken[-1] < SELECT_KNOWS:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_descriptors")
def test_a_high_descriptor_is_waited_for() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert one.fileno() > SELECT_KNOWS
        assert polling.readable([one.fileno()], 0.0) == []
        assert polling.wait_for(one.fileno(), polling.READABLE | polling.WRITABLE, 0.0) == polling.WRITABLE
        other.send(b"x")
        assert polling.readable([one.fileno()], 0.0) == [one.fileno()]
        other.close()
        assert polling.wait_for(one.fileno(), polling.READABLE, None) == polling.READABLE


@pytest.mark.usefixtures("_many_descriptors")
def test_a_daemon_is_spoken_to_and_watched_on_a_host_with_many_descriptors(serve: t.Any) -> None:
    us = identify(os.getpid())
    assert us is not None
    server = serve(lambda message: [{"id": message["id"], "result": "text", "error": None}])
    with attention({"ovs-vswitchd": us}):
        assert JsonRpc(server.remote).call("version") == "text"


def test_nothing_uses_select() -> None:
    plugins = Path(waiting.__file__).parents[2]
    found = [
        f"{path.name}:{node.lineno}"
        for path in plugins.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("select.select", "selectors.SelectSelector")
    ]
    assert found == []
