# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the official client is asked, and what its answers and errors mean; the client itself is a stand-in."""

from __future__ import annotations

import json
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube import client
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Conflict, Missing


class ApiError(Exception):
    def __init__(self, status: int, body: str = "", reason: str = "") -> None:
        self.status, self.body, self.reason = status, body, reason


class HTTPError(Exception):
    pass


class ConfigError(Exception):
    pass


class Api:
    """Answers every call with ``answer``, or raises ``failure``; keeps what was asked."""

    asked: t.ClassVar[list[t.Any]] = []
    answer: t.ClassVar[t.Any] = {"items": [1]}
    failure: t.ClassVar[Exception | None] = None

    def __init__(self, _api: object = None) -> None:
        pass

    def __getattr__(self, name: str) -> t.Callable[..., t.Any]:
        def call(*words: t.Any, **options: t.Any) -> t.Any:
            assert options.pop("_preload_content") is False
            assert options.pop("_request_timeout") == client.PATIENCE
            Api.asked.append((name, *words, *([options] if options else [])))
            if Api.failure is not None:
                raise Api.failure
            return types.SimpleNamespace(data=json.dumps(Api.answer).encode())

        return call


def opened(config_file: str | None, context: str | None) -> str:
    if config_file == "bad":
        raise ConfigError("no such file")
    return "api"


def outside() -> None:
    raise ConfigError("not in a pod")


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    made = types.SimpleNamespace(
        client=types.SimpleNamespace(
            CoreV1Api=Api,
            AppsV1Api=Api,
            ApiClient=lambda: "api",
            exceptions=types.SimpleNamespace(ApiException=ApiError),
            rest=types.SimpleNamespace(
                urllib3=types.SimpleNamespace(exceptions=types.SimpleNamespace(HTTPError=HTTPError))
            ),
        ),
        config=types.SimpleNamespace(
            ConfigException=ConfigError, new_client_from_config=opened, load_incluster_config=outside
        ),
    )
    monkeypatch.setattr(client, "kubernetes", made)
    monkeypatch.setattr(Api, "asked", [])
    monkeypatch.setattr(Api, "failure", None)
    return made


def test_what_is_asked(kubernetes: object) -> None:
    cluster = client.connect(None, None, "kube-system", "ovs-ovn")
    assert cluster.daemonset() == {"items": [1]}
    assert (cluster.pods("n1"), cluster.pods(), cluster.nodes(), cluster.revisions()) == ([1], [1], [1], [1])
    cluster.patch_daemonset({"a": 1})
    cluster.patch_pod("p", {"b": 1})
    cluster.create_pod({"c": 1})
    cluster.delete_pod("p", "u", 30)
    cluster.delete_pod("p", "u", None)
    cluster.node("n1")
    assert Api.asked == [
        ("read_namespaced_daemon_set", "ovs-ovn", "kube-system"),
        ("list_namespaced_pod", "kube-system", {"field_selector": "spec.nodeName=n1"}),
        ("list_namespaced_pod", "kube-system"),
        ("list_node",),
        ("list_namespaced_controller_revision", "kube-system"),
        ("patch_namespaced_daemon_set", "ovs-ovn", "kube-system", {"a": 1}),
        ("patch_namespaced_pod", "p", "kube-system", {"b": 1}),
        ("create_namespaced_pod", "kube-system", {"c": 1}),
        (
            "delete_namespaced_pod",
            "p",
            "kube-system",
            {"body": {"preconditions": {"uid": "u"}, "gracePeriodSeconds": 30}},
        ),
        ("delete_namespaced_pod", "p", "kube-system", {"body": {"preconditions": {"uid": "u"}}}),
        ("read_node", "n1"),
    ]


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (ApiError(404, '{"message": "not found"}'), Missing, "the cluster has no pods p: not found"),
        (ApiError(409, '{"message": "modified"}'), Conflict, "did not patch pods p: modified"),
        (ApiError(503, "", "busy"), Unreachable, "503: busy"),
        (ApiError(403, '{"message": "no"}'), Refused, "does not let this user patch pods p: no"),
        (ApiError(422, "[]", "Invalid"), HotUpgradeError, "422: Invalid"),
        (OSError("refused"), Unreachable, "does not answer"),
        (HTTPError("reset"), Unreachable, "does not answer"),
    ],
)
def test_what_errors_mean(
    kubernetes: object, raised: Exception, kind: type[HotUpgradeError], text: str
) -> None:
    cluster = client.connect(None, None, "kube-system", "ovs-ovn")
    Api.failure = raised
    with pytest.raises(kind) as caught:
        cluster.patch_pod("p", {})
    assert caught.type is kind
    assert text in str(caught.value)


def test_a_missing_client_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "kubernetes", None)
    with pytest.raises(Refused, match="pip install kubernetes"):
        client.connect(None, None, "n", "d")


def test_a_kubeconfig_that_does_not_open_anything_is_said(kubernetes: types.SimpleNamespace) -> None:
    with pytest.raises(Refused, match="cannot be opened: no such file"):
        client.connect("bad", None, "n", "d")
    kubernetes.config.new_client_from_config = lambda config_file, context: opened("bad", None)
    with pytest.raises(Refused, match="no such file; not in a pod"):
        client.connect(None, None, "n", "d")
    kubernetes.config.load_incluster_config = lambda: None
    assert client.connect(None, None, "n", "d").nodes() == [1]
