# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge that is moved from one ovs-vswitchd to another while somebody changes it, without the rest of a hand-over.

The judge is ovs-ofctl.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import bundles as _bundles
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import restore as restoring
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as _oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from tests.harness.waiting import wait_until

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

PAIRS = [("3.5.0", "4.0.0"), ("3.1.0", "3.5.0"), ("2.15.0", "3.1.0"), ("3.1.0", "2.15.0"), ("4.0.0", "3.5.0")]


class Move:
    """The bridge br0 of ``old`` and its copy in ``new``."""

    def __init__(self, old: Ovs, new: Ovs, settings: str = "") -> None:
        self.old, self.new = old, new
        for ovs in (old, new):
            ovs.bridge("br0", *filter(None, [settings]))
        self.living = living.Living()
        self.switches: dict[str, flowstate.Switch] = {}

    def path(self, ovs: Ovs) -> str:
        return f"{ovs.rundir}/br0.mgmt"

    def copy(self, meanwhile: t.Callable[[], None] = lambda: None) -> None:
        """Copy the bridge; ``meanwhile`` after it was followed and before it is read a second time."""
        self.living.follow({"br0": self.path(self.old)})
        self.living.forget()
        with flowstate.Switch(self.path(self.old)) as switch:
            replies = list(switch.replies())
            state = switch.state()
        saved = flowstate.State(state.version, state.ports_version, state.settings, 0, lambda: iter(replies))
        self.living.rest_on({"br0": saved})
        meanwhile()
        self.switches["br0"] = flowstate.Switch(self.path(self.new))
        restoring.restore(self.switches["br0"], self.living.now("br0", saved))
        self.living.watch(self.switches)

    def copy_behind(
        self, quicker: t.Callable[[], None], meanwhile: t.Callable[[], None] = lambda: None
    ) -> None:
        """The same where somebody does something in the new process before that is filled, and right behind it."""
        self.copy()
        switch = self.switches["br0"]
        saved = self.living.base["br0"]
        self.new.ofctl("del-flows", "br0")
        self.living.unwatch()
        switch.close()
        self.switches["br0"] = flowstate.Switch(self.path(self.new))
        self.living.watch(self.switches)
        quicker()
        self.last_words()
        self.living.restore("br0", self.switches["br0"], saved)
        meanwhile()
        self.living.make_again("br0", self.switches["br0"])

    def last_words(self) -> None:
        self.living.quiet()
        os.kill(self.old.pid(), signal.SIGKILL)
        self.living.last_words()

    def end(self) -> None:
        self.last_words()
        self.living.carry(self.switches, {})

    def account(self) -> dict[str, t.Any]:
        return living.values(self.living.account("br0", self.switches["br0"]))

    def close(self) -> None:
        self.living.close()
        self.switches["br0"].close()


@pytest.fixture(name="text")
def _text(move: t.Callable[..., Move], monkeypatch: pytest.MonkeyPatch) -> t.Callable[[Ovs], None]:
    """Have OpenFlow as text be made by the ovs-ofctl of a host: this machine may have none."""

    def use(ovs: Ovs) -> None:
        def printed(messages: t.Sequence[bytes], _program: str) -> str:
            data = [wire.flow_statistics(data) if wire.is_flow_mod(data) else data for data in messages]
            Path(ovs.path("/run/messages")).write_bytes(b"".join(data))
            return ovs.run("ovs-ofctl", "ofp-parse", "/run/messages")

        monkeypatch.setattr(_oftext, "_printed", printed)

    return use


@pytest.fixture(name="move")
def _move(start_ovs: t.Callable[..., Ovs]) -> t.Iterator[t.Callable[..., Move]]:
    moves: list[Move] = []

    def make(old: str = "3.5.0", new: str = "4.0.0", settings: str = "") -> Move:
        moves.append(Move(start_ovs(old), start_ovs(new), settings))
        return moves[-1]

    yield make
    for each in moves:
        each.close()


def dump(ovs: Ovs, what: str = "dump-flows") -> list[str]:
    lines = ovs.ofctl(*(["--no-stats"] if "flows" in what else []), what, "br0").replace("reset_counts ", "")
    return sorted(line for line in lines.splitlines() if "reply" not in line)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_what_somebody_changes_at_any_moment_is_there_and_explained(
    move: t.Callable[..., Move], text: t.Callable[[Ovs], None], old: str, new: str
) -> None:
    made = move(old, new)
    text(made.new)
    for number in range(1, 6):
        made.old.ofctl(
            "add-flow", "br0", f"priority={number},cookie=0x{number},ip,nw_dst=10.0.0.{number} actions=drop"
        )

    def add() -> None:
        made.old.ofctl("add-flow", "br0", "priority=6,cookie=6,tcp,tp_dst=80 actions=resubmit(,3)")

    made.copy(add)
    made.old.ofctl("add-flow", "br0", "priority=7,cookie=7,arp actions=NORMAL")
    made.old.ofctl("mod-flows", "br0", "ip,nw_dst=10.0.0.1 actions=NORMAL")
    made.old.ofctl("--strict", "del-flows", "br0", "priority=2,ip,nw_dst=10.0.0.2")
    wanted = dump(made.old)
    made.end()
    assert dump(made.new) == wanted
    made.new.ofctl("add-flow", "br0", "priority=8,cookie=8,idle_timeout=60,send_flow_rem,icmp actions=drop")
    made.new.ofctl("del-flows", "br0", "ip,nw_dst=10.0.0.3")
    found = made.account()
    assert not found["unexplained"]
    if new != "2.15.0":  # told in OpenFlow 1.0 there, but told
        assert {"0x7", "0x8"} <= found["others"].keys()


@pytest.mark.parametrize(("old", "new"), PAIRS[:3])
def test_what_is_lost_without_a_word_is_a_fault(move: t.Callable[..., Move], old: str, new: str) -> None:
    made = move(old, new)
    made.old.ofctl("add-flow", "br0", "priority=1,ip,nw_dst=10.0.0.1 actions=drop")
    made.copy()
    made.old.ofctl("add-flow", "br0", "priority=2,ip,nw_dst=10.0.0.2 actions=drop")
    made.living.quiet()
    os.kill(made.old.pid(), signal.SIGKILL)
    made.living.last_words()  # and nothing is carried over
    lost = made.account()["unexplained"]
    if (
        old == "2.15.0"
    ):  # what it told in OpenFlow 1.0 is judged by what the new one tells when it is made there
        return
    assert "1 missing" in lost
    assert "priority=2" in lost


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_groups_and_meters_of_others_are_carried_over_in_an_order_that_works(
    move: t.Callable[..., Move], old: str, new: str
) -> None:
    made = move(old, new)
    made.old.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=drop")
    made.old.ofctl("add-group", "br0", "group_id=2,type=all,bucket=actions=drop")
    made.old.ofctl("add-flow", "br0", "priority=1,ip actions=group:1")
    made.copy()
    made.old.ofctl("add-meter", "br0", "meter=7,kbps,band=type=drop,rate=100")
    made.old.ofctl("add-group", "br0", "group_id=3,type=all,bucket=bucket_id:1,actions=drop")
    made.old.ofctl(
        "insert-buckets", "br0", "group_id=3,command_bucket_id=last,bucket=bucket_id:2,actions=drop"
    )
    made.old.ofctl("add-flow", "br0", "priority=2,arp actions=meter:7,group:3")
    made.old.ofctl("add-flow", "br0", "priority=1,ip actions=group:3")
    made.old.ofctl("del-groups", "br0", "group_id=1")
    wanted = [dump(made.old, what) for what in ("dump-flows", "dump-groups", "dump-meters")]
    made.end()
    assert [dump(made.new, what) for what in ("dump-flows", "dump-groups", "dump-meters")] == wanted
    assert not made.account()["unexplained"]


@pytest.mark.parametrize(("old", "new"), PAIRS[:3])
def test_meters_that_were_deleted_all_at_once_in_the_last_moment_are_gone(
    move: t.Callable[..., Move], old: str, new: str
) -> None:
    made = move(old, new)
    for number in (1, 2, 3):
        made.old.ofctl("add-meter", "br0", f"meter={number},kbps,bands=type=drop,rate=1000")
    made.old.ofctl("add-flow", "br0", "priority=1 actions=meter:1,NORMAL")
    made.copy()
    made.old.ofctl("del-meters", "br0")
    made.old.ofctl("add-meter", "br0", "meter=2,kbps,bands=type=drop,rate=2000")
    wanted = dump(made.old), dump(made.old, "dump-meters")
    made.end()
    assert (dump(made.new), dump(made.new, "dump-meters")) == wanted
    assert not made.account()["unexplained"]


@pytest.mark.parametrize(("old", "new"), PAIRS[:2])
def test_who_is_quicker_than_we_are_keeps_what_it_made_in_the_new_process(
    move: t.Callable[..., Move], old: str, new: str
) -> None:
    made = move(old, new)
    made.old.ofctl("add-flow", "br0", "priority=1,ip actions=drop")

    def quicker() -> None:
        made.new.ofctl("add-meter", "br0", "meter=7,kbps,band=type=drop,rate=100")
        made.new.ofctl("add-group", "br0", "group_id=3,type=all,bucket=bucket_id:1,actions=drop")
        made.new.ofctl("add-flow", "br0", "priority=2,arp actions=meter:7,group:3")
        made.new.ofctl("add-flow", "br0", "priority=1,ip actions=NORMAL")

    made.copy_behind(quicker)
    assert dump(made.new)[-2:] == [" priority=1,ip actions=NORMAL", " priority=2,arp actions=meter:7,group:3"]
    assert "group_id=3" in str(dump(made.new, "dump-groups"))
    assert "meter=7" in str(dump(made.new, "dump-meters"))
    assert not made.account()["unexplained"]


def test_what_fills_a_large_bridge_is_nobody_elses(
    move: t.Callable[..., Move], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_MANY_FLOWS", 0)
    made = move()
    made.old.ofctl("add-flow", "br0", "priority=1,ip actions=drop")
    made.copy_behind(lambda: None)
    found = made.account()
    assert not found["others"]
    assert not found["unexplained"]


def test_what_was_deleted_last_and_added_again_in_the_new_process_is_there(
    move: t.Callable[..., Move],
) -> None:
    """What a controller had sent to the old process, without an answer, it sends to the new one again."""
    made = move()
    add = {
        "meter": ("add-meter", "meter=7,kbps,band=type=drop,rate=100"),
        "group": ("add-group", "group_id=3,type=all,bucket=bucket_id:0,actions=drop"),
        "flow": ("add-flow", "priority=2,arp actions=meter:7,group:3"),
    }
    for verb, what in add.values():
        made.old.ofctl(verb, "br0", what)
    wanted = [dump(made.old, what) for what in ("dump-groups", "dump-meters")]

    def deleted_and_added() -> None:
        for ovs in (made.old, made.new):
            ovs.ofctl("del-flows", "br0", "arp")
            ovs.ofctl("del-groups", "br0", "group_id=3")
            ovs.ofctl("del-meter", "br0", "meter=7")
        for verb, what in add.values():
            made.new.ofctl(verb, "br0", what)

    def again() -> None:
        made.new.ofctl("del-meter", "br0", "meter=7")
        for verb, what in (add["meter"], add["flow"]):
            made.new.ofctl(verb, "br0", what)

    made.copy_behind(deleted_and_added, again)
    assert [dump(made.new, what) for what in ("dump-groups", "dump-meters")] == wanted
    assert " priority=2,arp actions=meter:7,group:3" in dump(made.new)
    assert not made.account()["unexplained"]


def test_a_controllers_resync_is_no_hole_and_no_fault(move: t.Callable[..., Move]) -> None:
    made = move()
    flows = "".join(
        f"priority={n},ip,nw_dst=10.1.{n // 250}.{n % 250} actions=drop\n" for n in range(1, 2001)
    )
    made.old.ofctl("add-flows", "br0", "-", feed=flows)
    made.copy()
    made.old.ofctl("del-flows", "br0")
    made.old.ofctl("add-flows", "br0", "-", feed=flows.replace("drop", "NORMAL"))
    made.end()
    assert dump(made.new) == sorted(
        f" priority={n},ip,nw_dst=10.1.{n // 250}.{n % 250} actions=NORMAL" for n in range(1, 2001)
    )
    assert not made.account()["unexplained"]


def test_what_both_processes_touch_is_as_it_is_in_the_end(move: t.Callable[..., Move]) -> None:
    """On a slow host flows expire in the new process as soon as it works, while the old one goes on learning them."""
    made = move()
    made.old.ofctl("add-flow", "br0", "table=1,priority=1,ip,nw_dst=10.0.0.1 actions=drop")
    made.old.ofctl("add-flow", "br0", "table=1,priority=2,hard_timeout=1,ip,nw_dst=10.0.0.2 actions=drop")
    made.copy()
    made.new.ofctl("del-flows", "br0", "table=1,ip,nw_dst=10.0.0.1")
    made.old.ofctl("add-flow", "br0", "table=1,priority=1,ip,nw_dst=10.0.0.1 actions=NORMAL")
    wait_until(lambda: "priority=2" not in str(dump(made.old)))
    made.new.ofctl("add-flow", "br0", "table=1,priority=2,hard_timeout=300,ip,nw_dst=10.0.0.2 actions=drop")
    made.end()
    left = [line for line in dump(made.new) if "table=1" in line]
    assert left == [
        " table=1, hard_timeout=300, priority=2,ip,nw_dst=10.0.0.2 actions=drop",
        " table=1, priority=1,ip,nw_dst=10.0.0.1 actions=NORMAL",
    ]
    assert not made.account()["unexplained"]


def test_flags_and_ports_that_were_changed_late_are_carried_over(move: t.Callable[..., Move]) -> None:
    made = move()
    made.old.ofctl("add-flow", "br0", "priority=1,cookie=9,send_flow_rem,ip,nw_dst=10.0.0.1 actions=drop")
    made.copy()
    made.old.ofctl("add-flow", "br0", "priority=2,cookie=9,send_flow_rem,ip,nw_dst=10.0.0.2 actions=drop")
    made.old.ofctl("mod-port", "br0", "br0", "no-flood", version="OpenFlow10")
    wanted = dump(made.old)
    made.end()
    assert dump(made.new) == wanted
    assert "NO_FLOOD" in made.new.ofctl("show", "br0", version="OpenFlow10")
    assert not made.account()["unexplained"]


def test_a_bridge_that_cannot_be_followed_is_compared_without_what_comes_and_goes(
    move: t.Callable[..., Move],
) -> None:
    made = move("2.15.0", "3.1.0", "protocols=OpenFlow13")
    made.old.ofctl("add-flow", "br0", "priority=1,ip,nw_dst=10.0.0.1 actions=drop", version="OpenFlow13")
    made.copy()
    made.end()
    assert "br0" in made.living.unfollowed
    made.new.ofctl("add-flow", "br0", "priority=3,idle_timeout=60,arp actions=drop", version="OpenFlow13")
    assert not made.account()["unexplained"]


@pytest.mark.parametrize("version", ["2.15.0", "3.5.0"])
def test_what_a_bridge_lacks_is_given_back_and_what_others_put_there_stays(
    start_ovs: t.Callable[..., Ovs], version: str
) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0")
    ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=drop")
    ovs.ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
    ovs.ofctl("add-flow", "br0", "priority=1,ip actions=meter:1,group:1")
    ovs.ofctl("add-flow", "br0", "priority=2,arp actions=drop")
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        replies, live = list(switch.replies()), switch.state()
    saved = flowstate.State(live.version, live.ports_version, live.settings, 0, lambda: iter(replies))
    wanted = dump(ovs)
    for deleted in (("del-flows", "br0"), ("del-groups", "br0"), ("del-meters", "br0")):
        ovs.ofctl(*deleted)
    ovs.ofctl("add-flow", "br0", "priority=2,arp actions=NORMAL")  # a controller was quicker
    ovs.ofctl("add-flow", "br0", "priority=3,icmp actions=drop")
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.fill_up(switch, saved)
    theirs = [" priority=2,arp actions=NORMAL", " priority=3,icmp actions=drop"]
    assert dump(ovs) == sorted([line for line in wanted if "arp" not in line] + theirs)


def test_what_somebody_adds_while_a_bridge_is_filled_up_is_theirs(
    start_ovs: t.Callable[..., Ovs], monkeypatch: pytest.MonkeyPatch
) -> None:
    ovs = start_ovs()
    ovs.bridge("br0")
    ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=drop")
    ovs.ofctl("add-flow", "br0", "priority=2,arp actions=group:1")
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        replies, live = list(switch.replies()), switch.state()
    saved = flowstate.State(live.version, live.ports_version, live.settings, 0, lambda: iter(replies))
    ovs.ofctl("del-groups", "br0")
    ovs.ofctl("add-flow", "br0", "priority=3,ip actions=drop")
    exchange = restoring._exchange

    def late(switch: flowstate.Switch, messages: list[bytes], but: t.Container[str] = ()) -> None:
        if any(map(wire.is_group_mod, messages)):
            ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=NORMAL")
        exchange(switch, messages, but)

    monkeypatch.setattr(restoring, "_exchange", late)
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.fill_up(switch, saved)
    assert " priority=2,arp actions=group:1" in dump(ovs)
    assert "NORMAL" in str(dump(ovs, "dump-groups"))


def test_settings_are_given_back_without_what_others_use_meanwhile(start_ovs: t.Callable[..., Ovs]) -> None:
    ovs = start_ovs()
    ovs.bridge("br0")
    ovs.ofctl("mod-port", "br0", "br0", "no-flood", version="OpenFlow10")
    ovs.ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        saved = switch.state()
    ovs.ofctl("mod-port", "br0", "br0", "flood", version="OpenFlow10")
    ovs.ofctl("mod-meter", "br0", "meter=1,kbps,band=type=drop,rate=200")
    ovs.ofctl("add-meter", "br0", "meter=2,kbps,band=type=drop,rate=300")
    meters = dump(ovs, "dump-meters")
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.adjust(switch, saved)
    assert "NO_FLOOD" in ovs.ofctl("show", "br0", version="OpenFlow10")
    assert dump(ovs, "dump-meters") == meters


def saved_state(ovs: Ovs) -> flowstate.State:
    """What br0 holds now."""
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        replies, live = list(switch.replies()), switch.state()
    return flowstate.State(live.version, live.ports_version, live.settings, 0, lambda: iter(replies))


def test_what_others_change_while_settings_are_given_back_stays(
    start_ovs: t.Callable[..., Ovs], monkeypatch: pytest.MonkeyPatch
) -> None:
    ovs = start_ovs()
    ovs.bridge("br0")
    for number in (1, 2):
        ovs.ofctl("add-meter", "br0", f"meter={number},kbps,band=type=drop,rate=100")
    saved = saved_state(ovs)
    settings = flowstate.Switch.settings
    asked: list[t.Any] = []

    def overtaken(switch: flowstate.Switch) -> flowstate.Settings:
        found = settings(switch)
        if not asked:
            ovs.ofctl("mod-meter", "br0", "meter=1,kbps,band=type=drop,rate=200")
            ovs.ofctl("del-meter", "br0", "meter=2")
            ovs.ofctl("add-meter", "br0", "meter=3,kbps,band=type=drop,rate=300")
        asked.append(True)
        return found

    monkeypatch.setattr(flowstate.Switch, "settings", overtaken)
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.adjust(switch, saved)
    found = str(dump(ovs, "dump-meters"))
    assert [f"meter={number}" in found for number in (1, 2, 3)] == [True, False, True]
    assert "rate=200" in found


def test_meters_that_somebody_deletes_while_they_are_restored_are_restored_once_more(
    start_ovs: t.Callable[..., Ovs], monkeypatch: pytest.MonkeyPatch
) -> None:
    ovs = start_ovs()
    ovs.bridge("br0")
    ovs.ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
    ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=bucket_id:0,actions=drop")
    ovs.ofctl("add-flow", "br0", "priority=1,ip actions=meter:1,group:1")
    saved, wanted = saved_state(ovs), (dump(ovs), dump(ovs, "dump-meters"))
    for what in ("flows", "groups", "meters"):
        ovs.ofctl(f"del-{what}", "br0")
    commit = _bundles.Bundles.commit
    times: list[t.Any] = []

    def overtaken(bundles: _bundles.Bundles) -> list[wire.SwitchError]:
        if len(times) < 2:
            ovs.ofctl("del-meters", "br0")
        times.append(True)
        return commit(bundles)

    monkeypatch.setattr(_bundles.Bundles, "commit", overtaken)
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.restore(switch, saved, torn=True)
    assert (dump(ovs), dump(ovs, "dump-meters")) == wanted


@pytest.mark.parametrize("settings", ["", "protocols=OpenFlow13", "protocols=OpenFlow14"])
def test_a_flow_whose_meter_or_group_is_gone_is_gone_as_well(
    start_ovs: t.Callable[..., Ovs], settings: str
) -> None:
    ovs = start_ovs()
    ovs.bridge("br0", *filter(None, [settings]))
    version = settings.partition("=")[2] or "OpenFlow15"
    ovs.ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100", version=version)
    ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=drop", version=version)
    for number, actions in enumerate(("meter:1,normal", "group:1", "write_actions(group:1)", "drop"), 1):
        ovs.ofctl("add-flow", "br0", f"priority={number},ip actions={actions}", version=version)
    saved = saved_state(ovs)
    flows = [reply for reply in saved.replies() if not wire.is_group_reply(reply)]
    known = dataclasses.replace(saved.settings, meters={})
    torn = dataclasses.replace(saved, settings=known, replies=lambda: iter(flows))
    with flowstate.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
        restoring.restore(switch, torn, torn=True)
    shown = ovs.ofctl("--no-stats", "dump-flows", "br0", version=version).replace("reset_counts ", "")
    assert [line for line in shown.splitlines() if "ip" in line] == [" priority=4,ip actions=drop"]


def test_meters_of_the_last_moment_wait_for_the_flush_as_well(move: t.Callable[..., Move]) -> None:
    made = move()
    made.old.ofctl("add-meter", "br0", "meter=1,kbps,band=type=drop,rate=100")
    made.old.ofctl("add-flow", "br0", "priority=1,ip actions=meter:1,NORMAL")
    made.copy()
    made.old.ofctl("del-meter", "br0", "meter=1")
    made.old.ofctl("add-meter", "br0", "meter=2,kbps,band=type=drop,rate=200")
    made.old.ofctl("add-flow", "br0", "priority=2,arp actions=meter:2,NORMAL")
    wanted = dump(made.old), dump(made.old, "dump-meters")
    switch = made.switches["br0"]
    staged = restoring.stage(switch, made.living.base["br0"], torn=True)
    made.living.quiet()
    os.kill(made.old.pid(), signal.SIGKILL)
    made.living.last_words()
    made.living.carry(made.switches, {"br0": staged})
    made.living.expect_refill("br0")
    for what in ("flows", "groups", "meters"):
        made.new.ofctl(f"del-{what}", "br0")
    staged.refill()
    assert (dump(made.new), dump(made.new, "dump-meters")) == wanted


def test_a_port_that_was_configured_in_the_last_moment_stays_so(move: t.Callable[..., Move]) -> None:
    made = move()
    made.copy()
    made.living.quiet()
    made.old.ofctl("mod-port", "br0", "br0", "no-forward")
    os.kill(made.old.pid(), signal.SIGKILL)
    made.living.last_words()
    made.living.carry(made.switches, {})
    assert "NO_FWD" in made.new.ofctl("show", "br0", version="OpenFlow10")
