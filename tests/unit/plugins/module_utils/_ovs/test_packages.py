# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which package manager it is, and what it has been told to leave alone; facts of RPM systems as rpm and dnf wrote them."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import packages
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed, Runner

DPKG = "hold installed openvswitch-common\ninstall installed openvswitch-switch\nunknown not-installed openvswitch-dbg\n"
PREUN = "if [ $1 -eq 0 ] ; then\n    systemctl --no-reload disable --now openvswitch.service >/dev/null 2>&1 || :\nfi"
RPM = f"openvswitch\n{PREUN}\n(none)\n\x1eopenvswitch-ipsec\n(none)\n(none)\n\x1e"
OLD = "if [ $1 -ge 1 ] ; then\n    systemctl try-restart openvswitch.service >/dev/null 2>&1 || :\nfi"
NEW = "/usr/lib/systemd/systemd-update-helper mark-restart-system-units openvswitch.service || :"


def telling(**answers: str) -> Runner:
    """A runner on a host that has only these programs, and what they tell."""

    def run(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        told = answers.get(argv[0].replace("-", "_"))
        if told is None:
            raise HotUpgradeError(f"cannot run {argv[0]}")
        return Completed(0, told, "")

    return run


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Callable[..., None]:
    """What of apt-get and dnf is there; a name is the program, another one what it leads to."""

    def have(**links: str) -> None:
        for name, target in links.items():
            (tmp_path / target).touch()
            if name != target:
                (tmp_path / name).symlink_to(tmp_path / target)

        def which(name: str) -> str | None:
            path = tmp_path / name.replace("-", "_")
            return str(path) if path.exists() else None

        monkeypatch.setattr(shutil, "which", which)

    return have


Tools = t.Callable[..., None]


def test_debian(tools: Tools, tmp_path: Path) -> None:
    tools(apt_get="apt_get")
    found = packages.look(telling(dpkg_query=DPKG), str(tmp_path))
    assert found == packages.Packages("apt", ["openvswitch-common"], [])


def test_debian_with_a_dnf_that_knows_nothing_of_open_vswitch(tools: Tools, tmp_path: Path) -> None:
    tools(apt_get="apt_get", dnf="dnf-3")
    assert packages.look(telling(dpkg_query=DPKG, rpm=""), str(tmp_path)).manager == "apt"
    left = DPKG.replace(" installed ", " unpacked ")
    found = packages.look(telling(dpkg_query=left, rpm=RPM), str(tmp_path))
    assert (found.manager, "openvswitch-switch" in found.unfinished) == ("apt", True)
    assert packages.look(telling(dpkg_query="", rpm=""), str(tmp_path)).manager == "apt"
    gone = "deinstall config-files openvswitch-switch\n"
    assert packages.look(telling(dpkg_query=gone, rpm=RPM), str(tmp_path)).manager == "dnf4"


@pytest.mark.parametrize(("program", "manager"), [("dnf-3", "dnf4"), ("dnf5", "dnf5")])
def test_which_dnf(tools: Tools, tmp_path: Path, program: str, manager: str) -> None:
    tools(dnf=program)
    found = packages.look(telling(rpm=RPM), str(tmp_path))
    assert found == packages.Packages(manager, [], [])


def test_neither(tools: Tools, tmp_path: Path) -> None:
    tools()
    assert packages.look(telling(), str(tmp_path)) == packages.Packages(None, [], [])


@pytest.mark.parametrize(
    ("lock", "held"),
    [
        ("# Added lock on Sat Nov 28 06:49:19 2026\nopenvswitch-0:3.5.0-1.*\n", ["openvswitch"]),
        ("!openvswitch-0:4.0.0-1.*", ["openvswitch"]),
        ("openvswitch", ["openvswitch"]),
        ("openvswitch-ipsec-3.5.*", ["openvswitch-ipsec"]),
        ("openvswitch*", ["openvswitch", "openvswitch-ipsec"]),
        ("kernel-0:5.14.0-503.el9.*\n\n", []),
    ],
)
def test_locks_of_the_plugin(tools: Tools, tmp_path: Path, lock: str, held: list[str]) -> None:
    tools(dnf="dnf-3")
    path = tmp_path / packages.LOCKS
    path.parent.mkdir(parents=True)
    path.write_text(lock)
    assert packages.look(telling(rpm=RPM), str(tmp_path)).held == held


def test_locks_of_dnf5(tools: Tools, tmp_path: Path) -> None:
    tools(dnf="dnf5")
    path = tmp_path / packages.LOCKS_5
    path.parent.mkdir(parents=True)
    path.write_text(
        'version = "1.0"\n\n[[packages]]\nname = "openvswitch"\n'
        '[[packages.conditions]]\nkey = "evr"\ncomparator = "="\nvalue = "3.5.0-1"\n'
    )
    assert packages.look(telling(rpm=RPM), str(tmp_path)).held == ["openvswitch"]


@pytest.mark.parametrize("script", [OLD, NEW, "service openvswitch condrestart"])
def test_scripts_that_restart(tools: Tools, tmp_path: Path, script: str) -> None:
    tools(dnf="dnf-3")
    told = RPM.replace("(none)", script, 1)
    assert packages.look(telling(rpm=told), str(tmp_path)).restarting == ["openvswitch"]
