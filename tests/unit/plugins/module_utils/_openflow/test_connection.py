# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import socket
import struct
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import connection as _openflow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import sockets

Answer = t.Callable[[bytes], t.Iterable[bytes]]


def polite(request: bytes) -> t.Iterator[bytes]:
    """A switch that says hello and answers barriers."""
    found = wire.header(request)
    if found.type == wire.HELLO:
        yield wire.hello((wire.OF15, wire.OF13, wire.OF10))
    elif found.type == 20:
        yield wire.message(found.version, 21, found.xid)


class FakeSwitch:
    """A switch that answers each message with what ``answer`` yields; ``b""`` closes the connection."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path, self.received = str(path), bytearray()
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        # The other side may leave in the middle of an answer.
        with contextlib.suppress(ConnectionError):
            self._serve()

    def _serve(self) -> None:
        connection, __ = self._listener.accept()
        buffer = bytearray()
        with connection:
            while data := connection.recv(65536):
                self.received += data
                buffer += data
                requests = list(wire.split(buffer))
                del buffer[: sum(map(len, requests))]
                for request in requests:
                    for answer in self._answer(request):
                        if not answer:
                            return
                        connection.sendall(answer)


@pytest.fixture
def switch(tmp_path: Path) -> t.Callable[[Answer], str]:
    """Start a fake switch; returns the path of its socket."""
    return lambda answer: FakeSwitch(tmp_path / "br.mgmt", answer).path


def test_the_highest_common_version_is_taken(switch: t.Callable[[Answer], str]) -> None:
    with OpenFlow.connect(switch(polite), (wire.OF14, wire.OF13, wire.OF10)) as of:
        assert of.version == wire.OF13
        assert of.offered == {wire.OF15, wire.OF13, wire.OF10}


def test_no_common_version_says_what_each_side_wants(switch: t.Callable[[Answer], str]) -> None:
    with pytest.raises(
        Refused, match="wanted OpenFlow14, the bridge allows OpenFlow10, OpenFlow13, OpenFlow15"
    ):
        OpenFlow.connect(switch(polite), (wire.OF14,))


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        OpenFlow.connect(str(tmp_path / "none.mgmt"))


def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(deep, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{directory}/br.mgmt")
    listener.listen()
    with pytest.raises(Unreachable, match="did not answer"):
        OpenFlow.connect(str(deep / "br.mgmt"), timeout=0.01)


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: [b""],
        lambda request: [wire.message(wire.OF15, wire.HELLO, 1)[:5], b""],
        lambda request: [struct.pack("!BBHI", 6, 0, 3, 1)],
        lambda request: [wire.message(wire.OF15, wire.HELLO, 1, struct.pack("!HHI", 1, 500, 0))],
        lambda request: [],
        lambda request: [wire.message(wire.OF15, wire.ECHO_REQUEST, 1)] * 3,
    ],
    ids=["closes", "closes in a message", "impossible length", "bad element", "silent", "other things only"],
)
def test_a_broken_switch_ends_in_an_error_not_in_waiting(
    switch: t.Callable[[Answer], str], answer: Answer
) -> None:
    with pytest.raises(HotUpgradeError):
        OpenFlow.connect(switch(answer), timeout=0.05)


def test_a_switch_that_sends_other_things_for_ever_is_given_up(switch: t.Callable[[Answer], str]) -> None:
    def chatty(request: bytes) -> t.Iterator[bytes]:
        yield from polite(request)
        while request[1] == 18:
            yield wire.message(wire.OF15, 10, 0, bytes(100))

    with (
        OpenFlow.connect(switch(chatty), timeout=0.1) as of,
        pytest.raises(Unreachable, match="did not answer"),
    ):
        list(of.stream(wire.flows_request(of.version, of.xid())))


def test_what_follows_a_message_with_a_false_length_is_not_waited_for(
    switch: t.Callable[[Answer], str],
) -> None:
    """A group of more than 64 KB has the rest of its length; what is behind it would be a message that never ends."""

    def lying(request: bytes) -> t.Iterator[bytes]:
        yield from polite(request)
        if request[1] == 18:
            yield wire.message(wire.OF15, 19, wire.header(request).xid, struct.pack("!HHI", 7, 0, 0))
            yield struct.pack("!HHI", 40, 0xFFFF, 7)  # of a bucket

    with (
        OpenFlow.connect(switch(lying), timeout=60.0) as of,
        pytest.raises(ProtocolError, match="sent no OpenFlow message.*version 0, OpenFlow15 was agreed on"),
    ):
        of.ask(wire.group_desc_request(of.version, of.xid(), 7))


def in_parts(count: int, asked: list[int], then: t.Callable[[], None]) -> Answer:
    """A switch that answers each multipart request in ``count`` parts, after it has noted its id and done ``then``."""

    def answer(request: bytes) -> t.Iterator[bytes]:
        yield from polite(request)
        if request[1] == 18:
            found = wire.header(request)
            asked.append(found.xid)
            then()
            for left in reversed(range(count)):
                yield wire.message(
                    wire.OF15, 19, found.xid, struct.pack("!HHI", wire.FLOWS, int(left > 0), 0)
                )

    return answer


def test_the_next_request_goes_out_when_the_answer_to_the_one_before_begins(
    switch: t.Callable[[Answer], str],
) -> None:
    asked: list[int] = []
    second_asked, go_on = threading.Event(), threading.Event()

    def wait_at_the_second() -> None:
        if len(asked) == 2:
            second_asked.set()
            go_on.wait(10)

    with OpenFlow.connect(switch(in_parts(2, asked, wait_at_the_second))) as of:
        numbers = [of.xid() for __ in range(3)]
        parts = of.stream(*(wire.flows_request(of.version, number) for number in numbers))
        assert wire.header(next(parts)).xid == numbers[0]
        assert second_asked.wait(10)
        assert asked == numbers[:2]
        go_on.set()
        assert [wire.header(part).xid for part in parts] == [numbers[n] for n in (0, 1, 1, 2, 2)]
        assert asked == numbers


def test_the_next_request_does_not_wait_for_whoever_works_on_the_answer(
    switch: t.Callable[[Answer], str],
) -> None:
    """The third request goes out when the second answer is here, although nobody has taken a part of that yet."""
    asked: list[int] = []
    third_asked = threading.Event()

    def tell_the_third() -> None:
        if len(asked) == 3:
            third_asked.set()

    with OpenFlow.connect(switch(in_parts(4, asked, tell_the_third))) as of:
        numbers = [of.xid() for __ in range(3)]
        parts = of.stream(*(wire.flows_request(of.version, number) for number in numbers))
        taken = []
        while not third_asked.is_set():
            taken.append(wire.header(next(parts)).xid)
            third_asked.wait(60)  # at once, or never
        assert set(taken) == {numbers[0]}


def test_echo_requests_are_answered(tmp_path: Path) -> None:
    def curious(request: bytes) -> t.Iterator[bytes]:
        if request[1] == 20:
            yield wire.message(wire.OF15, wire.ECHO_REQUEST, 77, b"hello")
        yield from polite(request)

    fake = FakeSwitch(tmp_path / "br.mgmt", curious)
    with OpenFlow.connect(fake.path) as of:
        of.exchange([])
        of.exchange([])
    assert wire.message(wire.OF15, wire.ECHO_REPLY, 77, b"hello") in bytes(fake.received)


def test_answers_come_in_the_order_of_the_requests(switch: t.Callable[[Answer], str]) -> None:
    def answering(request: bytes) -> t.Iterator[bytes]:
        found = wire.header(request)
        if found.type == wire.GET_CONFIG_REQUEST:
            yield wire.message(found.version, wire.GET_CONFIG_REPLY, found.xid, bytes(4))
        elif found.type == wire.METER_MOD:
            yield wire.message(found.version, wire.ERROR, found.xid, struct.pack("!HH", 12, 1) + request[:64])
        yield from polite(request)

    with OpenFlow.connect(switch(answering)) as of:
        config = wire.message(of.version, wire.GET_CONFIG_REQUEST, of.xid())
        wrong, quiet = wire.meter_mod(of.version, of.xid(), 0, 1), wire.delete_flows(of.version, of.xid())
        first, second, third = of.exchange([wrong, config, quiet])
    assert isinstance(first, wire.SwitchError)
    assert (first.name, first.data) == ("OFPMMFC_METER_EXISTS", wrong)
    assert isinstance(second, list)
    assert second[0][1] == wire.GET_CONFIG_REPLY
    assert third == []


def test_a_refused_request_names_the_error(switch: t.Callable[[Answer], str]) -> None:
    def refusing(request: bytes) -> t.Iterator[bytes]:
        if request[1] == 18:
            yield wire.message(wire.OF15, wire.ERROR, wire.header(request).xid, struct.pack("!HH", 1, 2))
        yield from polite(request)

    with OpenFlow.connect(switch(refusing)) as of:
        with pytest.raises(ProtocolError, match="OFPBRC_BAD_STAT"):
            of.ask(wire.ports_request(of.version, of.xid()))
        with pytest.raises(ProtocolError, match="OFPBRC_BAD_STAT"):
            list(of.stream(wire.flows_request(of.version, of.xid())))


def test_a_long_series_goes_through_while_errors_come_back(tmp_path: Path) -> None:
    # More in both directions than the sockets hold: whoever waits for the other would wait for ever.
    def refusing(request: bytes) -> t.Iterator[bytes]:
        if request[1] == wire.FLOW_MOD:
            yield wire.message(
                wire.OF15, wire.ERROR, wire.header(request).xid, struct.pack("!HH", 5, 1) + request[:64]
            )
        yield from polite(request)

    flows = [wire.message(wire.OF15, wire.FLOW_MOD, number, bytes(3000)) for number in range(1, 8001)]
    fake = FakeSwitch(tmp_path / "br.mgmt", refusing)
    with OpenFlow.connect(fake.path) as of:
        errors = of.send(iter(flows))
    assert [error.xid for error in errors] == list(range(1, 8001))
    assert {error.name for error in errors} == {"OFPFMFC_TABLE_FULL"}


@pytest.mark.parametrize("parts", [1, 1 << 30], ids=["a drip", "for ever"])
def test_a_multipart_answer_without_end_is_given_up(
    switch: t.Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Each part says that more follow: small ones buy no time, and many have a bound."""

    def endless(request: bytes) -> t.Iterator[bytes]:
        yield from polite(request)
        if request[1] == 18:
            body = struct.pack("!HHI", wire.FLOWS, 1, 0) + bytes(8 if parts == 1 else 0)
            yield from itertools.repeat(wire.message(wire.OF15, 19, wire.header(request).xid, body), parts)

    monkeypatch.setattr(_openflow, "MOST_STREAMED", 1 << 16)
    path = switch(endless)
    fault = "did not answer for 0.1 s|does not end"
    with OpenFlow.connect(path, timeout=0.1) as of, pytest.raises(HotUpgradeError, match=fault):
        collections.deque(of.stream(wire.flows_request(of.version, of.xid())), maxlen=0)


def test_an_answer_in_memory_has_a_bound(
    switch: t.Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(request: bytes) -> t.Iterator[bytes]:
        if request[1] == 18:
            body = struct.pack("!HHI", wire.FLOWS, 1, 0) + bytes(1000)
            yield from itertools.repeat(wire.message(wire.OF15, 19, wire.header(request).xid, body))
        yield from polite(request)

    monkeypatch.setattr(sockets, "MOST_KEPT", 1 << 16)
    with OpenFlow.connect(switch(endless)) as of, pytest.raises(ProtocolError, match="does not end"):
        of.exchange([wire.flows_request(of.version, of.xid())])


def test_a_switch_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "SLOWEST", 1 << 40)  # what the socket's buffer holds shall buy no time
    stop = threading.Event()

    def deaf(request: bytes) -> t.Iterator[bytes]:
        yield from polite(request)
        stop.wait(20)

    with OpenFlow.connect(FakeSwitch(tmp_path / "br.mgmt", deaf).path, timeout=0.2) as of:
        flows = [wire.message(wire.OF15, wire.FLOW_MOD, number, bytes(60_000)) for number in range(1, 500)]
        with pytest.raises(Unreachable, match=r"took no more data for 0\.2 s"):
            of.send(iter(flows))
    stop.set()


def test_an_idle_connection_shows_a_sign_of_life_and_a_used_one_is_left_alone(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: bytes) -> t.Iterator[bytes]:
        if wire.header(request).type == 20:
            begun.set()
            assert go_on.wait(30.0)
        yield from polite(request)

    fake = FakeSwitch(tmp_path / "br.mgmt", slow)
    told: list[bytes] = []

    def message() -> bytes:
        told.append(wire.message(wire.OF15, wire.ECHO_REQUEST, 0))
        return told[-1]

    with OpenFlow.connect(fake.path) as of:
        of.sign_of_life(0.0, message)
        user = threading.Thread(target=of.send)
        user.start()
        assert begun.wait(30.0)
        before = len(told)
        of.breathe()
        assert len(told) == before  # somebody uses it
        go_on.set()
        user.join(30.0)
        of.breathe()
        assert len(told) > before
        of.sign_of_life()
        assert of.send() == []
        assert bytes(fake.received).count(told[-1]) == len(told)


def test_a_lost_connection_breathes_no_more_and_says_so_when_it_is_used(tmp_path: Path) -> None:
    fake = FakeSwitch(tmp_path / "br.mgmt", lambda request: [*polite(request), b""])
    with OpenFlow.connect(fake.path) as of:
        of.sign_of_life(0.0)
        of.breathe()
        of.breathe()
        with pytest.raises(Unreachable):
            of.send()
    of.breathe()


def test_an_answer_does_not_go_into_the_middle_of_a_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    flow = wire.message(wire.OF15, wire.FLOW_MOD, 0x77, bytes(60000))
    got = bytearray()

    def switch() -> None:
        """One that probes for life when it has read the half of a message."""
        got.extend(theirs.recv(1000))
        theirs.sendall(wire.message(wire.OF15, wire.ECHO_REQUEST, 0x55))
        while data := theirs.recv(65536):
            got.extend(data)
            for request in list(wire.split(got)):
                if request[1] == 20:
                    theirs.sendall(wire.message(wire.OF15, 21, wire.header(request).xid))
                    return

    reader = threading.Thread(target=switch, daemon=True)
    reader.start()
    of = OpenFlow(ours, wire.OF15, "br.mgmt", 10.0)
    with contextlib.closing(theirs), contextlib.closing(ours):
        assert of.send([flow] * 5) == []
        reader.join(10)
    kinds = [wire.header(message).type for message in wire.split(got)]
    assert kinds == [*[wire.FLOW_MOD] * 5, wire.ECHO_REPLY, 20]
