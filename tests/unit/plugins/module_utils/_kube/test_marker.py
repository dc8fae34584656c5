# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a surge pod is told from its node; its container's files are in a folder."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.marker import tell
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import MARKER, MOUNT
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container

BOTH = {"ovs-vswitchd": True, "ovsdb-server": True}


class Stub:
    """A container."""

    id = "c" * 64

    def __init__(self, folder: Path) -> None:
        self.root = str(folder)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """One of a surge pod; kubelet lets everybody write to a volume of this kind."""
    folder = tmp_path / MOUNT.lstrip("/")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return t.cast(Container, Stub(tmp_path))


def test_it_is_told_once(container: Container) -> None:
    marker = Path(container.root + MARKER)
    assert tell(container, BOTH, check_mode=True)
    assert not marker.exists()
    assert tell(container, BOTH, check_mode=False)
    assert marker.exists()
    assert not tell(container, BOTH, check_mode=False)


def test_an_ovn_controller_may_be_in_a_pod_of_its_own(container: Container) -> None:
    assert tell(container, {**BOTH, "ovn-controller": False}, check_mode=False)


def test_links_of_the_container_lead_from_its_own_root_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var/run/ovsops-surge").mkdir(parents=True)
    (root / "run").symlink_to("/var/run")
    assert tell(t.cast(Container, Stub(root)), BOTH, check_mode=False)
    assert [path.name for path in (root / "var/run/ovsops-surge").iterdir()] == [Path(MARKER).name]


@pytest.mark.parametrize(
    ("daemons", "why"),
    [
        ({**BOTH, "ovsdb-server": False}, "ovsdb-server is not in it"),
        (dict.fromkeys(BOTH, False), "ovs-vswitchd, ovsdb-server are not in it"),
        ({}, "ovs-vswitchd does not run"),
    ],
)
def test_one_without_the_daemons_would_restart_them(
    container: Container, daemons: dict[str, bool], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        tell(container, daemons, check_mode=False)
    assert not Path(container.root + MARKER).exists()


def test_a_container_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no surge pod's: it has no folder /run/ovsops-surge"):
        tell(t.cast(Container, Stub(tmp_path)), BOTH, check_mode=False)


def test_nothing_is_written_through_what_the_container_has_put_there(
    container: Container, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    Path(container.root + MARKER).symlink_to(elsewhere)
    assert not tell(container, BOTH, check_mode=False)
    assert not elsewhere.exists()
