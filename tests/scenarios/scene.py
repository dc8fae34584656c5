# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario works with: lab hosts, traffic through them, a hand-over, and the judgement of what became of both.

A scenario is a function that is given a ``Scene`` of its own, raises ``Broken`` when a promise was not kept, and
returns what it measured in a few words.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t
from pathlib import Path

from tests.harness import look, probe, runs
from tests.harness.waiting import SETTLED, until
from tests.lab import hosts, images, uml
from tests.lab import lab as laboratory

# How long the traffic goes on after the hand-over, in seconds: what breaks late is seen, too, and nothing tells of that.
AFTERWARDS = 3.0
# What is lost this long before the old process is stopped, in seconds, was on its way then.
MARGIN = 0.05


# The engine and its guard are gone, and systemd with what was theirs.
GONE = """
gone() {
    if [ -d /run/systemd/system ]; then
        ! systemctl is-active --quiet 'ovsops-*'
    else
        ! pgrep -f /lib/run.py
    fi
}
""" + until("gone")
LOOK = Path(look.__file__).read_text()

# For ``Scene.populate``: a host on which no second process can be filled beforehand.
SPANNING_TREE = "--spanning-tree"

# What a switch-over in userspace may cost, where nobody forwards for a moment: 10 to 25 ms on hosts as slow as these.
A_FEW = 10

# What may differ afterwards in userspace: the datapath is a part of the process, which numbers its ports anew.
RENUMBERED = ("datapath ports",)

Json = dict[str, t.Any]

# For ``Scene.hand_over``: what is to be taken back, and taking it back.
THERE: Json = {"expect": "applied", "confirm": "manual", "confirm_timeout": 600}
BACK: Json = {"expect": "rolled_back", "state": "rolled_back"}


class Broken(Exception):
    """A promise was not kept, as a sentence."""


class Losses(probe.Losses):
    """What a scenario demands of them."""

    def none(self) -> None:
        """Raise ``Broken`` unless every packet came once."""
        if (self.established, self.new, self.duplicates) != (0, 0, 0):
            raise Broken(f"traffic was hit: {self}")

    def few(self, most: int) -> None:
        """Raise ``Broken`` where that is more than what comes while nobody forwards in the switch-over in userspace."""
        self.shorter_than(0.5)
        if self.established + self.new > most:
            raise Broken(f"traffic was hit: {self}")

    def shorter_than(self, seconds: float) -> None:
        """Raise ``Broken`` when the receiver heard nothing for longer, or a packet came twice."""
        if self.gap_ms > seconds * 1000 or self.duplicates:
            raise Broken(f"traffic was hit for longer than {seconds:g} s: {self}")


@dataclasses.dataclass
class Traffic:
    """A probe while it runs; ``losses`` when it has ended."""

    losses: Losses | None = None


class Scene:
    """Lab hosts for one scenario; ``host`` is a number from 1 on wherever it is a parameter."""

    def __init__(self, lab: hosts.Lab) -> None:
        self.lab = lab

    def host(self, number: int = 1) -> hosts.Host:
        """The lab host of that number."""
        return self.lab.host(f"host{number}")

    def sh(self, script: str, host: int = 1) -> str:
        """Run a shell script on a host and return what it printed; it ends at the first failure."""
        return hosts.script(self.lab, self.host(host), script)

    def populate(self, *options: str) -> None:
        """See tests/lab/populate.py."""
        laboratory.populate(self.lab, options)
        self.sh(SETTLED)

    def module(self, name: str, arguments: Json, host: int = 1, check: bool = False) -> Json:
        """The result of a module, also when it failed."""
        return runs.module(self.lab, self.host(host), name, arguments, check)

    def install(self, version: str, host: int = 1) -> None:
        """Put another version on the disk; what runs goes on."""
        # From 3.1 to 2.15 Debian's ovs-vsctl moves to another package, which dpkg loses on the rollback.
        again = "[ -e /usr/bin/ovs-vsctl ] || apt-get -qq -y install --reinstall openvswitch-common"
        words = " ".join(runs.install(version))
        self.sh(
            f"{runs.NO_RESTART}\n{words}\n{again}={images.package_version(version)}\nrm /usr/sbin/policy-rc.d",
            host,
        )

    def look(self, host: int = 1) -> Json:
        """See look.py."""
        output = hosts.ssh(self.lab, self.host(host), "python3", "-", feed=LOOK)
        return t.cast("Json", json.loads(output))

    def hand_over(self, host: int = 1, expect: str = "confirmed", **options: t.Any) -> Json:
        """Run ovs_handover; raises ``Broken`` when its transaction ends differently than ``expect``."""
        result = self.module("ovs_handover", options, host)
        if result.get("state") != expect:
            said = result.get("msg") or result.get("reason") or result
            raise Broken(f"the hand-over is {result.get('state')}, not {expect}: {said}")
        return result

    @contextlib.contextmanager
    def traffic(self, **settings: t.Any) -> t.Iterator[Traffic]:
        """Send an established flow and new flows from h1 to h2 of host 1 meanwhile."""
        with probe.probing(self.lab, self.host(), AFTERWARDS, **settings) as found:
            traffic = Traffic()
            yield traffic
        traffic.losses = Losses.of(found.result)

    def arrivals(self) -> list[float]:
        """When the packets of the last probe arrived, in seconds of the host's monotonic clock."""
        events = probe.events(self.lab, self.host())
        return sorted(when / 1e9 for kind, __, __, when in events if kind == probe.ARRIVED)

    def reboot(self, host: int = 1, *parameters: str) -> None:
        """Shut a host down in an orderly way and start it again, with these ``parameters`` for its kernel besides."""
        if parameters:
            uml.boot_with(self.lab, self.host(host), *parameters)
        self.sh("systemd-run --quiet --on-active=1 systemctl poweroff", host)
        hosts.wait_for_end(self.host(host), 120)
        self.lab = laboratory.power_on(self.lab, self.host(host))


def measured(traffic: Traffic) -> Losses:
    """The losses of a probe that has ended."""
    assert traffic.losses is not None
    return traffic.losses


def require_unhurt(userspace: bool, *probes: Traffic, most: int = A_FEW) -> None:
    """Raise ``Broken`` when a probe lost something; in userspace more than what comes in the switch-over."""
    for each in probes:
        if userspace:
            measured(each).few(most)
        else:
            measured(each).none()


def require_sound(scene: Scene, version: str, host: int = 1, server: bool = True) -> None:
    """Raise ``Broken`` unless ovs-vswitchd (and ovsdb-server) runs this version and nothing is left of the hand-over."""
    seen = scene.look(host)
    wrong = list(seen["problems"])
    for name, running in seen["versions"].items():
        if running != version and (server or name != "ovsdb-server"):
            wrong.append(f"{name} runs {running}, not {version}")
    if wrong:
        raise Broken("; ".join(wrong))


def require_same(before: Json, after: Json, but: t.Container[str] = ()) -> None:
    """Raise ``Broken`` when the state of a host (see look.py) has changed; ``but`` are parts that may."""
    found = look.changed(before["state"], after["state"], but)
    if found:
        raise Broken(found)


def upgrade(
    scene: Scene,
    to: str,
    no_loss: bool = True,
    but: t.Container[str] = (),
    rate: int = 200,
    **options: t.Any,
) -> tuple[Json, Losses]:
    """Install ``to`` on host 1 and hand over under traffic: everything must be kept; returns the result and the losses."""
    scene.install(to)
    before = scene.look()
    with scene.traffic(rate=rate) as traffic:
        result = scene.hand_over(**options)
    losses = measured(traffic)
    require_sound(scene, to)
    require_same(before, scene.look(), but)
    if no_loss:
        losses.none()
    return result, losses


def switch_over(scene: Scene) -> tuple[float, float]:
    """When the switch-over of the last transaction began and ended, in seconds of the host's monotonic clock."""
    script = "cat $(ls -d /var/lib/ovsops/transactions/*/ | tail -n 1)result.json"
    marks = json.loads(scene.sh(script))["marks"].values()
    return min(marks) / 1e6, max(marks) / 1e6


def lost_in_switch_over(scene: Scene) -> int:
    """How many packets of the last probe that were sent in the last switch-over did not arrive."""
    begin, end = switch_over(scene)
    events = probe.events(scene.lab, scene.host())
    arrived = {(stream, number) for kind, stream, number, __ in events if kind == probe.ARRIVED}
    return sum(
        kind == probe.SENT
        and begin - MARGIN <= when / 1e9 <= end + MARGIN
        and (stream, number) not in arrived
        for kind, stream, number, when in events
    )


def journals(scene: Scene) -> dict[str, str]:
    """What the hosts have written down, for whoever looks into a failure."""
    script = """
    for file in /var/lib/ovsops/transactions/*/{journal.jsonl,result.json,second.log}; do
        [ ! -e "$file" ] || { echo "== $file"; tail -c 4000 "$file"; }
    done
    tail -n 60 /var/log/openvswitch/*.log
    ! command -v journalctl >/dev/null || journalctl --no-pager -n 120 -u 'ov*' || true
    """
    found = {}
    for host in scene.lab.hosts:
        try:
            found[host.name] = hosts.ssh(scene.lab, host, "bash", feed=script)
        except images.LabError as error:
            found[host.name] = str(error)
    return found


def open_lab(name: str, backend: str, count: int, version: str) -> Scene:
    """A fresh lab for a scenario."""
    return Scene(laboratory.up(name, backend, count, version))
