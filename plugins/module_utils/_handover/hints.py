# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Where an operator looks after an error: the logs of the daemons, and the journal of the engine."""

from __future__ import annotations

# The files are those of the packages; ``--log-file`` in a daemon's command line names another one (lib/vlog.c).
VSWITCHD_LOG = "Look into the log of ovs-vswitchd, /var/log/openvswitch/ovs-vswitchd.log"
SERVER_LOG = "Look into the log of ovsdb-server, /var/log/openvswitch/ovsdb-server.log"
ENGINE_LOG = "Look at what the engine said: journalctl -u 'ovsops-*'"
SYSTEM_LOG = "Look into the journal for who did it: journalctl --since -1h"
