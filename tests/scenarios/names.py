# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that the database takes: they reach sockets, commands of the daemons, tools and files, and are long."""

from __future__ import annotations

import functools
import json

from tests.scenarios.scene import RENUMBERED, Broken, Scene, upgrade

BRIDGES = (
    "b r 'x' \"y\"",
    "-dash",
    "--help",
    "12",
    "LOCAL",
    "all",
    "v%41%s",
    "br-ünï",
    ".hidden",
    "..",
    "../../tmp/x",
    "back\\slash",
    "$(touch /pwned)",
    "`touch /pwned`",
    "a;b|c&d",
    "*",
    "[x]{y}",
    "~",
    "unix:x",
    "a,b(c)=d",
    "br0.mgmt",
    "ovs-vswitchd.1",
)
# Each on every one of these bridges, with its number before it: patch ports have no device, so any name will do.
PORTS = ("p o r t '\"", "-port", "$(touch /pwned)", "a-name-of-more-than-fifteen-bytes", "ünï,(x)=y", "*/?")
# Devices of br0.
DEVICES = ("-tap", "a,b(c)=e", "ünï", "3", "LOCAL2", "123456789012345")
MAKE = r"""
import json, subprocess, sys
bridges, ports, devices, datapath = json.loads(sys.argv[1])
def run(*argv):
    subprocess.run(argv, check=True)
for name in bridges:
    words = ["--", "add-br", name, "--", "set", "bridge", name, "fail_mode=secure", "datapath_type=" + datapath]
    flows = []
    for number, port in enumerate(ports, 1):
        one, other = name + str(number) + port, name + str(number) + port + "'"
        for port, peer, wanted in ((one, other, number), (other, one, number + 20)):
            words += ["--", "add-port", name, port, "--", "set", "interface", port, "type=patch",
                      "options:peer=" + json.dumps(peer), "ofport_request=" + str(wanted)]
        flows.append("table=1,priority=%d,in_port=%d,actions=output:%d" % (number, number, number + 20))
    # It fails for bridges whose own device cannot be made; they are there nevertheless.
    subprocess.run(["ovs-vsctl", "--timeout=30", *words], stderr=subprocess.DEVNULL)
    if {"/", chr(92)} & set(name):
        continue
    subprocess.run(["ovs-ofctl", "-O", "OpenFlow15", "add-flows", "unix:/run/openvswitch/%s.mgmt" % name, "-"],
                   input="\n".join(flows), text=True, check=True)
    run("ovs-appctl", "--", "fdb/add", name, name + str(2) + ports[1], "0", "02:00:00:00:00:77")
for number, device in enumerate(devices, 50):
    run("ovs-vsctl", "--", "add-port", "br0", device, "--", "set", "interface", device, "type=internal",
        "ofport_request=%d" % number)
    run("ovs-ofctl", "-O", "OpenFlow15", "add-flow", "br0", "priority=3,in_port=%d,actions=output:2" % number)
"""


def made(scene: Scene, datapath: str) -> None:
    """A host with these bridges and ports, and traffic through br0."""
    scene.populate("--datapath-type", datapath)
    wanted = json.dumps([BRIDGES, PORTS, DEVICES, datapath]).replace("'", "'\\''")
    scene.sh(f"python3 - '{wanted}' <<'END'\n{MAKE}\nEND")


def odd(strategy: str, datapath: str, scene: Scene) -> str:
    """Every name goes through the whole hand-over, and nothing runs it."""
    made(scene, datapath)
    userspace = datapath == "netdev"
    lossless = not userspace and strategy == "make_before_break"
    result, losses = upgrade(
        scene, "4.0.0", no_loss=lossless, but=RENUMBERED if userspace else (), strategy=strategy
    )
    losses.shorter_than(5)
    scene.sh("[ ! -e /pwned ]")
    return f"{len(BRIDGES)} bridges, {losses}; not carried: {'; '.join(result['not_carried']) or 'nothing'}"


LONG = "a-userspace-bridge"
# The address and the route of the device that Linux cuts the name of.
USED = f"""
ovs-vsctl add-br {LONG} -- set bridge {LONG} fail_mode=secure datapath_type=netdev
ovs-vsctl add-port {LONG} a-long-tap-device -- set interface a-long-tap-device type=internal ofport_request=7
ovs-ofctl -O OpenFlow15 add-flow {LONG} in_port=7,actions=LOCAL
"""
ADDRESS = f"ip address add 10.30.0.1/24 dev {LONG[:15]}"
UP = f"ip link set {LONG[:15]} up"


def long_names(scene: Scene) -> str:
    """Userspace devices with names of more than 15 bytes, between versions that open them."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(USED + ADDRESS)  # not up: the old process would not hear of that, and tell it as down
    result, losses = upgrade(scene, "3.5.0", no_loss=False, but=RENUMBERED, strategy="make_before_break")
    losses.shorter_than(5)
    return f"window {result['window_ms']} ms, {losses}"


def cut_off(scene: Scene) -> str:
    """To a version that does not open them: refused while one is used, told and done when none is."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(USED + ADDRESS + "\n" + UP)
    scene.install("4.0.0")
    refused = scene.module("ovs_handover", {})
    if not refused["failed"] or "ip link set dev a-userspace-bri down" not in refused["msg"]:
        raise Broken(f"a device in use that would be lost is not refused: {refused}")
    # Two devices, of which only this one is in use.
    scene.sh(f"ip link set {LONG[:15]} down")
    with scene.traffic() as traffic:
        result = scene.hand_over()
    assert traffic.losses is not None
    traffic.losses.shorter_than(5)
    told = [text for text in result["not_carried"] if LONG in text]
    left = scene.sh("ls /sys/class/net")
    if not told or LONG[:15] in left:
        raise Broken(f"not carried: {result['not_carried']}, devices: {left}")
    scene.sh(f"ovs-ofctl -O OpenFlow15 dump-flows {LONG} | grep -q in_port=7")
    return f"{told[0]}; {traffic.losses}"


SCENARIOS = [
    *(
        (f"{strategy}: odd names, {where}", "3.5.0", functools.partial(odd, strategy, datapath), backend)
        for strategy in ("make_before_break", "prefilled", "standby", "restart")
        for where, datapath, backend in (("kernel", "system", "uml"), ("userspace", "netdev", "native"))
    ),
    ("long names in userspace", "3.1.0", long_names, "native"),
    ("long names in userspace that are lost", "3.5.0", cut_off, "native"),
]
