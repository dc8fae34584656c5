# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The only file that knows AnsibleModule: options in, privileges, JSON out.

A module is ``run_module(options, behaviour)``; the behaviour is ordinary Python that returns an ``Outcome``
or raises ``HotUpgradeError``.
"""

from __future__ import annotations

import os
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

Options = dict[str, dict[str, t.Any]]

# The options of the doc fragment containers.py, which are given together.
CONTAINERS: Options = {"container": {"type": "str"}, "container_before": {"type": "str"}}
TOGETHER = [("container", "container_before")]

# The options of the doc fragment connection.py.
CONNECTION: Options = {
    "rundir": {"type": "path", "default": "/run/openvswitch"},
    "database": {"type": "str"},
    "timeout": {"type": "float", "default": 10},
}

# The options of the doc fragment kubernetes.py.
KUBERNETES: Options = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "namespace": {"type": "str", "default": "kube-system"},
    "daemonset": {"type": "str", "default": "ovs-ovn"},
    "container": {"type": "str", "default": "openvswitch"},
}

# The options of the doc fragment judgement.py. It is the controller that judges: the action plugins take them.
JUDGEMENT: Options = {
    "max_lost_established": {"type": "int"},
    "max_lost_new": {"type": "int"},
    "max_gap_ms": {"type": "float"},
    "probe": {"type": "str"},
    "health": {"type": "bool", "default": False},
    "health_before": {"type": "dict"},
    "soak": {"type": "float", "default": 0},
    "max_failed": {"type": "int"},
}


def run_module(
    options: Options,
    behaviour: t.Callable[[Call], Outcome],
    privileged: bool = True,
    **spec: t.Any,
) -> None:
    """Run ``behaviour`` as an Ansible module and end the process with its JSON.

    ``privileged``: only root can do it. ``spec`` goes to AnsibleModule (``required_if`` and the like).
    """
    module = AnsibleModule(argument_spec=options, supports_check_mode=True, **spec)
    try:
        if privileged:
            require_root()
        outcome = behaviour(Call(dict(module.params), module.check_mode))
    except HotUpgradeError as error:
        module.fail_json(**failure(error))
    except OSError as error:
        what = f"access to {error.filename}" if error.filename else "a system call"
        hint = "Look at the owner and mode of the path, at free space and at the log of SELinux or AppArmor"
        refusal = HotUpgradeError(f"the host refused {what}", error.strerror or str(error), hint)
        module.fail_json(exception=traceback.format_exc(), **failure(refusal))
    result = {**outcome.values, "changed": outcome.changed}
    if outcome.before is not None and outcome.after is not None:
        result["diff"] = {"before": dict(outcome.before), "after": dict(outcome.after)}
    if outcome.error is not None:
        module.fail_json(**{**result, **failure(outcome.error)})
    module.exit_json(**result)


def failure(error: HotUpgradeError) -> dict[str, t.Any]:
    """The fields of ``fail_json`` for ``error``: the whole sentence and its parts."""
    return {
        "msg": str(error),
        "error": {"kind": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint},
    }


def require_root() -> None:
    """Raise unless the module runs as root: sockets, pidfiles and /proc of the daemons belong to it."""
    if os.geteuid() != 0:
        raise HotUpgradeError(
            "this module must run as root",
            f"it runs as user id {os.geteuid()}, which may not use the sockets of Open vSwitch",
            "Set 'become: true' on the task or the play",
        )
