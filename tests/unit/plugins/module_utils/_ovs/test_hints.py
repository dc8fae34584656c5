# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is called at night by an error is told where to look, or what to do."""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import hints

ROOMS = Path(hints.__file__).parents[1]
ERRORS = {"HotUpgradeError", "Refused", "Unreachable", "Lost", "TimedOut"}


def errors(source: str) -> t.Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            yield node


def hinted(error: ast.Call) -> bool:
    """What, why and hint; or all of an error that is told on."""
    passed_on = any(isinstance(word, ast.Starred) for word in error.args)
    return passed_on or len(error.args) > 2 or any(word.arg == "hint" for word in error.keywords)


def test_every_error_says_where_to_look_or_what_to_do() -> None:
    bare = [
        f"{path.relative_to(ROOMS)}:{error.lineno}"
        for path in sorted(ROOMS.rglob("*.py"))
        for error in errors(path.read_text(encoding="utf-8"))
        if not hinted(error)
    ]
    assert bare == []


def test_a_log_is_named_by_its_daemon() -> None:
    assert hints.log_of("ovsdb-server") == hints.SERVER_LOG
    assert hints.VSWITCHD_LOG.endswith(" /var/log/openvswitch/ovs-vswitchd.log")
