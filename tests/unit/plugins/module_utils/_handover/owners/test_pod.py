# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import choice, pod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import Heritage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.pod import Home, Pod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify

BEFORE, AFTER = "1" * 64, "2" * 64
BELIEVED: list[str] = []
OLD = Instance(Process(7, 8), ("ovs-vswitchd", "unix:db.sock"), {})


@pytest.fixture
def owner() -> Pod:
    own = Heritage({"pids": "/old"}, None, likeness.read(os.getpid()))
    homes = Home(BEFORE, "pod1", "/usr/sbin/old"), Home(AFTER, "pod2", "/usr/sbin/new")
    return Pod("ovs-vswitchd", "/run/openvswitch", *homes, own)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Container]:
    """Both containers; a test may end one."""
    me = identify(os.getpid())
    assert me
    found = {name: Container(name, me, {"pids": f"/{name[:1]}"}) for name in (BEFORE, AFTER)}

    def find(identifier: str, _pod: str) -> Container:
        if identifier not in found:
            raise Refused(f"{identifier[:1]} does not run", "", "")
        return found[identifier]

    monkeypatch.setattr(pod.containers, "find", find)
    monkeypatch.setattr(pod, "real_file", lambda path, _root: None if path == "/usr/sbin/gone" else path)
    monkeypatch.setattr(pod, "trust_in", lambda container: BELIEVED.append(container.id))
    BELIEVED.clear()
    return found


@pytest.mark.parametrize(
    ("binaries", "gone", "program", "place"),
    [
        (None, (), "/usr/sbin/new", "/2"),
        ("/kept", (), "/usr/sbin/old", "/1"),
        # The version that is left forwards, which is better than none.
        ("/kept", (BEFORE,), "/usr/sbin/new", "/2"),
    ],
)
def test_each_version_starts_in_its_own_container(
    owner: Pod,
    known: dict[str, Container],
    monkeypatch: pytest.MonkeyPatch,
    binaries: str | None,
    gone: tuple[str, ...],
    program: str,
    place: str,
) -> None:
    started: list[tuple[t.Any, ...]] = []
    monkeypatch.setattr(pod, "start_like", lambda *given: started.append(given))
    for each in gone:
        del known[each]
    owner.restart(OLD, binaries)
    ((who, old, run, __, model, __),) = started
    assert (who, old, run, dict(model.places)) == (owner, OLD, program, {"pids": place})
    # Else nobody would know it again.
    assert [AFTER if place == "/2" else BEFORE] == BELIEVED


def test_without_both_containers_nothing_is_started(owner: Pod, known: dict[str, Container]) -> None:
    known.clear()
    with pytest.raises(Refused, match="2 does not run"):
        owner.restart(OLD, "/kept")


def test_the_new_version_is_started_where_it_belongs_or_not_at_all(
    owner: Pod, known: dict[str, Container]
) -> None:
    del known[AFTER]
    with pytest.raises(Refused, match="2 does not run"):
        owner.restart(OLD, None)


def test_a_container_without_the_program_is_none(owner: Pod, known: dict[str, Container]) -> None:
    """As that of a helper which is started in the pod, where the daemon's has ended: before anything is ended for it."""
    with pytest.raises(Refused, match="111111111111 does not have /usr/sbin/gone"):
        dataclasses.replace(owner.before, program="/usr/sbin/gone").find()
    assert not BELIEVED


def test_a_daemon_is_well_in_either_pod(owner: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {1: BEFORE, 2: AFTER, 3: "3" * 64}
    monkeypatch.setattr(pod, "family", lambda process: [process])
    monkeypatch.setattr(pod.containers, "holding", lambda process: where.get(process.pid))
    monkeypatch.setattr(
        pod.containers, "is_in", lambda process, container, _pod: where.get(process.pid) == container
    )
    assert [owner.misplaced(Process(number, 1)) for number in (1, 2)] == [None, None]
    assert owner.misplaced(Process(3, 1)) == (
        "process 3 is in container 333333333333, not in 222222222222 or 111111111111"
    )
    assert "is in no container" in str(owner.misplaced(Process(4, 1)))


def test_a_transaction_remembers_it(owner: Pod) -> None:
    record = json.loads(json.dumps(choice.as_json(owner, "/usr/sbin/new")))
    assert choice.of_json("ovs-vswitchd", "/run/openvswitch", record) == owner
