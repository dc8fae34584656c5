# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back to the version before while the new one forwards well; what changes meanwhile: the database, the collection."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import typing as t
from pathlib import Path
from unittest import mock

from tests.lab.images import REPOSITORY
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
until grep -q '"done".*"copy the database"' /var/lib/ovsops/transactions/*/journal.jsonl; do sleep 0.02; done
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


@contextlib.contextmanager
def another_version() -> t.Iterator[None]:
    """The controller has another version of the collection, which reads another format of requests."""
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder) / "ansible_collections/ovsops/hot_upgrade"
        for name in ("plugins", "meta"):
            shutil.copytree(REPOSITORY / name, collection / name)
        shutil.copy(REPOSITORY / "galaxy.yml", collection)
        request = collection / "plugins/module_utils/_handover/request.py"
        text = request.read_text()
        if "\nFORMAT = 1\n" not in text:
            raise Broken(f"{request} has no format that another version could have changed")
        request.write_text(text.replace("\nFORMAT = 1\n", "\nFORMAT = 1000\n"))
        with mock.patch.dict(os.environ, ANSIBLE_COLLECTIONS_PATH=folder):
            yield


def upgraded_meanwhile(scene: Scene) -> str:
    """The collection is upgraded while a hand-over waits: it is ended by the code that began it."""
    scene.populate(*USERSPACE)
    scene.install("4.0.0")
    before = scene.look()
    begin = functools.partial(scene.hand_over, expect="applied", confirm="manual", confirm_timeout=300)
    begin()
    with another_version():
        scene.hand_over(expect="rolled_back", state="rolled_back")
    require_same(before, scene.look(), RENUMBERED)
    require_sound(scene, "3.5.0", server=False)
    begin()
    with another_version():
        scene.hand_over(expect="applied", state="verified")
        scene.hand_over(state="confirmed")
    require_sound(scene, "4.0.0")
    return "rolled back, verified and confirmed"


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
    ("the collection is upgraded meanwhile", "3.5.0", upgraded_meanwhile, "native"),
]
