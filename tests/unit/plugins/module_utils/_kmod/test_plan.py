# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloaded only when it is needed; each reason against it in words, before anything is touched."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.plan import (
    COMING,
    CURRENT,
    FORCED,
    REFUSE,
    REPORT,
    Facts,
    Holder,
    decide,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.kernel_modules import Module, Support
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.module_image import Image

MODULE = Module(
    name="openvswitch",
    loaded=True,
    builtin=False,
    in_tree=True,
    version=None,
    srcversion=None,
    build_id="aaaa",
    disk_version=None,
    disk_srcversion=None,
    disk_build_id="bbbb",
    disk_path="/lib/modules/6.1.0/openvswitch.ko",
    users=3,
)
NEW = Image(b"new", "bbbb", {"vermagic": "6.1.0 SMP mod_unload "})
OLD = Image(b"old", "aaaa", {"vermagic": "6.1.0 SMP mod_unload "})
FINE = Facts(MODULE, NEW, "", OLD, "6.1.0")


def with_module(**changes: t.Any) -> Facts:
    return dataclasses.replace(FINE, module=dataclasses.replace(MODULE, **changes))


def test_another_module_on_the_disk() -> None:
    plan = decide(FINE, CURRENT, REPORT)
    assert (plan.needed, plan.reasons, plan.warnings) == (True, (), ())
    assert plan.why == "the loaded module openvswitch is aaaa, that on the disk bbbb"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"disk_build_id": "aaaa"}, r"the loaded module openvswitch is the one on the disk \(aaaa\)"),
        ({"loaded": False}, "is not loaded"),
        ({"builtin": True}, "is part of the kernel: another one comes with another kernel"),
        ({"build_id": None}, "neither build-id nor srcversion; state=forced"),
    ],
)
def test_nothing_to_do(changes: dict[str, t.Any], why: str) -> None:
    plan = decide(with_module(**changes), CURRENT, REPORT)
    assert (plan.needed, plan.reasons) == (False, ())
    assert re.search(why, plan.why)


def test_forced() -> None:
    assert decide(with_module(disk_build_id="aaaa"), FORCED, REPORT).needed
    assert decide(with_module(build_id=None), FORCED, REPORT).needed
    assert not decide(with_module(loaded=False), FORCED, REPORT).needed


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (
            dataclasses.replace(FINE, image=None, fault="modinfo finds none"),
            "there is no module to load: modinfo finds none",
        ),
        (dataclasses.replace(FINE, old=None), "keep it with state=kept before the package is installed"),
        (dataclasses.replace(FINE, kernel="6.2.0"), "is for Linux 6.1.0, and 6.2.0 runs"),
        (
            dataclasses.replace(
                FINE, image=Image(b"", "bbbb", {"vermagic": "6.1.0 SMP preempt mod_unload "})
            ),
            "for another configuration of this kernel: '6.1.0 SMP preempt mod_unload' instead of '6.1.0 SMP mod_unload'",
        ),
        (
            dataclasses.replace(FINE, signatures="the kernel's lockdown"),
            "is not signed, and the kernel's lockdown asks for that",
        ),
        (dataclasses.replace(FINE, closed=True), "takes and gives up no modules until it is booted again"),
        (dataclasses.replace(FINE, missing=("nsh",)), "needs the module nsh, which is not there"),
        (
            dataclasses.replace(
                FINE, drivers={"Open vSwitch 3.6.0 on the disk": Support(False, "no such tunnels")}
            ),
            "Open vSwitch 3.6.0 on the disk cannot drive it: no such tunnels",
        ),
        (
            dataclasses.replace(FINE, foreign=("there is a datapath other",)),
            "there is a datapath other: it would lose its packets",
        ),
    ],
)
def test_reasons_against_it(facts: Facts, reason: str) -> None:
    plan = decide(facts, CURRENT, REPORT)
    assert len(plan.reasons) == 1
    assert reason in plan.reasons[0]


def test_all_reasons_at_once_and_none_without_need() -> None:
    bad = dataclasses.replace(FINE, image=None, old=None, foreign=("x", "y"))
    assert len(decide(bad, CURRENT, REPORT).reasons) == 4
    current = dataclasses.replace(bad, module=dataclasses.replace(MODULE, disk_build_id="aaaa"))
    assert decide(current, CURRENT, REPORT).reasons == ()


def test_a_look_ahead_does_not_judge_the_file_that_is_about_to_go() -> None:
    """Whatever stands in the way of any module does in that of the next one, too."""
    same = dataclasses.replace(MODULE, disk_build_id="aaaa")
    facts = dataclasses.replace(
        FINE, module=same, image=None, kernel="6.2.0", missing=("nsh",), closed=True, foreign=("somebody",)
    )
    plan = decide(facts, COMING, REFUSE)
    assert plan.needed
    assert plan.why == "the packages may bring another module openvswitch than the loaded one (aaaa)"
    assert [reason.split(":")[0] for reason in plan.reasons] == [
        "the kernel takes and gives up no modules until it is booted again (kernel.modules_disabled is 1)",
        "somebody",
    ]


@pytest.mark.parametrize("changes", [{"loaded": False}, {"builtin": True}, {"build_id": None}])
def test_no_look_ahead_where_no_package_can_make_it_needed(changes: dict[str, t.Any]) -> None:
    assert not decide(with_module(**changes), COMING, REPORT).needed


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"disk_build_id": "aaaa"}, True),
        ({"disk_build_id": None}, True),
        ({}, False),
        ({"disk_path": None}, False),
    ],
)
def test_a_look_ahead_knows_whether_the_loaded_file_can_be_kept(
    changes: dict[str, t.Any], kept: bool
) -> None:
    reasons = decide(dataclasses.replace(with_module(**changes), old=None), COMING, REPORT).reasons
    assert [reason.startswith("no file of the loaded module is kept") for reason in reasons] == (
        [] if kept else [True]
    )


def test_a_built_in_module_cannot_be_forced() -> None:
    plan = decide(with_module(builtin=True), FORCED, REPORT)
    assert plan.needed
    assert plan.reasons == (
        "openvswitch is part of the kernel and cannot be reloaded: boot the kernel that has the new one",
    )


def test_a_signed_module() -> None:
    signed = Image(b"new~Module signature appended~\n", "bbbb", NEW.info)
    assert (
        decide(dataclasses.replace(FINE, image=signed, signatures="lockdown"), CURRENT, REPORT).reasons == ()
    )


def test_who_holds_a_port_is_reported_or_a_reason() -> None:
    held = dataclasses.replace(FINE, holders=(Holder("br0", "dhclient (process 7)"),))
    reported, refused = decide(held, CURRENT, REPORT), decide(held, CURRENT, REFUSE)
    assert reported.warnings == (
        "dhclient (process 7) holds the port br0 and does not find its successor: restart it afterwards",
    )
    assert (reported.reasons, refused.warnings) == ((), ())
    assert refused.reasons == (
        "dhclient (process 7) holds the port br0 and would not find its successor: stop it before",
    )


def test_what_does_not_come_back_is_told_before() -> None:
    found = decide(dataclasses.replace(FINE, lost=("the XDP program of in1",)), CURRENT, REPORT)
    assert found.warnings == ("it does not come back: the XDP program of in1",)


def test_who_configures_a_port_is_told() -> None:
    (warning,) = decide(
        dataclasses.replace(FINE, managers={"br0": "systemd-networkd"}), CURRENT, REPORT
    ).warnings
    assert warning.startswith("systemd-networkd configures the port br0")
