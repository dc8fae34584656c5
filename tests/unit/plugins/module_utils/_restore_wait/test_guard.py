# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ast
import contextlib
import itertools
import socket
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait import flag as restore_wait
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait import guard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)


def clear(remote: str) -> None:
    with contextlib.closing(guard.connect(remote)) as connection:
        guard.clear(connection)


def test_only_the_flag_goes(serve: t.Any, database: t.Any) -> None:
    database.other_config.update({"flow-restore-wait": "true", "hw-offload": "true"})
    clear(serve(database).remote)
    assert database.other_config == {"hw-offload": "true"}


def test_nothing_to_clear_is_fine(serve: t.Any, database: t.Any) -> None:
    clear(serve(database).remote)


def test_a_refusal_is_no_success(serve: t.Any, database: t.Any) -> None:
    database.refuse = {"error": "not allowed"}
    with pytest.raises(ValueError, match="not allowed"):
        clear(serve(database).remote)


def test_an_error_of_the_server_is_no_success(serve: t.Any) -> None:
    with pytest.raises(ValueError, match="unknown database"):
        clear(serve(lambda m: [{"id": m["id"], "result": None, "error": "unknown database"}]).remote)


def test_a_server_that_hangs_up_is_no_success(serve: t.Any) -> None:
    with pytest.raises(ConnectionError):
        clear(serve(lambda message: None).remote)


def test_an_answer_in_pieces_behind_a_liveness_probe(serve: t.Any) -> None:
    def script(message: dict[str, t.Any]) -> list[t.Any]:
        return [b'{"id": "echo", "method": "echo", "params": []} {"id": "flow-resto', b're-wait", "error": null,',
                b'"result": [{"count": 1}, {}]}']  # fmt: skip

    clear(serve(script).remote)


@pytest.mark.parametrize(
    "piece",
    [b"[" * 3000, b'{"id": "other"} ' * 100, b'"' + b"x" * 1000, b"\xff", b'{"id":"y","method":"echo"}'],
)
def test_a_server_that_does_not_end_is_no_success(
    serve: t.Any, monkeypatch: pytest.MonkeyPatch, piece: bytes
) -> None:
    monkeypatch.setattr(guard, "_TIMEOUT", 0.5)
    with pytest.raises((OSError, ValueError)):
        clear(serve(lambda message: itertools.repeat(piece)).remote)


def test_tcp(serve: t.Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remote = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.closing(guard.connect(remote)) as connection:
            assert connection.getpeername() == listener.getsockname()


def test_other_remotes_are_refused() -> None:
    with pytest.raises(ValueError, match="neither unix: nor tcp:"):
        guard.connect("ssl:127.0.0.1:6640")


def test_it_tries_until_the_database_is_back(
    serve: t.Any, database: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.other_config["flow-restore-wait"] = "true"
    program = tmp_path / "state/guard.py"
    program.parent.mkdir()
    traces = [tmp_path / "unit", tmp_path / "vswitchd.wants/unit", program]
    (tmp_path / "vswitchd.wants").mkdir()
    for trace in traces:
        trace.touch()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            serve(database, "late.sock")

    monkeypatch.setattr(guard.time, "sleep", pause)
    monkeypatch.setattr(guard, "__file__", str(program))
    guard.main(f"unix:{tmp_path}/late.sock", *map(str, traces[:2]), str(tmp_path / "gone"))
    assert len(pauses) == 3
    assert database.other_config == {}
    assert not any(trace.exists() for trace in traces)
    assert not (tmp_path / "vswitchd.wants").exists()
    assert not program.parent.exists()


@pytest.fixture
def transactions_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(guard, "TRANSACTIONS", str(tmp_path / "transactions"))
    return str(tmp_path / "transactions")


def test_it_gives_way_to_a_hand_over_that_is_at_work(
    serve: t.Any, database: t.Any, transactions_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database.other_config["flow-restore-wait"] = "true"
    server = serve(database)
    hand_over = transactions.create({"remote": server.remote, "boot": boot_id()}, transactions_root)
    seen: list[str] = []

    def pause(_seconds: float) -> None:
        seen.append(f"{hand_over.state} {'flow-restore-wait' in database.other_config}")
        hand_over.move(hand_over.state, {"prepared": "armed", "armed": "confirmed"}[hand_over.state])

    monkeypatch.setattr(guard.time, "sleep", pause)
    monkeypatch.setattr(guard, "__file__", str(tmp_path / "gone/guard.py"))
    guard.main(server.remote)
    assert seen == ["prepared True", "armed True"]
    assert database.other_config == {}


@pytest.mark.parametrize(
    "different", [{"boot": "another"}, {"remote": "unix:/another"}], ids=["boot", "database"]
)
def test_a_hand_over_of_another_boot_or_database_is_not_waited_for(
    transactions_root: str, different: dict[str, str]
) -> None:
    request = {"remote": "unix:/db.sock", "boot": boot_id()}
    transactions.create({**request, **different}, transactions_root)
    assert guard.owner("unix:/db.sock") == ""


def test_a_hand_over_that_never_ends_is_not_waited_for_for_ever(
    transactions_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions.create({"remote": "unix:/db.sock", "boot": boot_id()}, transactions_root)
    clock = itertools.count(0.0, 100.0)
    monkeypatch.setattr(guard.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(guard.time, "sleep", lambda _seconds: None)
    guard.give_way("unix:/db.sock")
    assert next(clock) > guard.PATIENCE


def test_it_knows_the_names_of_the_engine() -> None:
    assert guard.TRANSACTIONS == transactions.ROOT
    assert guard.OWNING == restore_wait.OWNING


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(guard.__file__).read_text())
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    if sys.version_info >= (3, 10):
        assert imported <= set(sys.stdlib_module_names)
    assert not any(str(name).startswith("ansible") for name in imported)
