# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import trust
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

BEFORE, AFTER = "1" * 64, "2" * 64


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Container]:
    """Both containers; a test may end one."""
    known = {BEFORE: Container(BEFORE, Process(11, 1), {}), AFTER: Container(AFTER, Process(12, 2), {})}

    def find(identifier: str, _pod: str = "") -> Container:
        if identifier not in known:
            raise Refused(f"{identifier[:3]} does not run", "", "")
        return known[identifier]

    monkeypatch.setattr(homes.containers, "find", find)
    monkeypatch.setattr(homes.containers, "pin", lambda container: int(container.id[:1]))
    monkeypatch.setattr(homes, "believe", BELIEVED.append)
    BELIEVED.clear()
    return known


# The namespaces that are, by their descriptors.
BELIEVED: list[int] = []


def test_options_that_are_not_set_mean_the_host_itself() -> None:
    assert Homes.of({"container": None, "container_before": None}) is None
    assert Homes.of({"container": AFTER, "container_before": BEFORE}) == Homes(BEFORE, AFTER)
    assert homes.enter(None) is None
    assert homes.inside(None, ["a"]) == ["a"]
    assert homes.root_of(None) == "/"


def test_daemons_of_both_are_believed(found: dict[str, Container]) -> None:
    container = homes.enter(Homes(BEFORE, AFTER))
    assert container is found[AFTER]
    assert BELIEVED == [1, 2]


def test_a_refusal_says_which_of_the_two_it_is(found: dict[str, Container]) -> None:
    del found[BEFORE]
    with pytest.raises(Refused, match="it is container_before, that of the old pod"):
        homes.enter(Homes(BEFORE, AFTER))


def test_when_one_has_gone_the_other_one_is_believed_still(found: dict[str, Container]) -> None:
    """A rollback has to know the daemons of the pod that is left."""
    del found[AFTER]
    homes.trust(Homes(BEFORE, AFTER))
    assert BELIEVED == [1]
    with pytest.raises(Refused, match="222 does not run"):
        homes.enter(Homes(BEFORE, AFTER))


def test_the_way_back_is_the_other_way_round() -> None:
    there = Homes(BEFORE, AFTER, ("pod1", "pod2"))
    assert there.swapped() == Homes(AFTER, BEFORE, ("pod2", "pod1"))


def test_a_container_has_to_have_the_run_directory_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    monkeypatch.setattr(Container, "root", property(lambda self: str(root)))
    doubts: list[str] = []
    monkeypatch.setattr(homes, "doubt_of_directory", lambda _path: next(iter(doubts), None))
    rundir, container = str(tmp_path / "run"), Container(AFTER, Process(12, 2), {})
    os.mkdir(rundir)
    # A link of the image that leads to a directory of that name is one of the image.
    (root / str(tmp_path)[1:]).mkdir(parents=True)
    (root / rundir[1:]).symlink_to("/elsewhere")
    os.symlink(rundir, root / "elsewhere")
    with pytest.raises(Refused, match="does not have .*/run of this host.*hostPath"):
        homes.require_shared(container, rundir)
    monkeypatch.setattr(homes, "real_file", lambda path, _root: path)
    homes.require_shared(container, rundir)
    doubts.append("it can be written by others")
    with pytest.raises(Refused, match="is not root's alone: it can be written by others"):
        homes.require_shared(container, rundir)
    homes.require_shared(None, rundir)


def test_two_containers_of_one_pod_are_no_way(
    found: dict[str, Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are two below one group of a runtime that knows no pods: whose a daemon is could not be told."""
    monkeypatch.setattr(Container, "pod", property(lambda self: "/system.slice"))
    with pytest.raises(Refused, match="are not of two pods"):
        homes.with_pods(Homes(BEFORE, AFTER))
    monkeypatch.setattr(Container, "pod", property(lambda self: f"/pod{self.id[:1]}"))
    assert homes.with_pods(Homes(BEFORE, AFTER)) == Homes(BEFORE, AFTER, ("/pod1", "/pod2"))


def test_a_container_has_to_have_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is a link, which leads somewhere else in each of the two."""
    old, container = str(tmp_path / "old"), Container(AFTER, Process(12, 2), {})

    def found(path: str, root: str) -> str | None:
        return trust.real_file(path, old if root == "/proc/11/root" else root)

    monkeypatch.setattr(Container, "root", property(lambda _self: str(tmp_path / "new")))
    monkeypatch.setattr(homes, "real_file", found)
    for root in (old, container.root):
        os.makedirs(f"{root}/etc/openvswitch")
        os.makedirs(f"{root}/var/lib")
        os.symlink("/var/lib/conf.db", f"{root}/etc/openvswitch/conf.db")
        Path(f"{root}/var/lib/conf.db").touch()
    for argv in (["ovsdb-server"], ["ovsdb-server", "/etc/openvswitch/conf.db", "--monitor"]):
        with pytest.raises(Refused, match="does not have the database /etc/openvswitch/conf.db.*same volume"):
            homes.require_database(container, Process(11, 1), argv)
    os.unlink(f"{container.root}/var/lib/conf.db")
    os.link(f"{old}/var/lib/conf.db", f"{container.root}/var/lib/conf.db")
    homes.require_database(container, Process(11, 1), ["ovsdb-server", "/var/lib/conf.db"])
    homes.require_database(None, Process(11, 1), ["ovsdb-server"])


def test_commands_of_a_container_are_run_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[list[str]] = []

    def runner(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        done.append([*argv, str(timeout)])
        return Completed(0, "", "")

    monkeypatch.setattr(Container, "inside", lambda self, argv: ["within", self.id[:3], *argv])
    homes.runner_in(Container(AFTER, Process(12, 2), {}), runner)(["ovsdb-tool"], 7)
    homes.runner_in(None, runner)(["ovsdb-tool"], 7)
    assert done == [["within", AFTER[:3], "ovsdb-tool", "7"], ["ovsdb-tool", "7"]]
