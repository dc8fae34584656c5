# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meters of a second process get the kernel's numbers of the first."""

from __future__ import annotations

import contextlib
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import metering
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire


@pytest.fixture(name="host")
def _host(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """br0 has the meters 1 and 2; traffic goes through 2, which the kernel has as number 0."""
    world.wish |= {"bridges": {"br0": ()}}
    settings = types.SimpleNamespace(meters={1: b"slow", 2: b"fast"})
    monkeypatch.setattr(metering, "settings_of", lambda _path: settings)
    monkeypatch.setattr(metering.proof, "metered", lambda _dump, _most: ["a flow"])
    monkeypatch.setattr(metering.meters, "used", lambda _trace: {("br0", 2): 0, ("gone", 9): 1})
    monkeypatch.setattr(type(world.host.services), "control", lambda *__: world.spy("old", call="text"))
    return world.host


class Switch:
    """Notes the meters that it is given."""

    def __init__(self, *errors: str) -> None:
        self.given: list[bytes] = []
        self.errors = [types.SimpleNamespace(name=name) for name in errors]
        self.main = self
        self.version = wire.OF13

    def xid(self) -> int:
        return 1

    def send(self, messages: list[bytes]) -> list[t.Any]:
        self.given += messages
        return self.errors


def numbers(switch: Switch) -> list[int]:
    """struct ofp13_meter_mod: the meter id is behind the header, the command and the flags."""
    return [int.from_bytes(message[12:16], "big") for message in switch.given]


def test_what_is_under_traffic_comes_where_the_kernel_has_it(host: t.Any) -> None:
    host.filler.metering.order()
    switch = Switch()
    host.filler.metering.add({"br0": switch})
    assert numbers(switch) == [2, 1]


def test_a_number_that_has_gone_up_is_reached(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that is flushed for its controller has its meters added again, which counts on."""
    monkeypatch.setattr(metering.meters, "used", lambda _trace: {("br0", 2): 3})
    host.filler.metering.order()
    switch = Switch()
    host.filler.metering.add({"br0": switch})
    assert numbers(switch) == [1, 3, 4, 2, 3, 4]
    assert [message[9] for message in switch.given] == [wire.METER_ADD] * 4 + [wire.METER_DELETE] * 2


def test_in_userspace_each_process_has_its_own(world: t.Any, host: t.Any) -> None:
    host.scope.request = types.SimpleNamespace(userspace=True)
    host.filler.metering.order()
    host.filler.metering.add({})
    assert not world.done


def test_a_meter_that_is_there_from_an_earlier_try_is_fine(host: t.Any) -> None:
    host.filler.metering.order()
    host.filler.metering.add({"br0": Switch("OFPMMFC_METER_EXISTS")})


def test_one_that_is_refused_is_named_with_the_log(host: t.Any) -> None:
    host.filler.metering.order()
    with pytest.raises(HotUpgradeError, match=r"bridge br0 refused meter 2: OFPMMFC_OUT_OF_METERS.*\.log"):
        host.filler.metering.add({"br0": Switch("OFPMMFC_OUT_OF_METERS")})


def test_the_old_process_tells_the_kernel_all_its_meters_again(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = Switch()
    told = types.SimpleNamespace(
        main=switch, settings=lambda: types.SimpleNamespace(meters={1: b"12", 2: b"34"})
    )
    monkeypatch.setattr(metering, "Switch", lambda _path, timeout: contextlib.nullcontext(told))
    host.filler.metering.set_again()
    assert numbers(switch) == [1, 2]
    assert {message[9] for message in switch.given} == {wire.METER_MODIFY}
