# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt and dnf would do, in one form."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.package_changes import changes

APT = """Reading package lists...
Inst openvswitch-common [3.1.0-2+deb12u1] (3.5.0-1+b1 Debian:13/stable [amd64]) []
Inst openvswitch-switch [1:3.1.0-2+deb12u1] (1:3.5.0-1+b1 Debian:13/stable [amd64])
Inst python3-openvswitch (3.5.0-1+b1 Debian:13/stable [amd64])
Remv ovn-old [23.03.1-1]
Conf openvswitch-switch (1:3.5.0-1+b1 Debian:13/stable [amd64])
"""
# As dnf 4.23 told it on a lab host; the others as they are written for an epoch and by dnf5.
DNF = ["Installed: openvswitch-4.0.0-1.x86_64", "Removed: openvswitch-3.5.0-1.x86_64"]


def test_what_apt_would_do() -> None:
    assert changes({"stdout": APT}) == {
        "needed": True,
        "coming": {
            "openvswitch-common": "3.5.0-1+b1", "openvswitch-switch": "1:3.5.0-1+b1", "python3-openvswitch": "3.5.0-1+b1",
        },
        "replaced": {"openvswitch-common": "3.1.0-2+deb12u1", "openvswitch-switch": "1:3.1.0-2+deb12u1"},
        "removed": ["ovn-old"],
        "version": "3.5.0",
        "module": False,
    }  # fmt: skip


def test_what_dnf_would_do() -> None:
    assert changes({"results": DNF, "changed": True}) == {
        "needed": True,
        "coming": {"openvswitch": "4.0.0-1"},
        "replaced": {"openvswitch": "3.5.0-1"},
        "removed": [],
        "version": "4.0.0",
        "module": False,
    }


def test_another_name_replaces_one_that_goes() -> None:
    told = [
        "Removed: openvswitch2.17-0:2.17.0-9.el9.x86_64",
        "Downloaded: openvswitch3.3-1:3.3.0-2.el9fdp.x86_64",
    ]
    found = changes({"results": told})
    assert (found["coming"], found["removed"]) == (
        {"openvswitch3.3": "1:3.3.0-2.el9fdp"},
        ["openvswitch2.17"],
    )
    assert (found["version"], found["replaced"]) == ("3.3.0", {})


@pytest.mark.parametrize(
    "result", [{}, {"stdout": ""}, {"results": []}, {"results": ["No package x available."]}]
)
def test_nothing(result: dict[str, t.Any]) -> None:
    found = changes(result)
    assert (found["needed"], found["coming"], found["version"]) == (False, {}, None)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("openvswitch-datapath-dkms", True), ("linux-image-6.1.0-28-amd64", True), ("kernel-core", True),
        ("kmod-openvswitch", True), ("openvswitch-kmod", True), ("kernel-tools", False), ("openvswitch-common", False),
    ],
)  # fmt: skip
def test_packages_that_may_bring_a_module(name: str, module: bool) -> None:
    assert changes({"stdout": f"Inst {name} [3.1.0-2] (3.5.0-1)"})["module"] is module
    assert changes({"results": [f"Installed: {name}-3.5.0-1.x86_64"]})["module"] is module
