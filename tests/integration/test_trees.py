# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two bridges that are joined by two links: what they tell each other is overheard, and what they show is understood."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import spanning_tree
from tests.harness.waiting import wait_until

if t.TYPE_CHECKING:
    from tests.integration.conftest import StartOvs

# What is heard at the devices while each bridge says something, and nothing but that.
LISTEN = """
import json, socket, subprocess, sys, time
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.spanning_tree import GROUP
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.listener import Listener
ears = {name: Listener(name, GROUP) for name in sys.argv[1:]}
noise = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
noise.bind((sys.argv[1], 0))
noise.send(bytes.fromhex("0180c2000001" "020000000001" "0800") + bytes(46))
found = {name: [] for name in ears}
end = time.monotonic() + 30
while not all(found.values()) and time.monotonic() < end:
    readable([ear.fileno() for ear in ears.values()], end - time.monotonic())
    for name, ear in ears.items():
        found[name] += [(each.frame.hex(), each.own) for each in ear.heard()]
subprocess.run(["ip", "link", "set", sys.argv[1], "down"], check=True)
late = Listener(sys.argv[1], GROUP)
silent = [ear.heard() for ear in (ears[sys.argv[1]], late)]
subprocess.run(["ip", "link", "set", sys.argv[1], "up"], check=True)
noise.send(GROUP + bytes.fromhex("020000000001" "05dc") + bytes(1400))
# Open vSwitch may say something behind it.
again = [max([len(each.frame) for each in ear.heard()], default=0) for ear in (ears[sys.argv[1]], late)]
print(json.dumps([found, silent, again]))
"""


@pytest.mark.parametrize("version", ["2.15.0", "4.0.0"])
@pytest.mark.parametrize("protocol", ["stp", "rstp"])
def test_what_neighbours_say_is_overheard(start_ovs: StartOvs, version: str, protocol: str) -> None:
    ovs = start_ovs(version)
    times = {"forward-delay": 4, "max-age": 6, "hello-time": 1}
    options = (f"other_config:{protocol}-{name}={seconds}" for name, seconds in times.items())
    settings = f"{protocol}_enable=true", *options
    root = ovs.bridge("br0", *settings, f"other_config:{protocol}-priority=4096")
    other = ovs.bridge("br1", *settings)
    for name in "ab":
        ovs.run("ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
        for number, bridge in enumerate((root, other)):
            ovs.run("ip", "link", "set", f"{name}{number}", "up")
            ovs.vsctl("add-port", bridge, f"{name}{number}")

    def grown() -> bool:
        lines = " ".join(line for tree in shown().values() for line in tree.lines).lower()
        return lines.count("forwarding") == 3

    def shown() -> dict[str, spanning_tree.Tree]:
        return spanning_tree.parse(ovs.appctl(f"{protocol}/show"))

    wait_until(grown, 60, 0.5)
    assert [shown()[name].is_root for name in (root, other)] == [True, False]
    status = [
        json.loads(ovs.vsctl("--format=json", "--columns=rstp_status", "list", "port", name))
        for name in ("a0", "b0")
    ]
    numbers = [list(spanning_tree.rapid_numbers(dict(found["data"][0][0][1]))) for found in status]
    assert sorted(numbers) == ([[1], [2]] if protocol == "rstp" else [[], []])
    assert {tree.forward_delay for tree in shown().values()} == {4}
    heard, silent, again = json.loads(ovs.python(LISTEN, "a0", "b0", "a1", "b1"))
    assert silent == [[], []], "a device that is down is no error"
    assert again == [128, 128], "nobody makes us take more than a BPDU can be"
    own = {name: [bytes.fromhex(frame) for frame, mine in frames if mine] for name, frames in heard.items()}
    others = {
        name: [bytes.fromhex(frame) for frame, mine in frames if not mine] for name, frames in heard.items()
    }
    assert own["a0"] == others["a1"] != []
    assert all(frame[:6] == spanning_tree.GROUP for frame in own["a0"])
    answers = [spanning_tree.answer(frame) for frame in own["a0"]]
    if protocol == "rstp":
        assert None not in answers
