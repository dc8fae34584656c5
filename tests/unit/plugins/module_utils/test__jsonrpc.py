# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import ProtocolError, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._jsonrpc import JsonRpc, RpcError


def result(value: t.Any) -> t.Callable[[dict[str, t.Any]], list[t.Any]]:
    return lambda message: [{"id": message["id"], "result": value, "error": None}]


def test_a_call_returns_its_result(serve: t.Any) -> None:
    server = serve(result({"a": [1, "ü"]}))
    rpc = JsonRpc(server.remote)
    assert rpc.call("method", ["x", 1]) == {"a": [1, "ü"]}
    assert (server.received[0]["method"], server.received[0]["params"]) == ("method", ["x", 1])
    rpc.close()


def test_one_connection_serves_many_calls(serve: t.Any) -> None:
    rpc = JsonRpc(
        serve(lambda message: [{"id": message["id"], "result": message["params"], "error": None}]).remote
    )
    assert [rpc.call("echoed", [number]) for number in range(5)] == [[number] for number in range(5)]


def test_a_result_larger_than_a_read_is_put_together(serve: t.Any) -> None:
    rpc = JsonRpc(serve(result("x" * 70_000)).remote)
    assert rpc.call("get_schema") == "x" * 70_000


def test_a_refusal_is_an_error_with_the_json_value(serve: t.Any) -> None:
    rpc = JsonRpc(serve(lambda m: [{"id": m["id"], "result": None, "error": {"error": "unknown"}}]).remote)
    with pytest.raises(RpcError) as refusal:
        rpc.call("nope")
    assert refusal.value.error == {"error": "unknown"}


def test_liveness_probes_and_notifications_on_the_way_are_no_answer(serve: t.Any) -> None:
    waiting: list[t.Any] = []

    def script(message: dict[str, t.Any]) -> list[t.Any]:
        if message.get("method"):
            waiting.append(message["id"])
            probe = {"id": "probe", "method": "echo", "params": ["alive?"]}
            return [{"id": None, "method": "update", "params": []}, probe]
        # Only the reply to the probe releases the answer.
        assert message == {"id": "probe", "result": ["alive?"], "error": None}
        return [{"id": waiting.pop(), "result": "done", "error": None}]

    assert JsonRpc(serve(script).remote).call("slow") == "done"


def test_an_answer_to_something_else_is_a_protocol_error(serve: t.Any) -> None:
    rpc = JsonRpc(serve(lambda message: [{"id": "other", "result": 1, "error": None}]).remote)
    with pytest.raises(ProtocolError, match="'other'"):
        rpc.call("method")


def test_a_silent_daemon_is_reported_with_the_time_it_had(serve: t.Any) -> None:
    rpc = JsonRpc(serve(lambda message: []).remote)
    with pytest.raises(Unreachable, match=r"no answer to version .* in 0\.05 s.*silent"):
        rpc.call("version", timeout=0.05)


def test_a_daemon_that_goes_away_is_reported(serve: t.Any) -> None:
    rpc = JsonRpc(serve(lambda message: None).remote)
    with pytest.raises(Unreachable, match="closed the connection during exit"):
        rpc.call("exit")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot connect to unix:.*No such file or directory"):
        JsonRpc(f"unix:{tmp_path}/none.sock")
