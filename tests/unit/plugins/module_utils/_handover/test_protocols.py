# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second process that runs LACP, BFD and CFM in silence: what it is told, what it lacks, when it may speak."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import protocols, spoken
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.spoken import Spoken
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import bfd, bonds, cfm, lacp
from tests.unit.plugins.module_utils._handover.conftest import Clock
from tests.unit.plugins.module_utils._handover.test_plan import bridge, interface, port

PARTY = lacp.Party("02:00:00:00:00:01", 1, 1, 1, 3, 0x3D)
CURRENT = lacp.Member(lacp.CURRENT, True, PARTY, PARTY._replace(system="02:00:00:00:00:02"))
EXPIRED = CURRENT._replace(status="expired", attached=False)
UP = bfd.Session(bfd.UP, 0xA, 0xB, 100, 100, 3, 300)
HEALTHY = cfm.Endpoint(7, False, 1000, (9,), "")
BOND = {"bond0": bonds.Bond("active-backup", {"a": bonds.Member(True, True, ())})}

OLD = Spoken({"bond0": {"a": CURRENT}}, {"b": UP}, {"c": HEALTHY}, BOND)
INTERFACES = {
    "a": interface("a", ofport=1),
    "b": interface("b", ofport=2, bfd={"enable": "true", "bfd_src_ip": "192.0.2.1"}),
    "c": interface("c", ofport=3, cfm_mpid=7),
}
BRIDGE = bridge(
    ports=(port("bond0", lacp="active", interfaces=("a",)), port("b"), port("c"), port("d")),
    interfaces=(*INTERFACES.values(), interface("d", ofport=4)),
)


def test_who_speaks() -> None:
    assert {name: bridge for name, (bridge, __) in spoken.speaking([BRIDGE]).items()} == dict.fromkeys(
        "abc", "br0"
    )
    bond = port("bond0", interfaces=("b", "d"))  # of which one member runs BFD
    assert spoken.speaking([bridge(ports=(bond,), interfaces=BRIDGE.interfaces)]).keys() == {"b", "d"}
    silent = bridge(ports=(port(lacp="off"),), interfaces=(interface(bfd={"enable": "false"}),))
    assert spoken.speaking([silent]) == {}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Spoken({}, OLD.sessions, OLD.endpoints, BOND), "LACP does not run on a"),
        (
            Spoken({"bond0": {"a": EXPIRED}}, OLD.sessions, OLD.endpoints, BOND),
            "LACP of a is expired and detached",
        ),
        (Spoken(OLD.aggregates, {}, OLD.endpoints, BOND), "BFD does not run on b"),
        (Spoken(OLD.aggregates, {"b": UP._replace(state="init")}, OLD.endpoints, BOND), "BFD of b is init"),
        (Spoken(OLD.aggregates, OLD.sessions, {}, BOND), "CFM does not run on c"),
        (
            Spoken(OLD.aggregates, OLD.sessions, {"c": HEALTHY._replace(remotes=())}, BOND),
            "CFM of c has not heard all of its remote ends",
        ),
        (
            Spoken(OLD.aggregates, OLD.sessions, {"c": HEALTHY._replace(fault="recv")}, BOND),
            "CFM of c has recv",
        ),
        (Spoken(OLD.aggregates, OLD.sessions, OLD.endpoints), "a of bond bond0 is disabled"),
    ],
)
def test_what_a_process_lacks(new: Spoken, words: str) -> None:
    assert spoken.lacking(OLD, new) == [words]


def test_nothing_is_lacking_that_was_not_there() -> None:
    assert spoken.lacking(OLD, OLD) == []
    down = Spoken(
        {"bond0": {"a": EXPIRED}}, {"b": UP._replace(state="down")}, {"c": HEALTHY._replace(fault="recv")}
    )
    assert spoken.lacking(down, OLD) == []
    other = {"bond1": bonds.Bond("active-backup", {"x": bonds.Member(False, False, ())})}
    assert spoken.lacking(Spoken(bonding=other), Spoken()) == []  # only its carrier counts


def test_a_partner_that_would_see_somebody_else() -> None:
    other = Spoken({"bond0": {"a": CURRENT._replace(actor=PARTY._replace(key=4))}})
    assert spoken.strangers(OLD, other) == ["LACP of a: its key would be 4 and is 3"]
    assert spoken.strangers(OLD, OLD) == []


def test_what_the_neighbours_tell() -> None:
    new = Spoken(
        {"bond0": {"a": EXPIRED}}, {"b": UP._replace(state="down", discriminator=0xC)}, {"c": HEALTHY}
    )
    found = spoken.priming(OLD, new, INTERFACES)
    assert [name for name, __ in found] == ["a", "b", "b", "c"]
    (lacpdu, first, second, check) = (frame for __, frame in found)
    assert lacpdu == lacp.from_partner(CURRENT)
    route = bfd.Route("192.0.2.1")
    assert first == bfd.from_peer(UP, 0xC, "init", bfd.MOST, bfd.FINAL, route)
    assert second == bfd.from_peer(UP, 0xC, bfd.UP, bfd.MOST, bfd.FINAL, route)
    assert [check] == cfm.from_remotes(HEALTHY)
    assert [name for name, __ in spoken.priming(OLD, OLD, INTERFACES)] == ["a", "b", "c"]
    assert spoken.priming(OLD, OLD, INTERFACES)[0] == ("a", lacp.from_partner(CURRENT))


class End:
    """One end of a session as lib/bfd.c runs it (bfd_process_packet, bfd_run)."""

    def __init__(self) -> None:
        self.session = UP._replace(
            state="down", discriminator=0xC, remote_multiplier=0, diagnostic="No Diagnostic"
        )

    def hear(self, frame: bytes) -> None:
        state = ("admin_down", "down", "init", "up")[frame[43] >> 6]
        now = {("down", "down"): "init", ("down", "init"): "up", ("init", "init"): "up", ("init", "up"): "up"}
        if (self.session.state, state) == ("up", "down"):
            self.session = self.session._replace(state="down", diagnostic=bfd.SIGNALED, interval=1000)
        elif self.session.state == "up" and frame[43] & bfd.FINAL:
            self.session = self.session._replace(interval=UP.interval)
        state = now.get((self.session.state, state), self.session.state)
        self.session = self.session._replace(state=state, remote_multiplier=frame[44])

    def expire(self) -> None:
        """A moment goes by in which nobody speaks."""
        if self.session.state != "down" and self.session.remote_multiplier == 1:
            self.session = self.session._replace(state="down", diagnostic=bfd.EXPIRED, interval=1000)


@pytest.mark.parametrize("told", ["No Diagnostic", bfd.EXPIRED, bfd.SIGNALED, "Path Down"])
@pytest.mark.parametrize("before", ["No Diagnostic", bfd.EXPIRED, bfd.SIGNALED])
@pytest.mark.parametrize("state", ["down", "init", "up"])
def test_a_session_tells_of_its_last_end_what_it_told_before(told: str, before: str, state: str) -> None:
    old, end = Spoken(sessions={"b": UP._replace(diagnostic=told)}), End()
    end.session = end.session._replace(state=state, diagnostic=before)
    for __ in range(6):
        new = Spoken(sessions={"b": end.session})
        frames = [frame for __, frame in spoken.priming(old, new, INTERFACES)]
        for frame in frames:
            end.hear(frame)
        if not frames:
            end.expire()
    assert spoken.lacking(old, Spoken(sessions={"b": end.session})) == []
    assert end.session.state == "up"
    assert end.session.remote_multiplier == bfd.MOST
    assert end.session.diagnostic == (told if told in (bfd.EXPIRED, bfd.SIGNALED) else before)


def test_one_that_was_down_is_not_as_fast_at_once() -> None:
    """Its neighbour would miss it."""
    old, new = (Spoken(sessions={"b": UP._replace(interval=interval)}) for interval in (100, 1000))
    assert spoken.lacking(old, new) == ["BFD of b speaks every 1000 ms and not every 100 ms"]


def test_another_diagnostic_is_told_of() -> None:
    old = Spoken(sessions={"b": UP._replace(diagnostic=bfd.EXPIRED)})
    new = Spoken(sessions={"b": UP._replace(diagnostic="No Diagnostic")})
    assert spoken.lacking(old, new) == [
        "BFD of b tells its neighbour 'No Diagnostic' and not 'Control Detection Time Expired'"
    ]


def test_who_is_greeted_answers_at_once_and_misses_nobody_for_longer_than_before() -> None:
    found = dict(spoken.greeting(OLD, OLD, INTERFACES))
    assert found["a"] == lacp.from_partner(CURRENT)
    assert found["b"] == bfd.from_peer(UP, UP.discriminator, bfd.UP, 3, bfd.POLL, bfd.Route("192.0.2.1"))


class Connection:
    """A connection to a switch that takes everything."""

    version = wire.OF15

    def __init__(self, calls: list[t.Any]) -> None:
        self.calls = calls

    def xid(self) -> int:
        return 1

    def refusals(self, messages: t.Sequence[bytes]) -> list[t.Any]:
        """Port-mods: the number, and whether it is silent then."""
        self.calls += [(message[11], bool(message[27])) for message in messages]
        return []

    def exchange(self, messages: t.Sequence[bytes]) -> list[t.Any]:
        """Packets-out: the port that each comes in by."""
        self.calls.append([message[27] for message in messages])
        return [[]] * len(messages)


class Switch:
    """One whose port 3 is silent because its user wants that."""

    name = "br0.mgmt"

    def __init__(self) -> None:
        self.calls: list[t.Any] = []
        self.main = self.ports = Connection(self.calls)

    def describe_ports(self) -> list[wire.Port]:
        silent = {3: wire.PORT_NO_FORWARD}
        return [wire.Port(number, f"p{number}", bytes(6), silent.get(number, 0)) for number in range(1, 5)]


class Database:
    """The configuration of ``BRIDGE``, and what was done to it."""

    def __init__(self) -> None:
        self.done: list[t.Any] = []

    def bridges(self) -> list[t.Any]:
        return [BRIDGE]

    def transact(self, *operations: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        self.done += operations
        trees = {"stp_enable": False, "rstp_enable": False}
        bridges = [
            {"_uuid": ["uuid", "5"], **trees},
            {"_uuid": ["uuid", "6"], **trees, "rstp_enable": True},
        ]
        ports = [{"_uuid": ["uuid", "1"], "lacp": "active"}, {"_uuid": ["uuid", "2"], "lacp": ["set", []]}]
        unset = {"bfd": ["map", []], "cfm_mpid": ["set", []]}
        speaks = {"_uuid": ["uuid", "4"], "bfd": ["map", [["enable", "true"]]], "cfm_mpid": 7}
        return [{"rows": bridges}, {"rows": ports}, {"rows": [{"_uuid": ["uuid", "3"], **unset}, speaks]}]

    def select(self, table: str, columns: t.Sequence[str]) -> list[dict[str, t.Any]]:
        assert (table, list(columns)) == ("Port", ["_uuid", "rstp_status"])
        return [{"_uuid": "1", "rstp_status": {}}, {"_uuid": "2", "rstp_status": {"rstp_port_id": "800b"}}]


@pytest.fixture(name="begun")
def _begun() -> tuple[protocols.Protocols, Switch]:
    switch, copy = Switch(), Database()
    found = protocols.Protocols(Clock())

    def applied() -> None:
        switch.calls.append("applied")

    switches = {"br0": t.cast("t.Any", switch)}
    found.begin(
        t.cast("t.Any", Database()), t.cast("t.Any", copy), switches, t.cast("t.Any", Control(OLD)), applied
    )
    number = copy.done.pop(-2)
    assert (number["table"], number["where"]) == ("Port", [["_uuid", "==", ["uuid", "2"]]])
    assert number["mutations"][1:] == [["other_config", "insert", ["map", [["rstp-port-num", "11"]]]]]
    assert [(each["table"], each["where"], each["row"]) for each in copy.done] == [
        ("Bridge", [["_uuid", "==", ["uuid", "6"]]], {"rstp_enable": True}),
        ("Port", [["_uuid", "==", ["uuid", "1"]]], {"lacp": "active"}),
        (
            "Interface",
            [["_uuid", "==", ["uuid", "4"]]],
            {"bfd": ["map", [["enable", "true"]]], "cfm_mpid": 7},
        ),
        ("Port", [], {"bond_updelay": 0}),
    ]
    return found, switch


def test_who_is_to_run_protocols_is_silent_before(begun: tuple[protocols.Protocols, Switch]) -> None:
    assert begun[1].calls == [(1, True), (2, True), "applied"]


class Control:
    """A process that shows one after the other of ``looks``, the last one again and again."""

    def __init__(self, *looks: Spoken) -> None:
        self.looks, self.commands = list(looks), list[tuple[str, ...]]()

    def call(self, *command: str) -> str:
        self.commands.append(command)
        return ""


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(control: Control) -> Spoken:
        return control.looks.pop(0) if len(control.looks) > 1 else control.looks[0]

    monkeypatch.setattr(spoken, "hear", hear)


def test_neighbours_are_heard_until_all_is_as_it_was(begun: tuple[protocols.Protocols, Switch]) -> None:
    found, switch = begun
    switch.calls.clear()
    late = Spoken({"bond0": {"a": EXPIRED}}, OLD.sessions, OLD.endpoints, BOND)
    new = Control(late, late, late, OLD)
    found.settle(t.cast("t.Any", Control(OLD)), t.cast("t.Any", new))
    assert switch.calls == [[1, 2, 3]] * 3


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Spoken({"bond0": {"a": CURRENT._replace(actor=PARTY._replace(key=4))}}), "its key would be 4"),
        (Spoken(OLD.aggregates, OLD.sessions, {}, BOND), "CFM does not run on c"),
    ],
)
def test_a_process_that_cannot_go_on(
    begun: tuple[protocols.Protocols, Switch], new: Spoken, words: str
) -> None:
    with pytest.raises(protocols.Unprimed, match=words):
        begun[0].settle(t.cast("t.Any", Control(OLD)), t.cast("t.Any", Control(new)))


def test_it_is_told_everything_before_it_speaks_and_greeted_after(
    begun: tuple[protocols.Protocols, Switch],
) -> None:
    found, switch = begun
    switch.calls.clear()
    new = Control(OLD)
    found.speak(t.cast("t.Any", Control(OLD)), t.cast("t.Any", new))
    assert switch.calls == [[1, 2, 3], (1, False), (2, False)]
    # Its main loop has come round before the flag is cleared.
    assert new.commands == [("version",)] * 2
    found.greet()
    assert switch.calls[-1] == [1, 2, 3]


def test_it_does_not_speak_before_it_knows_its_neighbours_again(
    begun: tuple[protocols.Protocols, Switch],
) -> None:
    found, switch = begun
    switch.calls.clear()
    expired = Spoken({"bond0": {"a": EXPIRED}}, OLD.sessions, OLD.endpoints, BOND)
    found.speak(t.cast("t.Any", Control(OLD)), t.cast("t.Any", Control(expired, OLD)))
    assert switch.calls == [[1, 2, 3], [1, 2, 3], (1, False), (2, False)]
