# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import os
import resource

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness


def test_it_survives_a_journey_through_json() -> None:
    like = likeness.read(os.getpid())
    assert likeness.from_json(json.loads(json.dumps(dataclasses.asdict(like)))) == like


def test_every_limit_that_the_kernel_shows_and_python_knows_is_taken() -> None:
    limits = likeness.read(os.getpid()).limits
    known = {name for name in dir(resource) if name.startswith("RLIMIT_")} - {"RLIMIT_OFILE"}
    assert {f"RLIMIT_{name}" for name in limits} == known
    assert all(
        resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) == pair for name, pair in limits.items()
    )


@pytest.mark.parametrize(
    ("shown", "label"),
    [
        ("unconfined", ""),
        ("", ""),
        ("/usr/sbin/ovs-vswitchd (enforce)", "exec /usr/sbin/ovs-vswitchd"),
        ("ovs//child (complain)", "exec ovs//child"),
        ("system_u:system_r:openvswitch_t:s0", "system_u:system_r:openvswitch_t:s0"),
    ],
)
def test_the_label_is_as_exec_takes_it(monkeypatch: pytest.MonkeyPatch, shown: str, label: str) -> None:
    monkeypatch.setattr(likeness, "_text", lambda pid, name: shown)
    assert likeness._label(1) == label


@pytest.mark.parametrize(
    ("word", "drops"), [("--user=ovs:ovs", True), ("--user", True), ("--username", False)]
)
def test_a_program_that_gives_up_root_is_known_by_its_arguments(word: str, drops: bool) -> None:
    assert likeness.drops(["ovs-vswitchd", word]) == drops


def test_a_filter_of_system_calls_is_told() -> None:
    like = likeness.read(os.getpid())
    assert likeness.not_kept(dataclasses.replace(like, seccomp=0)) == []
    assert "seccomp" in likeness.not_kept(dataclasses.replace(like, seccomp=2))[0]
