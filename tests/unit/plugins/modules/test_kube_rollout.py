# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kube_rollout asks for and tells."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.modules import kube_rollout, kube_rollout_info
from tests.unit.plugins.module_utils._kube.fake import NEW, OLD, FakeCluster

PLACE = {
    "kubeconfig": None, "context": None, "namespace": "kube-system", "daemonset": "ovs-ovn", "container": "openvswitch",
}  # fmt: skip
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


def run(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, check: bool = False, **options: t.Any
) -> Outcome:
    def connect(*place: t.Any) -> FakeCluster:
        assert place == (None, None, "kube-system", "ovs-ovn")
        return cluster

    monkeypatch.setattr(kube_rollout, "connect", connect)
    given = {"nodes": ["n1", "n2"], "image": NEW, "entrypoint": [], "accept_hooks": False, "timeout": 60}
    return kube_rollout.behave(Call({**PLACE, **given, **options}, check))


def test_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster("RollingUpdate")
    planned = run(monkeypatch, cluster, True, state="begun")
    begun = run(monkeypatch, cluster, state="begun")
    assert (planned.changed, planned.values["revision"], planned.values["left"]) == (True, "", ["n1", "n2"])
    assert begun.before == {"strategy": ROLLING, "image": OLD}
    assert begun.after == {"strategy": {"type": "OnDelete"}, "image": NEW}
    assert begun.values == {
        "left": ["n1", "n2"], "restored": None, "strategy": {"type": "OnDelete"}, "revision": "h2", "warnings_of_cluster": [],
    }  # fmt: skip
    ended = run(monkeypatch, cluster, state="ended")
    assert (ended.changed, ended.values["restored"], ended.values["left"]) == (False, False, ["n1", "n2"])
    assert run(monkeypatch, cluster, state="begun", image=OLD).changed
    ended = run(monkeypatch, cluster, state="ended")
    assert (ended.changed, ended.values["restored"], ended.values["strategy"]) == (True, True, ROLLING)
    ended = run(monkeypatch, cluster, state="ended")
    assert (ended.changed, ended.values["restored"]) == (False, None)


def test_how_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_rollout_info, "connect", lambda *_: FakeCluster())
    found = kube_rollout_info.behave(Call({**PLACE, "node": "n2", "timeout": 0}, False))
    assert not found.changed
    assert [each["node"] for each in found.values["nodes"]] == ["n2"]
    assert found.values["remembered"] is None
