# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The only file that knows the official Python client of Kubernetes, which the controller needs and no node."""

from __future__ import annotations

import json
import sys
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import (
    Cluster,
    Conflict,
    Json,
    Missing,
)

try:
    import kubernetes
except ImportError:
    kubernetes = None

# Seconds to connect, and to wait for an answer.
PATIENCE = (5, 30)
# What the API server says when it cannot at the moment.
LATER = (429, 500, 502, 503, 504)


class Client:
    """One DaemonSet of a cluster, through the official client."""

    def __init__(self, api: t.Any, namespace: str, name: str) -> None:
        self._core, self._apps = kubernetes.client.CoreV1Api(api), kubernetes.client.AppsV1Api(api)
        self._namespace, self._name = namespace, name

    def daemonset(self) -> Json:
        """See ``Cluster``."""
        return self._ask(
            "get",
            "daemonsets",
            self._name,
            self._apps.read_namespaced_daemon_set,
            self._name,
            self._namespace,
        )

    def patch_daemonset(self, patch: Json) -> Json:
        """See ``Cluster``."""
        call = self._apps.patch_namespaced_daemon_set
        return self._ask("patch", "daemonsets", self._name, call, self._name, self._namespace, patch)

    def revisions(self) -> list[Json]:
        """See ``Cluster``."""
        return self._list(
            "controllerrevisions", self._apps.list_namespaced_controller_revision, self._namespace
        )

    def pods(self, node: str | None = None) -> list[Json]:
        """See ``Cluster``."""
        only = {"field_selector": f"spec.nodeName={node}"} if node else {}
        return self._list("pods", self._core.list_namespaced_pod, self._namespace, **only)

    def nodes(self) -> list[Json]:
        """See ``Cluster``."""
        return self._list("nodes", self._core.list_node)

    def node(self, name: str) -> Json:
        """See ``Cluster``."""
        return self._ask("get", "nodes", name, self._core.read_node, name)

    def create_pod(self, pod: Json) -> Json:
        """See ``Cluster``."""
        return self._ask("create", "pods", "", self._core.create_namespaced_pod, self._namespace, pod)

    def delete_pod(self, name: str, uid: str, grace: int | None) -> None:
        """See ``Cluster``."""
        options: Json = {"preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        self._ask(
            "delete", "pods", name, self._core.delete_namespaced_pod, name, self._namespace, body=options
        )

    def patch_pod(self, name: str, patch: Json) -> Json:
        """See ``Cluster``."""
        return self._ask("patch", "pods", name, self._core.patch_namespaced_pod, name, self._namespace, patch)

    def _list(self, kind: str, call: t.Callable[..., t.Any], *words: t.Any, **options: t.Any) -> list[Json]:
        return list(self._ask("list", kind, "", call, *words, **options)["items"])

    def _ask(
        self, verb: str, kind: str, name: str, call: t.Callable[..., t.Any], *words: t.Any, **options: t.Any
    ) -> Json:
        """The answer as the API server gave it; the client would make objects of it, and refuse what it does not know."""
        try:
            answer = call(*words, _preload_content=False, _request_timeout=PATIENCE, **options)
        except kubernetes.client.exceptions.ApiException as error:
            raise refusal(
                verb, f"{kind} {name}".strip(), error.status, said(error.body) or str(error.reason)
            ) from error
        except (OSError, kubernetes.client.rest.urllib3.exceptions.HTTPError) as error:
            raise Unreachable(
                f"the API server of the cluster does not answer ({verb} {kind})",
                str(error),
                "See whether it runs, and whether kubeconfig and context name the right one",
            ) from error
        return t.cast(Json, json.loads(answer.data))


def refusal(verb: str, what: str, status: int, why: str) -> HotUpgradeError:
    """What an HTTP status of the API server means here."""
    if status == 404:
        return Missing(
            f"the cluster has no {what}", why, "See whether name, namespace, kubeconfig and context are right"
        )
    if status == 409:
        return Conflict(
            f"the API server did not {verb} {what}", why, "Somebody else changes it at the same time"
        )
    if status in LATER:
        return Unreachable(
            f"the API server cannot {verb} {what} at the moment", f"{status}: {why}", "Try again"
        )
    if status in (401, 403):
        return Refused(
            f"the API server does not let this user {verb} {what}",
            why,
            "examples/kube-ovn/rbac.yml has the rights that are needed",
        )
    return HotUpgradeError(f"the API server refuses to {verb} {what}", f"{status}: {why}", "See what it says")


def said(body: t.Any) -> str:
    """The message in the API server's answer."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return ""


def connect(kubeconfig: str | None, context: str | None, namespace: str, name: str) -> Cluster:
    """The DaemonSet ``name`` of the cluster that a kubeconfig opens; without one, of the cluster that this runs in.

    Raises ``Refused`` where the client or the configuration is missing.
    """
    if kubernetes is None:
        raise Refused(
            "the Python package kubernetes is missing on the controller",
            f"{sys.executable} cannot import it",
            "Install it there (pip install kubernetes, or Debian's python3-kubernetes), or name another interpreter with "
            "kube_ovn_python",
        )
    try:
        api = kubernetes.config.new_client_from_config(config_file=kubeconfig, context=context)
    except kubernetes.config.ConfigException as error:
        if kubeconfig or context:
            raise _unusable(str(error)) from error
        api = _inside(str(error))
    except (OSError, ValueError) as error:
        raise _unusable(str(error)) from error
    return Client(api, namespace, name)


def _inside(why: str) -> t.Any:
    """The cluster in one of whose pods this runs."""
    try:
        kubernetes.config.load_incluster_config()
    except kubernetes.config.ConfigException as error:
        raise _unusable(f"{why}; {error}") from error
    return kubernetes.client.ApiClient()


def _unusable(why: str) -> Refused:
    return Refused(
        "the cluster cannot be opened",
        why,
        "Name a kubeconfig, and a context of it (kube_ovn_kubeconfig, kube_ovn_context)",
    )
