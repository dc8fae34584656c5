#!/usr/bin/python
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_traffic_probe
short_description: Measure what an upgrade of Open vSwitch does to traffic
version_added: 1.0.0
description:
  - Sends two streams of small UDP packets from one network namespace of the host to another, through the
    bridges between them, and counts what arrives, while something else upgrades or restarts Open vSwitch.
  - The first stream is one established flow. In the second one every packet is the first of a new flow,
    because each has another UDP source port. The datapath forwards the first without asking C(ovs-vswitchd),
    but not the second.
  - The measurement runs detached on the host. It survives the end of the Ansible connection, and ends by
    itself after O(max_duration).
  - The ends may belong to you. Attach them to the bridge like a virtual machine, for example with a veth pair
    each, and see that the flow table forwards between them. To see every packet of the second stream reach
    C(ovs-vswitchd), the flows it matches must look at the UDP ports. If they do not, one wildcard megaflow
    forwards them all.
  - Or the module makes them at a O(bridge), with all that they need, and takes them away again.
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of this measurement on the host, for two or more at the same time.
      - Letters, digits, C(-) and C(_).
    type: str
    default: default
  state:
    description:
      - V(started) starts the measurement and returns when the first packets of both streams have crossed. A
        measurement of this name that is running with the same parameters is left alone, with other
        parameters it is an error. The result of an earlier one is replaced.
      - V(stopped) ends it, waits one second for late packets, and returns the result. The result stays on
        the host, so that asking again returns it again.
      - V(absent) ends it if need be and removes everything that belongs to it.
      - V(prepared) makes the ends at O(bridge) and measures nothing yet, so that they are there before you look at the switch.
    type: str
    choices: [started, stopped, absent, prepared]
    default: started
  bridge:
    description:
      - Make both ends at this bridge, and use them. They are two network namespaces with a port each, and three flows with the
        highest priorities. What is sent from one goes to the other, and nothing of it anywhere else.
      - O(state=absent) removes all of that. Whatever ends Ansible, it stays until then.
      - Not for a bridge whose controller deletes flows that are not its own, as C(ovn-controller) does. Give two ends that the
        controller knows.
    type: str
  sender_namespace:
    description:
      - Network namespace to send from, by name as C(ip netns list) shows it, or by path, such as
        V(/proc/1234/ns/net).
      - Empty means the namespace that Ansible works in, usually the host's own.
    type: str
    default: ""
  receiver_namespace:
    description: Network namespace to receive in, like O(sender_namespace). It must be another one.
    type: str
    default: ""
  address:
    description: IPv4 address of the receiver, in O(receiver_namespace). Required to start, unless O(bridge) is set.
    type: str
  port:
    description: UDP port of the receiver. It must be free there.
    type: int
    default: 47000
  rate:
    description:
      - Packets per second of the established flow. An interruption shorter than the time between two packets
        cannot be seen.
    type: int
    default: 200
  new_flow_rate:
    description:
      - New flows per second, of one packet each. Every one may take a megaflow in the datapath for ten
        seconds.
    type: int
    default: 40
  max_duration:
    description:
      - After this time, in seconds, the measurement ends by itself, whatever happened to Ansible.
      - Give it more than the change can take. RV(result.ended) tells whether it was enough.
    type: int
    default: 900
notes:
  - Needs root on the host, for raw sockets and for entering network namespaces.
  - Packets that the neighbour resolution (ARP) of the sender holds back or gives up count as lost. Give the
    sender a permanent neighbour entry for O(address), to measure the bridge alone.
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
author:
  - ovsops contributors (@ovsops)
"""

EXAMPLES = r"""
- name: Measure between two endpoints of br-int
  ovsops.hot_upgrade.ovs_traffic_probe:
    state: started
    sender_namespace: h1
    receiver_namespace: h2
    address: 10.77.0.2

- name: Measure on a host where nothing is prepared
  ovsops.hot_upgrade.ovs_traffic_probe:
    state: started
    bridge: br0

- name: Do what is to be measured
  ansible.builtin.systemd_service:
    name: openvswitch-switch
    state: restarted

- name: See what it did to the traffic
  ovsops.hot_upgrade.ovs_traffic_probe:
    state: stopped
  register: traffic

- name: Keep the records of every packet, for a plot
  ansible.builtin.fetch:
    src: "{{ traffic.result.events }}"
    dest: reports/

- name: Leave nothing behind
  ovsops.hot_upgrade.ovs_traffic_probe:
    state: absent
"""

RETURN = r"""
directory:
  description: Where the measurement keeps its files on the host.
  returned: success
  type: str
  sample: /run/ovsops/probe-default
running:
  description: Whether the measurement is running after this task. In check mode, whether it would be.
  returned: success
  type: bool
  sample: false
result:
  description: What was measured. Times are in milliseconds.
  returned: when O(state=stopped); in check mode only if the measurement had ended before
  type: dict
  contains:
    ended:
      description:
        - What ended the measurement. V(stopped), V(max_duration) or V(killed).
        - Only with V(stopped) the numbers cover everything up to this task.
      type: str
      sample: stopped
    started_monotonic_us:
      description: C(CLOCK_MONOTONIC) of the host at the start, in microseconds.
      type: int
      sample: 1103114663
    duration_ms:
      description: Time from the start to the last packet.
      type: float
      sample: 40213.5
    receiver_dropped:
      description:
        - Packets that arrived, but that the receiver's socket had no room for. They count as lost. Anything
          but 0 is a flaw of the measurement.
      type: int
      sample: 0
    last_error:
      description: Last error of the sender, empty if there was none.
      type: str
      sample: ""
    established:
      description: The stream that is one established flow.
      type: dict
      sample:
        sent: 8042
        received: 8042
        lost: 0
        duplicated: 0
        refused_by_sender: 0
        longest_gap_ms: 9.871
        longest_outage_ms: 0.0
        longest_send_gap_ms: 9.644
        max_latency_ms: 3.208
        worst_runs: []
        around_gap: {at_ms: 6220.1, lasted_ms: 9.87, each: 1, points: [[6216.0, 0.05, 0], [6221.0, 3.2, 0]]}
      contains: &stream
        sent:
          description: Packets sent.
          type: int
        received:
          description: Packets that arrived at least once.
          type: int
        lost:
          description: Packets that never arrived, or later than one second after the end.
          type: int
        duplicated:
          description: Arrivals beyond the first of each packet.
          type: int
        refused_by_sender:
          description:
            - Packets that the sender's own kernel did not take, for example because its link was down. They
              count as sent and as lost.
          type: int
        longest_gap_ms:
          description: Longest time between two arrivals, or between the last arrival and the end of sending.
          type: float
        longest_outage_ms:
          description:
            - Longest time between the sending of the last packet before and of the first packet after a run
              of lost ones.
          type: float
        longest_send_gap_ms:
          description:
            - Longest pause of the sender itself. A gap that is not longer than this may be the host's
              scheduling, not the bridge.
          type: float
        max_latency_ms:
          description: Longest time from sending to first arrival of a packet.
          type: float
        worst_runs:
          description: The runs of consecutive lost packets with the longest outages, at most ten.
          type: list
          elements: dict
          contains:
            at_ms:
              description: When the first of them was sent, since the start.
              type: float
            lost:
              description: How many.
              type: int
            outage_ms:
              description: Time between the sending of the packets around them.
              type: float
        around_gap:
          description: The packets around the longest gap, for a plot. At most 160 points, whatever the rate is.
          type: dict
          contains:
            at_ms:
              description: When the gap began, since the start.
              type: float
            lasted_ms:
              description: How long it was, RV(result.established.longest_gap_ms).
              type: float
            each:
              description: How many consecutive packets one point stands for.
              type: int
            points:
              description:
                - For each point when its first packet was sent, since the start, the longest latency of those that arrived, and
                  how many were lost. The latency is V(null) where none arrived.
              type: list
              elements: list
    new_flows:
      description: The stream in which every packet is the first of a new flow.
      type: dict
      sample:
        sent: 1608
        received: 1431
        lost: 177
        duplicated: 0
        refused_by_sender: 0
        longest_gap_ms: 4512.4
        longest_outage_ms: 4500.1
        longest_send_gap_ms: 27.2
        max_latency_ms: 14.9
        worst_runs:
          - at_ms: 6225.0
            lost: 177
            outage_ms: 4500.1
        around_gap: {at_ms: 6219.8, lasted_ms: 4512.4, each: 2, points: [[6200.0, 0.4, 0], [6225.0, null, 2]]}
      contains: *stream
    events:
      description:
        - File on the host with every packet that was sent, refused or has arrived.
        - Records of 16 bytes, little-endian. An unsigned byte, 1 sent, 2 arrived, 3 not taken by the
          sender's kernel. An unsigned byte, 0 established, 1 new flow. Two zero bytes. The number of the
          packet in its stream, unsigned, 32 bits. The time, signed, 64 bits, nanoseconds of
          C(CLOCK_MONOTONIC).
      type: str
      sample: /run/ovsops/probe-default/events.bin
"""

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ansible as adapter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe.ends import RECEIVER_ADDRESS, Ends
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe.probe import (
    Probe,
    Settings,
    ensure,
)

OPTIONS: adapter.Options = {
    "name": {"type": "str", "default": "default"},
    "state": {"type": "str", "choices": ["started", "stopped", "absent", "prepared"], "default": "started"},
    "bridge": {"type": "str"},
    "sender_namespace": {"type": "str", "default": ""},
    "receiver_namespace": {"type": "str", "default": ""},
    "address": {"type": "str"},
    "port": {"type": "int", "default": 47000},
    "rate": {"type": "int", "default": 200},
    "new_flow_rate": {"type": "int", "default": 40},
    "max_duration": {"type": "int", "default": 900},
    **adapter.CONNECTION,
}


def measure(call: Call) -> Outcome:
    """Bring the probe to the wanted state, and put the outcome as RETURN documents it."""
    state, bridge = call.params["state"], call.params["bridge"]
    ends = Ends(call.params["name"], call.connection)
    settings = Settings(**{field.name: call.params[field.name] for field in dataclasses.fields(Settings)})
    made = bool(bridge) and state in ("started", "prepared") and not ends.there()
    if bridge:
        settings = dataclasses.replace(
            settings,
            sender_namespace=ends.sender,
            receiver_namespace=ends.receiver,
            address=RECEIVER_ADDRESS,
        )
    if made and not call.check_mode:
        ends.make(bridge)
    if state == "prepared" or (made and call.check_mode):
        probe = Probe(call.params["name"])
        return Outcome(made, {"running": probe.running(), "directory": probe.directory})
    outcome = ensure(call.params["name"], state, settings, call.check_mode)
    removed = state == "absent" and (ends.there() if call.check_mode else ends.remove())
    values: dict[str, object] = {"running": outcome.after == "running", "directory": outcome.directory}
    if outcome.result is not None:
        values["result"] = dataclasses.asdict(outcome.result)
    before, after = {"probe": outcome.before}, {"probe": outcome.after}
    return Outcome(before != after or made or removed, values, before, after)


def main() -> None:
    """Entry point for Ansible."""
    adapter.run_module(
        OPTIONS,
        measure,
        required_if=[("state", "started", ["address", "bridge"], True), ("state", "prepared", ["bridge"])],
        mutually_exclusive=[("bridge", "address")],
    )


if __name__ == "__main__":
    main()
