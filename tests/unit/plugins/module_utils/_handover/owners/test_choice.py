# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import choice
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.nobody import Nobody
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import heritage_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.systemd import Systemd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    identify,
)


def test_who_owns_a_daemon_is_read_as_it_was_written() -> None:
    me = identify(os.getpid())
    assert me is not None
    program = "/usr/sbin/ovs-vswitchd"
    heritage = heritage_of(Instance(me, ("me",), {}))
    owner = Nobody("ovs-vswitchd", "/run/openvswitch", program, heritage)
    record = json.loads(json.dumps(choice.as_json(owner, program)))
    assert choice.of_json("ovs-vswitchd", owner.rundir, record) == owner
    unit = Systemd("x.service", "ovs-vswitchd", owner.rundir, owner.heritage)
    record = json.loads(json.dumps(choice.as_json(unit, program)))
    assert choice.of_json("ovs-vswitchd", owner.rundir, record) == unit
