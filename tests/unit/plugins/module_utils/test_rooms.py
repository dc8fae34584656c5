# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's rooms are floors of a house: imports go down, and what a user can ask for never needs another such thing."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import errors

ENGINE = Path(errors.__file__).parents[1]
PACKAGE = "ansible_collections.ovsops.hot_upgrade.plugins.module_utils."

FLOORS = (
    {"_base"},
    {"_system"},
    {"_ovs"},
    {"_openflow"},
    {"_kmod", "_proof", "_snapshot", "_transaction"},
    {
        "_handover",
        "_health",
        "_info",
        "_kube",
        "_ovn",
        "_policy_guard",
        "_probe",
        "_prune",
        "_rehearsal",
        "_restore_wait",
    },
    {"_ansible"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports() -> t.Iterator[tuple[Path, str, str]]:
    """Every import of an engine's module: the file, its room, and the room that it is from."""
    for path in ENGINE.rglob("*.py"):
        room = path.relative_to(ENGINE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                yield path, room, (node.module or "").removeprefix(PACKAGE).split(".")[0]


def test_imports_go_down_or_stay_in_the_room() -> None:
    wrong = [
        f"{path.relative_to(ENGINE)} imports from {other}"
        for path, room, other in imports()
        if other != room and FLOOR[other] >= FLOOR[room]
    ]
    assert wrong == []


def test_every_room_has_a_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in ENGINE.iterdir() if path.name != "__pycache__"}
    assert rooms == set(FLOOR)
