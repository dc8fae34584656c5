# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kube_surge_pod does in which state, and what it tells."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.modules import kube_surge_pod
from tests.unit.plugins.module_utils._kube.fake import FakeCluster


def run(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, check: bool = False, **options: t.Any
) -> Outcome:
    monkeypatch.setattr(kube_surge_pod, "connect", lambda *_: cluster)
    params: dict[str, t.Any] = {
        "kubeconfig": None, "context": None, "namespace": "kube-system", "daemonset": "ovs-ovn", "container": "openvswitch",
        "state": "present", "node": "n1", "grace": 30, "timeout": 60, "image": "", "entrypoint": [], "replace_third": False,
    }  # fmt: skip
    return kube_surge_pod.behave(Call({**params, **options}, check))


def test_states(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    planned = run(monkeypatch, cluster, True)
    assert (planned.changed, planned.values) == (True, {"pod": None, "old": ["ovs-ovn-1"], "third": []})
    made = run(monkeypatch, cluster)
    assert made.changed
    assert made.values["pod"]["name"] == "ovs-ovn-3"
    assert made.values["pod"]["container"] == "c-ovs-ovn-3"
    assert not run(monkeypatch, cluster).changed
    assert run(monkeypatch, cluster, True, state="adopted").values["old"] == ["ovs-ovn-1"]
    assert run(monkeypatch, cluster, True, state="absent").changed
    assert not run(monkeypatch, cluster, state="absent", node="n2").changed
