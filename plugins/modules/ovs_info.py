#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_info
short_description: Tell everything about Open vSwitch that matters for its upgrade
version_added: 1.0.0
description:
  - Tells what runs and what is on disk, since a difference is the reason to upgrade, together with bridges, ports,
    numbers of OpenFlow objects, kernel modules, and who supervises the daemons.
  - Changes nothing, not even counters of the daemons.
  - A host where Open vSwitch is stopped or not installed is described as well. What cannot be known is V(null).
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.info_module
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
  - ovsops.hot_upgrade.containers
seealso:
  - module: ovsops.hot_upgrade.ovs_flow_snapshot
  - module: ovsops.hot_upgrade.ovs_restore_wait
"""

EXAMPLES = r"""
- name: Look at Open vSwitch
  ovsops.hot_upgrade.ovs_info:
  register: ovs

- name: Say what an upgrade would change
  ansible.builtin.debug:
    msg: "{{ ovs.upgrade_reasons }}"
  when: ovs.upgrade_pending

- name: Refuse a host whose flows wait for a restore that never came
  ansible.builtin.assert:
    that: not ovs.flow_restore_wait

- name: Look at an Open vSwitch that was started with another run directory
  ovsops.hot_upgrade.ovs_info:
    rundir: /opt/openvswitch/run
"""

RETURN = r"""
installed:
  description: Whether there is an ovs-vswitchd to start on this host.
  returned: success
  type: bool
  sample: true
upgrade_pending:
  description: Whether a restart would run something else than what runs now.
  returned: success
  type: bool
  sample: true
upgrade_reasons:
  description: Why, one sentence for each difference. Empty when RV(upgrade_pending=false).
  returned: success
  type: list
  elements: str
  sample: ["ovs-vswitchd runs 3.5.0, 4.0.0 is on disk"]
pending_since:
  description: When the programs on the disk came there, in UTC. V(null) when RV(upgrade_pending=false).
  returned: success
  type: str
  sample: "2026-11-23T06:15:00+00:00"
daemons:
  description: The daemons by name, C(ovs-vswitchd) and C(ovsdb-server).
  returned: success
  type: dict
  sample:
    ovs-vswitchd:
      running: true
      installed: true
      upgrade_pending: true
      pid: 812
      identity: 812-1834
      pidfile: /run/openvswitch/ovs-vswitchd.pid
      user: root
      running_version: 3.5.0
      disk_version: 4.0.0
      binary: /usr/lib/openvswitch-switch/ovs-vswitchd
      binary_replaced: true
      supervisor:
        kind: systemd
        unit: ovs-vswitchd.service
        monitor_pid: null
        cgroup: /system.slice/ovs-vswitchd.service
  contains:
    ovs-vswitchd:
      description: The forwarding daemon. C(ovsdb-server) has the same fields.
      type: dict
      returned: success
      contains:
        running:
          description: Whether the process is there.
          type: bool
          returned: success
        installed:
          description: Whether there is a binary to start.
          type: bool
          returned: success
        upgrade_pending:
          description: Whether a restart of this daemon would run something else.
          type: bool
          returned: success
        pid:
          description: Its process id.
          type: int
          returned: when it runs, else V(null)
        identity:
          description: Process id and start time in clock ticks after the boot. Changes exactly when another process takes over.
          type: str
          returned: when it runs, else V(null)
        pidfile:
          description: Where its process id was looked up.
          type: str
          returned: success
        user:
          description: The user as whom it runs.
          type: str
          returned: when it runs, else V(null)
        running_version:
          description: What the running process says. V(null) also when it hangs.
          type: str
          returned: when it runs, else V(null)
        disk_version:
          description: What the binary on disk says. It is not asked in a container, nor when others than root can write to it.
          type: str
          returned: when it is installed, else V(null)
        binary:
          description: The file that the next start would execute. Of a daemon in a container, its path in there.
          type: str
          returned: when it is installed, else V(null)
        binary_replaced:
          description: Whether the file from which the process was started has been replaced or removed since.
          type: bool
          returned: success
        doubt:
          description:
            - Why the process that the pidfile names is not taken for the daemon. V(null) when there is nothing to be said.
            - The program, user and namespaces of the process are looked at, since a run directory may not be root's.
          type: str
          returned: success
          sample: process 812 runs /tmp/ovs-vswitchd
        supervisor:
          description: Who would act if the process ended. V(null) when it does not run.
          type: dict
          returned: success
          contains:
            kind:
              description:
                - One of V(container), V(monitor) (a parent process started with C(--monitor)), V(systemd) and V(plain).
                - The first that holds. The other fields tell the rest.
              type: str
              returned: success
            unit:
              description: The systemd service in whose control group the process is, or V(null).
              type: str
              returned: success
            monitor_pid:
              description: The process id of the monitor, or V(null).
              type: int
              returned: success
            cgroup:
              description: The control group.
              type: str
              returned: success
schema:
  description: The versions of the database schema.
  returned: success
  type: dict
  sample: {running: 8.5.0, disk: 8.8.0}
  contains:
    running:
      description: That of the running database, or V(null).
      type: str
      returned: success
    disk:
      description: That of the installed packages, or V(null).
      type: str
      returned: success
database_error:
  description: Why the database could not be read. Empty when it could, or when there is no Open vSwitch at all.
  returned: success
  type: str
  sample: ""
flow_restore_wait:
  description:
    - Whether C(other_config:flow-restore-wait) is set.
    - V(null) when the database could not be read. This also holds for all that comes out of it.
  returned: success
  type: bool
  sample: false
hw_offload:
  description: Whether flows are offloaded through tc (C(other_config:hw-offload)).
  returned: success
  type: bool
  sample: false
other_config:
  description: The column C(other_config) of the table C(Open_vSwitch).
  returned: success
  type: dict
  sample: {}
managers:
  description: The targets of the table C(Manager).
  returned: success
  type: list
  elements: str
  sample: ["ptcp:6640:127.0.0.1"]
datapath_types:
  description: The datapath types that the running ovs-vswitchd offers.
  returned: success
  type: list
  elements: str
  sample: [netdev, system]
kernel:
  description: The release of the running kernel.
  returned: success
  type: str
  sample: 6.12.48+deb13-amd64
kernel_modules:
  description: The module C(openvswitch), loaded or not, and every loaded C(vport_*) module.
  returned: success
  type: list
  elements: dict
  sample:
    - name: openvswitch
      loaded: true
      builtin: false
      in_tree: true
      version: null
      srcversion: null
      build_id: 2f6f3a1be2c1f3e1d7e0f7f0c2a5f6f5a4b09d11
      disk_version: null
      disk_srcversion: null
      disk_build_id: 2f6f3a1be2c1f3e1d7e0f7f0c2a5f6f5a4b09d11
      disk_path: /lib/modules/6.12.48+deb13-amd64/kernel/net/openvswitch/openvswitch.ko.xz
      users: 2
      reload_needed: false
  contains:
    name:
      description: Its name as the kernel writes it.
      type: str
      returned: success
    loaded:
      description: Whether it is in the kernel.
      type: bool
      returned: success
    builtin:
      description: Whether it is part of the kernel itself, so that it cannot be reloaded.
      type: bool
      returned: success
    in_tree:
      description: Whether it came with the kernel. V(null) when this cannot be told.
      type: bool
      returned: success
    version:
      description: The version of the loaded one. Modules that come with the kernel have none (V(null)).
      type: str
      returned: success
    srcversion:
      description: The hash of the sources of the loaded one, V(null) when the kernel keeps none.
      type: str
      returned: success
    build_id:
      description: What the linker has made of all that is in the loaded one, V(null) when it was built without.
      type: str
      returned: success
    disk_version:
      description: The version of the one on disk.
      type: str
      returned: success
    disk_srcversion:
      description: The hash of the sources of the one on disk.
      type: str
      returned: success
    disk_build_id:
      description: The build-id of the one on disk, compressed or not.
      type: str
      returned: success
    disk_path:
      description: The file that C(modprobe) would load.
      type: str
      returned: success
    users:
      description: How many users hold it in the kernel.
      type: int
      returned: success
    reload_needed:
      description:
        - Whether the loaded one is another one than that on disk, by the build-id, else by the hash of the sources.
        - V(null) when neither is there on both sides. A version alone tells nothing.
      type: bool
      returned: success
module_support:
  description: Whether the Open vSwitch on disk can drive the loaded modules.
  returned: success
  type: dict
  sample: {supported: true, reason: Open vSwitch 4.0.0 works with the module of Linux 6.12.48+deb13-amd64}
  contains:
    supported:
      description: V(null) when no module is loaded or no Open vSwitch is installed.
      type: bool
      returned: success
    reason:
      description: Why.
      type: str
      returned: success
rehearsal:
  description: The last rehearsal of a version on this host (M(ovsops.hot_upgrade.ovs_rehearsal)). V(null) where there was none.
  returned: success
  type: dict
  sample: {at: "2026-11-23T06:15:00+00:00", from: 3.5.0, to: 4.0.0, passed: true, passed_back: true}
protection:
  description:
    - How the host is kept from replacing or restarting Open vSwitch between two rollouts (playbook C(protect.yml)). V(null) where
      it is not.
    - C(packages) are held, C(restarted) are the daemons that are other processes than those that were left all the same.
  returned: success
  type: dict
  sample: {since: "2026-11-23T06:15:00Z", packages: [openvswitch-common, openvswitch-switch], restarted: []}
rollout:
  description:
    - The rollout that has changed the packages of this host last, and their versions before, to which the playbook
      C(rollback.yml) goes back. C(ovn) are those of OVN. V(null) where there was none.
  returned: success
  type: dict
  sample: {id: "20261123T061500Z", at: "2026-11-23T06:15:12Z", packages: {openvswitch-switch: 3.5.0-1}, ovn: {}}
package_manager:
  description:
    - What has installed Open vSwitch, or would, V(apt), V(dnf4) or V(dnf5). V(null) where there is none of them.
  returned: success
  type: str
  sample: apt
restarting_packages:
  description:
    - The RPMs of Open vSwitch and OVN whose own scripts restart a service when another version replaces them. With apt nothing is
      told of that, since C(policy-rc.d) keeps scripts from it.
  returned: success
  type: list
  elements: str
  sample: []
unfinished_packages:
  description:
    - The packages of Open vSwitch and OVN that an interrupted C(dpkg) has left half installed. C(dpkg --configure) restarts the
      daemons, where C(policy-rc.d) does not keep it from that.
  returned: success
  type: list
  elements: str
  sample: []
held_packages:
  description:
    - The packages of Open vSwitch and OVN that dpkg holds or dnf has locked (C(versionlock)), whoever wants that.
  returned: success
  type: list
  elements: str
  sample: [openvswitch-common, openvswitch-switch]
boot:
  description: What tells this boot of the host from others.
  returned: success
  type: str
  sample: 2b9a1c52-7f5c-4f5e-9f2e-0d8f4f1f3c11
ovn:
  description: The chassis of OVN that this host is. V(null) where no ovn-controller runs and none is configured.
  returned: success
  type: dict
  sample:
    controller:
      running: true
      running_version: 25.03.0
      disk_version: 26.03.1
      upgrade_pending: true
    name: host1
    bridge: br-int
    settings: {ovn-remote: "tcp:192.0.2.1:6642", ovn-encap-type: geneve, ovn-encap-ip: 192.0.2.11}
    connected: true
    zones: 3
    zone_numbers: {lsp11: 1, lsp12: 2, 3f0c2f55-2ea1-4c5d-9f57-8a0d4c2f3d10_dnat: 3}
    flows: {total: 2318, without_cookie: 41, cookies: 702, largest: {"0x8c1f2a07": 512, "0x5d20b311": 24}}
  contains:
    controller:
      description: The daemon C(ovn-controller), with the same fields as RV(daemons).
      type: dict
      returned: success
    name:
      description: What OVN knows the host by (C(external_ids:system-id)).
      type: str
      returned: success
    bridge:
      description: The integration bridge.
      type: str
      returned: success
    settings:
      description: The keys of C(external_ids) that begin with C(ovn-).
      type: dict
      returned: success
    connected:
      description: Whether it has its southbound database. V(null) where it does not answer.
      type: bool
      returned: success
    zones:
      description: How many zones of connection tracking it uses. V(null) where it does not answer.
      type: int
      returned: success
    zone_numbers:
      description:
        - Their numbers, by the port of the logical network, or the router, that has one (C(ovn-appctl ct-zone-list)).
        - V(null) where it does not answer, and where there are more than 100.
      type: dict
      returned: success
    flows:
      description:
        - The flows of the integration bridge by their cookies. OVN takes the first part of the UUID of the row in its southbound
          database that they come from. C(ovn-sbctl lflow-list 0x8c1f2a07) shows it.
        - V(null) where the bridge does not answer.
      type: dict
      returned: success
      contains:
        total:
          description: How many flows it has.
          type: int
          returned: success
        without_cookie:
          description: How many of them have none.
          type: int
          returned: success
        cookies:
          description:
            - How many different cookies the others have.
            - V(null) where the bridge has more than 20,000 flows, since ovs-vswitchd does nothing else while it tells them, and
              before Open vSwitch 2.17, which may end over a flow that is too large.
          type: int
          returned: success
        largest:
          description: How many flows the five cookies with the most of them have. V(null) as RV(ovn.flows.cookies).
          type: dict
          returned: success
bridges:
  description: The bridges in the order of their names.
  returned: success
  type: list
  elements: dict
  sample:
    - name: br0
      datapath_type: system
      datapath_id: 00003aa2f1d4a54b
      fail_mode: secure
      protocols: [OpenFlow10, OpenFlow13]
      controllers: ["tcp:127.0.0.1:6653"]
      alone: false
      counts: {flows: 5003, groups: 2, meters: 1, tlvs: 0}
      counts_error: ""
      stp: false
      rstp: false
      mcast_snooping: false
      mirrors: 0
      netflow: false
      sflow: false
      ipfix: false
      other_config: {}
      ports: [{name: p1, interfaces: [p1], opened: [p1], bond_mode: null, lacp: null, qos: false, other_config: {}}]
      interfaces:
        - name: p1
          port: p1
          type: ""
          ofport: 1
          ofport_request: null
          options: {}
          other_config: {}
          bfd: {}
          cfm_mpid: null
          policing_rate: 0
          mac: null
          mac_in_use: 02:00:00:00:00:01
          mtu: 1500
          ifindex: 7
          link_state: up
          error: null
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    datapath_type:
      description: V(system) for the kernel datapath, V(netdev) for the userspace datapath.
      type: str
      returned: success
    datapath_id:
      description: 16 hexadecimal digits, V(null) before ovs-vswitchd has made the bridge.
      type: str
      returned: success
    fail_mode:
      description: V(secure), V(standalone) or V(null) (which means standalone).
      type: str
      returned: success
    protocols:
      description: The OpenFlow versions that are configured. Empty means the defaults of ovs-vswitchd.
      type: list
      elements: str
      returned: success
    controllers:
      description: The targets of the controllers in the database. Agents on the management socket are not among them.
      type: list
      elements: str
      returned: success
    alone:
      description: Whether none of the controllers is connected that Open vSwitch connects to.
      type: bool
      returned: success
    counts:
      description: The numbers of C(flows), C(groups), C(meters) and C(tlvs), or V(null) when the bridge could not be asked.
      type: dict
      returned: success
    counts_error:
      description: Why the bridge could not be asked.
      type: str
      returned: success
    stp:
      description: Whether the spanning tree protocol is on.
      type: bool
      returned: success
    rstp:
      description: Whether the rapid spanning tree protocol is on.
      type: bool
      returned: success
    mcast_snooping:
      description: Whether multicast snooping is on.
      type: bool
      returned: success
    mirrors:
      description: The number of mirrors.
      type: int
      returned: success
    netflow:
      description: Whether a NetFlow exporter is configured.
      type: bool
      returned: success
    sflow:
      description: Whether an sFlow exporter is configured.
      type: bool
      returned: success
    ipfix:
      description: Whether an IPFIX exporter for the bridge is configured.
      type: bool
      returned: success
    other_config:
      description: The column C(other_config) of the bridge.
      type: dict
      returned: success
    ports:
      description:
        - The ports with C(name), C(interfaces) (more than one make a bond), C(opened) (the same in the order in which a starting
          ovs-vswitchd opens them), C(bond_mode), C(lacp) (V(active), V(passive), V(off) or V(null)), C(qos) (whether a queueing
          discipline is configured) and C(other_config).
      type: list
      elements: dict
      returned: success
    interfaces:
      description:
        - The interfaces with C(name), C(port) (the name of the port it belongs to), C(type), C(ofport) (V(-1) when it
          could not be added, see C(error)), C(ofport_request), C(options) (without keys of IPsec), C(other_config),
          C(bfd), C(cfm_mpid), C(policing_rate) (kbit/s, V(0) is off), C(mac), C(mac_in_use), C(mtu) (bytes),
          C(ifindex), C(link_state) and C(error).
      type: list
      elements: dict
      returned: success
totals:
  description: Sums over all bridges. V(null) for what a single bridge did not tell.
  returned: success
  type: dict
  sample: {bridges: 2, ports: 6, flows: 5006, groups: 2, meters: 1, tlvs: 0}
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import (
    CONNECTION,
    CONTAINERS,
    TOGETHER,
    run_module,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._info import host_info
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome


def tell(call: Call) -> Outcome:
    home = homes.enter(homes.Homes.of(call.params))
    return Outcome(changed=False, values=host_info.gather(call.connection, home=home))


def main() -> None:
    run_module({**CONTAINERS, **CONNECTION}, tell, required_together=TOGETHER)


if __name__ == "__main__":
    main()
