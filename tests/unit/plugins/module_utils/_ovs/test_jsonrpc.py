# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import json
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.jsonrpc import (
    JsonRpc,
    RpcError,
    Splitter,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import sockets


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


ENDLESS = {
    "an array": b'{"id": 1, "result": [' + b"0," * 1000,
    "a string": b'{"id": 1, "result": "' + b"x" * 1000,
    "notifications": b'{"method": "update", "params": [], "id": null}' * 20,
    "probes": b'{"method": "echo", "params": ["' + b"x" * 1000 + b'"], "id": "probe"}',
    "blanks": b" \n" * 500,
}


@pytest.mark.parametrize("pieces", [1, 1 << 30], ids=["then silence", "for ever"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_that_does_not_end_is_given_up(
    serve: t.Any, monkeypatch: pytest.MonkeyPatch, kind: str, pieces: int
) -> None:
    def script(message: dict[str, t.Any]) -> t.Iterator[bytes]:
        if "method" in message:
            yield b'{"method": "update", "params": [], "id": null} '
            yield from itertools.repeat(ENDLESS[kind], pieces)

    monkeypatch.setattr(sockets, "MOST_KEPT", 1 << 20)
    rpc = JsonRpc(serve(script).remote, 0.3)
    with pytest.raises(
        (Unreachable, ProtocolError), match=r"no answer to version .* in 0\.3 s|does not end|nested more"
    ):
        rpc.call("version")
    rpc.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 1_000_000,
        b'{"id": 1, "result": ' + b'{"a":' * 5000,
        b'{"id": 1, "result": ' + b"1" * 1_000_000 + b"}",
        b'{"id": 1, "result": 1]',
        b'{"id": 1, "result": "\xff\xfe"}',
        b'{"id": 1, "result": nonsense}',
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b'"text"',
        b"[1, 2]",
        b"]",
        b"\0" * 100,
    ],
)
def test_nonsense_is_a_protocol_error(serve: t.Any, answer: bytes) -> None:
    rpc = JsonRpc(serve(lambda message: [answer]).remote)
    with pytest.raises(ProtocolError, match="no message of JSON-RPC"):
        rpc.call("version")


@given(st.data())
def test_documents_are_found_wherever_the_stream_is_cut(data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text('a"\\{}[]ü\n'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('k"\\{'), inner),
        max_leaves=8,
    )
    documents = data.draw(st.lists(st.dictionaries(st.text(), values), max_size=4))
    stream = b" \n".join(json.dumps(document, ensure_ascii=False).encode() for document in documents)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = Splitter()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)]):
        found += splitter.feed(stream[begin:end])
    assert [json.loads(document) for document in found] == documents
