# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import (
    FORMAT,
    Reload,
    Request,
    first_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

Make = t.Callable[..., Request]


def test_what_was_written_is_what_is_read(make_request: Make) -> None:
    first = Instance(Process(7, 8), ("ovs-vswitchd", "unix:db.sock"), {"LANG": "C"})
    request = make_request(
        bridges={"br0": ("tcp:1",), "br1": ()}, lost_ports=("p1",), accept=("*>p2:*",), vswitchd=first,
        start=Foresight((), ("a warning",), ("ovs-ctl", "start"), ("[Service]",), {"A": "B"}, "ovs"),
        supervisors={"ovs-vswitchd": {"unit": None}}, homes=Homes("1" * 64, "2" * 64, ("pod1", "pod2")),
    )  # fmt: skip
    assert Request.read(json.loads(json.dumps(request.json()))) == request


@pytest.mark.parametrize("other", [None, 0, FORMAT + 1])
def test_another_format_is_not_guessed_at(make_request: Make, other: int | None) -> None:
    with pytest.raises(HotUpgradeError, match="version that began it"):
        Request.read({**make_request().json(), "format": other})


@pytest.mark.parametrize("place", ["/run/openvswitch-abcdef", "/run/openvswitch/ovsops-abcdef"])
def test_one_that_was_handed_over_before_is_started_in_the_real_directory(place: str) -> None:
    connection = Connection("/run/openvswitch", "unix:/run/openvswitch/db.sock", 10.0)
    private = f"unix:{place}/db.sock"
    shown = Instance(
        Process(1, 2),
        ("ovs-vswitchd", f"{private},{private}", "--detach"),
        {"OVS_RUNDIR": place},
    )
    first = first_of(shown, connection)
    assert first.argv == ("ovs-vswitchd", connection.remote, "--detach")
    assert first.environment == {"OVS_RUNDIR": "/run/openvswitch"}


def test_one_that_root_must_not_start_is_refused() -> None:
    shown = dataclasses.replace(Instance(Process(1, 2), ("ovs-vswitchd",), {}), doubt="it shows --evil")
    with pytest.raises(Refused, match="--evil"):
        first_of(shown, Connection("/run", "unix:/run/db.sock", 10.0))


def test_a_reload_is_an_operation_of_its_own(make_request: Make) -> None:
    request = make_request(reload=Reload("/lib/new.ko", "/var/old.ko", "auto"))
    assert request.json()["operation"] == "kmod-reload"
    assert Request.read(json.loads(json.dumps(request.json()))) == request
    assert make_request().json()["operation"] == "handover"
