# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back to the version before while the new one forwards well; a database that changes under the preparation."""

from __future__ import annotations

import functools

from tests.scenarios.scene import RENUMBERED, Broken, Scene, measured, require_same, require_sound
from tests.scenarios.versions import DISPATCH, SECOND_START

USERSPACE = ("--datapath-type", "netdev")


def back(
    strategy: str, options: tuple[str, ...], scene: Scene, pair: tuple[str, str] = ("3.5.0", "4.0.0")
) -> str:
    """The hand-over waits for its confirmation, and is rolled back: the old program takes over as the new one did."""
    old, new = pair
    if "3.1.0" in pair:
        scene.sh(SECOND_START)
    scene.populate(*options)
    scene.install(new)
    before = scene.look()
    with scene.traffic() as traffic:
        scene.hand_over(expect="applied", strategy=strategy, confirm="manual", confirm_timeout=300)
        require_running(scene, new)
        result = scene.hand_over(expect="rolled_back", state="rolled_back")
    require_same(before, scene.look(), RENUMBERED if options == USERSPACE else ())
    # A new ovsdb-server that works is no reason to interrupt the database again; its schema is the old one.
    require_sound(scene, old, server=False)
    losses = measured(traffic)
    if (strategy, options) == ("make_before_break", ()):
        losses.none()
    losses.shorter_than(5)
    return f"{losses}; not undone: {result['not_undone'] or 'nothing'}"


def require_running(scene: Scene, version: str) -> None:
    runs = scene.look()["versions"]["ovs-vswitchd"]
    if runs != version:
        raise Broken(f"ovs-vswitchd runs {runs}, not {version}")


CHANGE = """
cat > /run/change.sh <<'END'
until ls -d /run/openvswitch-*; do sleep 0.05; done
sleep 0.3
ovs-vsctl --no-wait set open_vswitch . external_ids:changed=meanwhile
END
setsid bash /run/change.sh >/run/change.log 2>&1 </dev/null &
"""


def changed(scene: Scene) -> str:
    """Somebody changes the database while the hand-over is prepared: it is prepared anew, and takes the change along."""
    scene.populate()
    scene.install("4.0.0")
    with scene.traffic() as traffic:
        scene.sh(CHANGE)
        scene.hand_over()
    require_sound(scene, "4.0.0")
    if "meanwhile" not in scene.sh("ovs-vsctl get open_vswitch . external_ids:changed"):
        raise Broken("the change is lost")
    tries = len(scene.sh("ls /var/lib/ovsops/transactions").split())
    if tries != 2:
        raise Broken(f"there were {tries} transactions, not 2")
    measured(traffic).none()
    return f"{measured(traffic)}, {tries} transactions"


SCENARIOS = [
    ("make_before_break: hot rollback", "3.5.0", functools.partial(back, "make_before_break", ())),
    *(
        (f"{name}: hot rollback", "3.5.0", functools.partial(back, name, ()))
        for name in ("prefilled", "standby", "restart")
    ),
    (
        "hot rollback from 3.1.0 to 2.15.0",
        "2.15.0",
        functools.partial(back, "auto", (), pair=DISPATCH),
    ),
    (
        "hot rollback from 2.15.0 to 3.1.0",
        "3.1.0",
        functools.partial(back, "auto", (), pair=DISPATCH[::-1]),
    ),
    (
        "make_before_break: hot rollback in userspace",
        "3.5.0",
        functools.partial(back, "make_before_break", USERSPACE),
        "native",
    ),
    ("database changes meanwhile", "3.5.0", changed),
]
