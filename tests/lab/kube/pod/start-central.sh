#!/usr/bin/env bash
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The first process of the container with OVN's databases and ovn-northd: what kube-ovn's program start-db.sh does where
# there is one of each.
set -euo pipefail
PATH=/usr/share/ovn/scripts:$PATH
trap 'ovn-ctl stop_northd' EXIT
ovn-ctl restart_northd
ovn-sbctl set-connection "ptcp:6642:[$POD_IP]"
tail --follow=name --retry /var/log/ovn/ovn-northd.log
