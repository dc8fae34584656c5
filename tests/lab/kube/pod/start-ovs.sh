#!/usr/bin/env bash
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The first process of the container: what kube-ovn's own program of that name does to Open vSwitch and OVN, in the
# same order. Daemons of another pod are restarted; at the end only those of this pod's own control group are stopped.
set -euo pipefail
PATH=/usr/share/openvswitch/scripts:/usr/share/ovn/scripts:$PATH

ours() { # whether that process is in the control group of this container
  [ -n "$1" ] && cmp -s "/proc/$1/cgroup" /proc/self/cgroup
}

quit() {
  pid() { cat "/run/$1.pid" 2>/dev/null || :; }
  if ours "$(pid ovn/ovn-controller)"; then ovn-ctl stop_controller --restart; fi
  if ours "$(pid openvswitch/ovsdb-server)"; then ovs-ctl --no-ovs-vswitchd stop; fi
  if ours "$(pid openvswitch/ovs-vswitchd)"; then ovs-ctl --no-ovsdb-server stop; fi
  exit 0
}
trap quit EXIT

mkdir -p /run/openvswitch /run/ovn /var/log/openvswitch /var/log/ovn
ovs-ctl restart --no-ovs-vswitchd --system-id=random
ovs-ctl restart --no-ovsdb-server --system-id=random
if [ -n "${OVN_DB_IPS:-}" ]; then
  # Nothing else can be had on the machine's kernel.
  ovs-vsctl set open_vswitch . external_ids:ovn-bridge-datapath-type=netdev
  ovn-ctl restart_controller
  # ovn-encap-ip is set by another pod of kube-ovn's.
  ovs-vsctl set open_vswitch . "external_ids:ovn-remote=tcp:[$OVN_DB_IPS]:6642" external_ids:ovn-encap-type=geneve
fi
tail --follow=name --retry /var/log/openvswitch/ovs-vswitchd.log
