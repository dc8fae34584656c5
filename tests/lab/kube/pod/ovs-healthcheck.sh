#!/usr/bin/env bash
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The container's probes: whether the daemons run that the shared pidfiles name, as kube-ovn's own program asks.
set -euo pipefail
/usr/share/openvswitch/scripts/ovs-ctl status
if [ -n "${OVN_DB_IPS:-}" ]; then
  /usr/share/ovn/scripts/ovn-ctl status_controller
fi
