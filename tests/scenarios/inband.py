# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is reached by the bridge that it controls: hidden flows let it through, whatever the tables say.

It is in h1, and br0 has an address of its own there.  Judges are the controller's own log, and segments of the controller for
somebody else, which only hidden flows let pass, too.
"""

from __future__ import annotations

import functools

from tests.scenarios.living import CONNECTED, controller, require_logged
from tests.scenarios.programs import Program
from tests.scenarios.scene import BACK, THERE, Broken, Json, Scene, measured, require_sound

# Segments of the controller for h2: how many were sent, and how many arrived.
SEGMENTS = Program("segments")
ADDRESS, PORT = "10.0.0.1", 6653
# No flow is for what comes from the bridge itself.  It has a controller already: the first one would mean a flush.
REACHED = f"""
ip address add 10.0.0.254/24 dev br0; ip link set br0 up
ovs-vsctl set-controller br0 tcp:{ADDRESS}:{PORT} -- set controller br0 max_backoff=1000 inactivity_probe=5000
"""
# What the controller takes for a switch that is gone: no answer for so long, in seconds.
SILENCE = 5.0
OPENFLOW14 = 5
# In userspace the new process has hidden flows when it has the bridge's own port and its controllers: till then these are gone.
OTHERS = ["p1>p2:gone"]


def reached(strategy: str, datapath: str, scene: Scene) -> str:
    """There and back: the controller sees one reconnect each time, and nobody loses what it sends."""
    scene.populate("--datapath-type", datapath, "--controller")
    scene.install("4.0.0")
    where = f"listen:{ADDRESS}:{PORT}"
    said = []
    with controller(scene, "flows", 20, where, OPENFLOW14, namespace="h1") as log:
        scene.sh(REACHED + CONNECTED)
        accepted: Json = {"accept": OTHERS} if datapath == "netdev" else {}
        for options in ({**THERE, "strategy": strategy, **accepted}, BACK):
            with SEGMENTS.running(scene, PORT, SEGMENTS.log) as sent, scene.traffic() as traffic:
                scene.hand_over(**options)
                scene.sh(CONNECTED)
            lost = sent["sent"] - sent["arrived"]
            said.append(
                f"{options['expect']}: {measured(traffic)}; {lost} of {sent['sent']} of the controller's lost"
            )
            if strategy == "make_before_break" and datapath == "system":
                measured(traffic).none()
                if lost:
                    raise Broken(f"what only hidden flows let pass was hit: {said}")
    require_sound(scene, "3.5.0", server=False)
    require_logged(scene, log)
    if log["connections"] != 3 or log["silence"] > SILENCE:
        raise Broken(
            f"the controller saw {log['connections']} connections, {log['silence']:.1f} s of silence; {said}"
        )
    return f"{'; '.join(said)}; {log['connections']} connections, {log['silence']:.2f} s of silence at most"


SCENARIOS = [
    (f"in-band: {strategy}, {backend}", "3.5.0", functools.partial(reached, strategy, datapath), backend)
    for strategy, datapath, backend in (
        ("make_before_break", "system", "uml"),
        ("restart", "system", "uml"),
        ("make_before_break", "netdev", "native"),
    )
]
