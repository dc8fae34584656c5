# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the lab's network: controllers as they are in use, on os-ken, and their log.

    agent.py KIND ADDRESS PORT LOG [ROLE]

KIND is "neutron" (as neutron's agent: it fills the switch once, looks for a flow of its own, the canary, and fills the
switch anew where that is missing), "learning" (an Ethernet switch that learns from the packets that come to it), "cold" (it
deletes everything and fills the switch anew at each connection) or "watching" (it changes nothing).  ROLE is what it asks to be
at each connection, behind the question what it is: "primary" or "secondary"; or "turns": it asks to be the primary each second,
wherever another one is.  It drops a switch that is silent for two seconds.  On SIGTERM it writes LOG, JSON, and ends:
{"connections": n, "disconnects": n, "looks": n, "missing": how often its canary was not there, "fillings": n, "packets_in": n,
"roles": [role told by the switch at each connection, before it asks for one], "got": [the roles that it was given],
"errors": [what the switch has refused]}.

It shares no code with the collection, whose work it judges.
"""

# The library has no types.
# mypy: disable-error-code="misc, untyped-decorator"
from __future__ import annotations

import json
import os
import signal
import sys
import time
import typing as t

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_3_parser

KIND, ADDRESS, PORT, LOG = sys.argv[1:5]
ROLE = sys.argv[5] if len(sys.argv) > 5 else ""
COOKIE, CANARY, TABLE, FLOWS = 0xA9E27, 23, 60, 1000
# How often neutron looks (polling_interval), in seconds; here it is more often, so that it looks in the switch-over, too.
INTERVAL = 0.1
# How often it asks to be the primary, in seconds.
TURN = 1.0
# When it drops a switch that does not answer: so many questions, each so many seconds behind the one before.
SILENT = {"echo_request_interval": 1.0, "maximum_unreplied_echo_requests": 1}

of, parser = ofproto_v1_3, ofproto_v1_3_parser
said: dict[str, t.Any] = {
    "connections": 0, "disconnects": 0, "looks": 0, "missing": 0, "fillings": 0, "packets_in": 0,
    "roles": [], "got": [], "errors": [],
}  # fmt: skip


class Agent(app_manager.OSKenApp):
    """One controller of one switch."""

    OFP_VERSIONS: t.ClassVar = [of.OFP_VERSION]

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.switch: t.Any = None
        self.places: dict[str, int] = {}
        self.asked = self.told = False
        hub.spawn(self.look)
        if ROLE == "turns":
            hub.spawn(self.take_turns)

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, event: t.Any) -> None:
        """A connection is there."""
        self.switch, self.asked, self.told = event.msg.datapath, False, False
        said["connections"] += 1
        self.send(parser.OFPRoleRequest(self.switch, of.OFPCR_ROLE_NOCHANGE, 0))
        if KIND == "cold":
            self.send(self.flow(of.OFPTT_ALL, {}, [], command=of.OFPFC_DELETE, cookie=0))
            self.send(parser.OFPBarrierRequest(self.switch))
        if KIND == "cold" or not (said["fillings"] or KIND == "watching"):
            self.fill()

    @set_ev_cls(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def gone(self, event: t.Any) -> None:
        """A connection has ended; one that never was has no switch yet."""
        said["disconnects"] += event.datapath.id is not None

    @set_ev_cls(ofp_event.EventOFPRoleReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def told_role(self, event: t.Any) -> None:
        """What the switch takes us for."""
        if self.told:
            said["got"].append(event.msg.role)
            return
        self.told = True
        said["roles"].append(event.msg.role)
        if ROLE in ("primary", "secondary"):
            self.ask_for(of.OFPCR_ROLE_MASTER if ROLE == "primary" else of.OFPCR_ROLE_SLAVE)

    def ask_for(self, role: int) -> None:
        """Whoever asks later counts more than those before."""
        self.send(parser.OFPRoleRequest(self.switch, role, time.time_ns() // 1_000_000))

    def take_turns(self) -> None:
        """Want to be the primary all the time; the switch makes the other one a secondary."""
        while True:
            hub.sleep(TURN)
            if self.told and self.switch.is_active:
                self.ask_for(of.OFPCR_ROLE_MASTER)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def refused(self, event: t.Any) -> None:
        """Something was wrong; whoever was overtaken on the way asks again."""
        if (event.msg.type, event.msg.code) == (of.OFPET_ROLE_REQUEST_FAILED, of.OFPRRFC_STALE):
            self.ask_for(of.OFPCR_ROLE_SLAVE if ROLE == "secondary" else of.OFPCR_ROLE_MASTER)
            return
        said["errors"].append([event.msg.type, event.msg.code])

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, event: t.Any) -> None:
        """Learn where somebody is, and send the packet on."""
        said["packets_in"] += 1
        frame = packet.Packet(event.msg.data).get_protocol(ethernet.ethernet)
        came, switch = event.msg.match["in_port"], event.msg.datapath
        if KIND != "learning" or not frame:
            return
        self.places[frame.src] = came
        to = self.places.get(frame.dst)
        actions = [parser.OFPActionOutput(to or of.OFPP_FLOOD)]
        if to:
            self.send(self.flow(0, {"in_port": came, "eth_dst": frame.dst}, actions, 40000))
        self.send(parser.OFPPacketOut(switch, of.OFP_NO_BUFFER, came, actions, event.msg.data))

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def found(self, event: t.Any) -> None:
        """Whether the canary is still there."""
        self.asked = False
        said["looks"] += 1
        if not event.msg.body:
            said["missing"] += 1
            self.fill()

    def look(self) -> None:
        """Ask for the canary all the time."""
        while True:
            hub.sleep(INTERVAL)
            if KIND == "neutron" and said["fillings"] and self.switch.is_active and not self.asked:
                self.asked = True
                match = parser.OFPMatch()
                self.send(
                    parser.OFPFlowStatsRequest(
                        self.switch, 0, CANARY, of.OFPP_ANY, of.OFPG_ANY, COOKIE, 2**64 - 1, match
                    )
                )

    def fill(self) -> None:
        """All that the switch is to have."""
        for number in range(FLOWS):
            match = {"eth_type": 0x0800, "ipv4_dst": f"10.77.{number // 256}.{number % 256}"}
            self.send(self.flow(TABLE, match, [parser.OFPActionOutput(2)]))
        self.send(self.flow(CANARY, {}, []))
        if KIND == "learning":
            self.send(self.flow(0, {}, [parser.OFPActionOutput(of.OFPP_CONTROLLER, 65535)], 30000))
        else:
            # Which connection it is is looked at, so that each needs a megaflow of its own.
            look = parser.NXActionRegMove(src_field="udp_src", dst_field="reg5", n_bits=16)
            udp = {"in_port": 1, "eth_type": 0x0800, "ip_proto": 17}
            self.send(self.flow(0, udp, [look, parser.OFPActionOutput(2)], 50000))
            for here, there in ((1, 2), (2, 1)):
                self.send(self.flow(0, {"in_port": here}, [parser.OFPActionOutput(there)], 40000))
        said["fillings"] += 1

    def flow(
        self,
        table: int,
        match: dict[str, t.Any],
        actions: list[t.Any],
        priority: int = 10,
        command: int = of.OFPFC_ADD,
        cookie: int = COOKIE,
    ) -> t.Any:
        """A change of a flow."""
        apply = [parser.OFPInstructionActions(of.OFPIT_APPLY_ACTIONS, actions)] if actions else []
        return parser.OFPFlowMod(
            self.switch, cookie, 0, table, command, 0, 0, priority, of.OFP_NO_BUFFER, of.OFPP_ANY, of.OFPG_ANY, 0,
            parser.OFPMatch(**match), apply,
        )  # fmt: skip

    def send(self, message: t.Any) -> None:
        """Send it, if the switch is there."""
        self.switch.send_msg(message)


def end(*_words: t.Any) -> None:
    with open(LOG, "w", encoding="ascii") as file:
        json.dump(said, file)
    os._exit(0)  # threads of the library would be waited for


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    cfg.CONF(["--ofp-listen-host", ADDRESS, "--ofp-tcp-listen-port", PORT], project="os_ken")
    for name, value in SILENT.items():
        cfg.CONF.set_override(name, value)
    # Else the library has one of its own, and a log of its own.
    sys.modules["agent"] = sys.modules["__main__"]
    app_manager.AppManager.run_apps(["os_ken.controller.ofp_handler", "agent"])
