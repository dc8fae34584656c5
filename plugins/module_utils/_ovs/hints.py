# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Where an operator looks after an error: the logs of the daemons, and the journal of the engine."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import LOG_DIRECTORY

_OVN_LOGS = "/var/log/ovn"


def log_of(name: str) -> str:
    """Of a daemon: the packages' file, unless ``--log-file`` in its command line names another one (lib/vlog.c)."""
    directory = _OVN_LOGS if name.startswith("ovn-") else LOG_DIRECTORY
    return f"Look into the log of {name}, {directory}/{name}.log"


VSWITCHD_LOG = log_of(VSWITCHD)
SERVER_LOG = log_of(OVSDB_SERVER)
ENGINE_LOG = "Look at what the engine said: journalctl -u 'ovsops-*'"
SYSTEM_LOG = "Look into the journal for who did it: journalctl --since -1h"
