# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unprivileged users of the host who want to become root, or a hand-over to fail, while it is under way."""

from __future__ import annotations

import functools

from tests.scenarios.scene import Broken, Scene, upgrade

# As soon as there is a private run directory: processes with a daemon's name and that directory, which end at once again.
_NAMESAKES = r"""
import glob, os, shutil, subprocess, time
os.makedirs("/tmp/mine", exist_ok=True)
names = [shutil.copy("/bin/sleep", f"/tmp/mine/{name}") for name in ("ovs-vswitchd", "ovsdb-server")]
made = 0
while True:
    for place in glob.glob("/run/openvswitch-*"):
        for name in names:
            subprocess.run([name, "0.1"], env={"OVS_RUNDIR": place})
            made += 1
            with open("/tmp/mine/count", "w") as file:
                file.write(str(made))
    time.sleep(1)  # the host has one CPU, and the hand-over needs it
"""
ATTACK = f"""
cat > /tmp/attack.py <<'END'
{_NAMESAKES}
END
chmod 644 /tmp/attack.py
systemd-run --quiet --uid=nobody --unit=attacker python3 /tmp/attack.py
"""


def namesakes(strategy: str, scene: Scene) -> str:
    """Processes of ``nobody`` that call themselves daemons of the hand-over, and end: it does not care."""
    scene.populate()
    scene.sh(ATTACK)
    __, losses = upgrade(scene, "4.0.0", no_loss=strategy == "make_before_break", strategy=strategy)
    made = int(scene.sh("systemctl is-active --quiet attacker; cat /tmp/mine/count"))
    scene.sh("systemctl stop attacker")
    if not made:
        raise Broken("the attacker has not found the private run directory")
    return f"{losses}; {made} processes with the name of a daemon"


SCENARIOS = [
    (f"{strategy}: processes of others with a daemon's name", "3.5.0", functools.partial(namesakes, strategy))
    for strategy in ("make_before_break", "standby")
]
