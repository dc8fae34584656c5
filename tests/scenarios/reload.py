# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel module is replaced by a really different one: what was on internal ports is there again, and traffic goes on."""

from __future__ import annotations

import json
import typing as t

from tests.harness import furnished, runs
from tests.lab import modules
from tests.scenarios.kernel import PACKAGED, facts
from tests.scenarios.scene import (
    SETTLED,
    Broken,
    Losses,
    Scene,
    Traffic,
    measured,
    require_same,
    require_sound,
)
from tests.scenarios.services import OTHER_USER

# Notes whose process the stand-in is, for as long as there is one; a process drops to its user a moment after its start.
WATCHED = """
cat >/run/watch <<'END'
while sleep 0.3; do
    for pid in $(pgrep -f enable-dummy=system); do
        [ ! -S /run/openvswitch-*.stand-in/ovs-vswitchd.$pid.ctl ] || stat -c %U /proc/$pid >>/run/stand-in.users
    done
done
END
systemd-run --quiet --collect bash /run/watch
"""


LIMITS = "ovs-appctl dpctl/ct-get-limits"


def portrait(scene: Scene) -> set[str]:
    """See tests/harness/furnished.py."""
    return furnished.portrait(scene.lab, scene.host())


def start_with_shipped(scene: Scene, host: int = 1) -> None:
    """Load the module of the lab that stands for the shipped one: the lab's own has no build-id."""
    modules.install(scene.lab, scene.host(host), modules.SHIPPED)
    modules.reload(scene.lab, scene.host(host))


def other_module(scene: Scene) -> str:
    """Reload to a module with another build-id, and roll that back."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    scene.sh(furnished.script(furnished.ALL) + SETTLED)
    limited = scene.sh(f"ovs-appctl dpctl/ct-set-limits default=10000 zone=55,limit=100; {LIMITS}")
    before, loaded = portrait(scene), facts(scene)["loaded"]
    scene.sh("touch /run/netns/stale")  # as an interrupted "ip netns" leaves it
    require(scene.module("ovs_kmod_reload", {}), changed=False)
    require(scene.module("ovs_kmod_reload", {"state": "kept"}), changed=True)
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    with scene.traffic() as traffic:
        result = scene.module("ovs_kmod_reload", {"confirm": "manual"})
        require(result, state="applied")
        same(before, portrait(scene), "after the reload")
        if scene.sh(LIMITS) != limited:
            raise Broken(f"the limits of conntrack zones are {scene.sh(LIMITS)} instead of {limited}")
        if facts(scene)["loaded"] == loaded:
            raise Broken("the loaded module is the old one")
        back = scene.module("ovs_kmod_reload", {"state": "rolled_back"})
        require(back, state="rolled_back")
    same(before, portrait(scene), "after the rollback")
    if facts(scene)["loaded"] != loaded:
        raise Broken("the loaded module is not the old one again")
    if "ovsops" in scene.sh("tc filter show dev p1 ingress; tc filter show dev p2 ingress"):
        raise Broken("a filter of the bypass is left")
    return f"gap {result['gap_ms']:.0f} ms, {result['bypass']}, {result['restored']}; traffic: {measured(traffic)}"


def failing_module(scene: Scene) -> str:
    """The new module does not load: the old one is there, with everything."""
    return taken_back(scene, "failing")


def useless_module(scene: Scene) -> str:
    """The new module loads, and no datapath can be made on it: the same."""
    return taken_back(scene, "useless")


def taken_back(scene: Scene, name: str) -> str:
    """Begin a reload to a module that is of no use."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    scene.sh(furnished.script(furnished.ALL) + SETTLED)
    before, loaded = portrait(scene), facts(scene)["loaded"]
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), name, PACKAGED)
    with scene.traffic() as traffic:
        result = scene.module("ovs_kmod_reload", {})
    require(result, state="rolled_back")
    same(before, portrait(scene), "after the attempt")
    if facts(scene)["loaded"] != loaded:
        raise Broken("the loaded module is not the old one")
    return f"{result['reason']}; {result['new_flows']}; {unhurt(traffic)}"


def foreign_module(scene: Scene) -> str:
    """A module for another kernel is refused before anything is touched."""
    start_with_shipped(scene)
    scene.populate()
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "foreign", PACKAGED)
    result = scene.module("ovs_kmod_reload", {})
    if not result.get("failed") or "is for Linux" not in result["msg"] or "transaction" in result:
        raise Broken(f"it was not refused: {result}")
    return str(result["msg"])


def with_daemons(scene: Scene) -> str:
    """The playbook brings new packages and a new module: one interruption for both."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    scene.sh(furnished.script(furnished.ALL) + SETTLED)
    before, seen, loaded = portrait(scene), scene.look(), facts(scene)["loaded"]
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    folder = scene.lab.folder / "report"
    folder.mkdir(exist_ok=True)
    wanted: dict[str, t.Any] = {"kernel_module": "current", "report_dir": str(folder)}
    planned = runs.playbook(scene.lab, "4.0.0", check=True, **wanted)
    if f"the loaded module openvswitch is {loaded}" not in " ".join(planned.stdout.split()):
        raise Broken(f"check mode does not tell of the module:\n{planned.stdout[-3000:]}")
    with scene.traffic() as traffic:
        done = runs.playbook(scene.lab, "4.0.0", **wanted)
    if done.returncode:
        raise Broken(f"the playbook failed:\n{done.stdout[-3000:]}")
    report = json.loads((folder / f"{scene.host().name}.json").read_text())
    require(report, outcome="upgraded", strategy="reload", to="4.0.0", not_carried=[])
    require(report["kernel_module"]["restored"], missing=[])
    same(before, portrait(scene), "after the upgrade")
    require_sound(scene, "4.0.0")
    require_same(seen, scene.look())
    if facts(scene)["loaded"] == loaded:
        raise Broken("the loaded module is the old one")
    return str(unhurt(traffic))


def two_hosts(scene: Scene) -> str:
    """The playbook: one host after the other; and when the module of the first one fails the second is not touched."""
    for number in (1, 2):
        start_with_shipped(scene, number)
    scene.populate("--no-meter")
    loaded = coming(scene, "rebuilt")
    with scene.traffic() as traffic:
        first, second = reloaded_by_playbook(scene, "upgraded")
    now = [facts(scene, number)["loaded"] for number in (1, 2)]
    if loaded[0] in now or now[0] != now[1]:
        raise Broken(f"the loaded modules are {now}, they were {loaded}")
    if second["began"] < first["ended"]:
        raise Broken("the second host began before the first one had ended")
    coming(scene, "failing")
    first, second = reloaded_by_playbook(scene, "failed")
    if second["outcome"] != "unknown" or second["transactions"] != 1:
        raise Broken(f"the second host was touched: {second}")
    if [facts(scene, number)["loaded"] for number in (1, 2)] != now:
        raise Broken("the loaded modules are others")
    return f"{unhurt(traffic)}; then: {first['failure']}"


def coming(scene: Scene, name: str) -> list[str]:
    """Put a module on the disk of both hosts; returns what is loaded."""
    loaded = []
    for number in (1, 2):
        loaded.append(facts(scene, number)["loaded"])
        scene.module("ovs_kmod_reload", {"state": "kept"}, number)
        modules.install(scene.lab, scene.host(number), name, PACKAGED)
    return loaded


def reloaded_by_playbook(scene: Scene, outcome: str) -> list[dict[str, t.Any]]:
    """The reports of both hosts, and when each of the last transactions began and ended."""
    folder = scene.lab.folder / "report"
    folder.mkdir(exist_ok=True)
    wanted = {"hot_upgrade_report_dir": str(folder), "hot_upgrade_serial": "1"}
    done = runs.play(
        runs.playbook_argv([scene.lab.inventory], wanted, playbook="ovsops.hot_upgrade.kmod_reload")
    )
    reports = []
    for number in (1, 2):
        found = folder / f"{scene.host(number).name}.json"
        report = json.loads(found.read_text()) if found.exists() else {"outcome": "unknown"}
        times = scene.sh(
            "cd /var/lib/ovsops/transactions; stat -c %.Z */request.json */state.*", number
        ).split()
        reports.append({**report, "began": min(times), "ended": max(times), "transactions": len(times) // 2})
        found.unlink(missing_ok=True)
    if reports[0]["outcome"] != outcome or bool(done.returncode) != (outcome == "failed"):
        raise Broken(f"the playbook: {reports[0]}\n{done.stdout[-3000:]}")
    return reports


def rolled_back_again(scene: Scene) -> str:
    """Somebody holds the module in the first rollback: it fails, and the second one finishes it."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    seen, loaded = scene.look(), facts(scene)["loaded"]
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    require(scene.module("ovs_kmod_reload", {"confirm": "manual"}), state="applied")
    scene.sh("ovs-dpctl add-dp theirs || true")
    failed = scene.module("ovs_kmod_reload", {"state": "rolled_back"})
    require(failed, state="failed")
    if facts(scene)["loaded"] == loaded:
        raise Broken("nobody held the module")
    require_same(seen, scene.look())
    scene.sh("ovs-dpctl del-dp theirs || true")
    again = {"state": "rolled_back", "transaction": failed["transaction"]}
    require(scene.module("ovs_kmod_reload", again), state="rolled_back")
    require_sound(scene, "3.5.0")
    require_same(seen, scene.look())
    if facts(scene)["loaded"] != loaded:
        raise Broken("the loaded module is not the old one again")
    return str(failed["msg"])


def over_the_bridge(scene: Scene) -> str:
    """SSH reaches the host through the bridge whose datapath goes away; a new connection confirms."""
    start_with_shipped(scene)
    scene.populate("--no-meter", "--management-bridge")
    result, losses = reloaded(scene, confirm="reconnected")
    return f"gap {result['gap_ms']:.0f} ms; {losses}"


def many_ports(scene: Scene) -> str:
    """Fifty internal ports with VLANs, VRFs, bonds and policy routing."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    scene.sh(furnished.script(50) + SETTLED)
    before = portrait(scene)
    result, losses = reloaded(scene)
    same(before, portrait(scene), "after the reload")
    return (
        f"gap {result['gap_ms']:.0f} ms, {result['restored']['of']} things and {len(before)} lines; {losses}"
    )


def other_user(scene: Scene) -> str:
    """Open vSwitch that does not run as root: what reads strangers' packets meanwhile does not either."""
    scene.sh(OTHER_USER)
    start_with_shipped(scene)
    scene.populate("--no-meter", "--flows", "5000")
    scene.sh(WATCHED)
    result, losses = reloaded(scene)
    users = set(scene.sh("cat /run/stand-in.users").split())
    if users != {"ovs"}:
        raise Broken(f"the stand-in runs as {users}")
    return f"gap {result['gap_ms']:.0f} ms, {result['new_flows']}; {losses}"


def refused(scene: Scene) -> str:
    """What cannot be reloaded is refused before anything is touched, with every reason, and what to do."""
    start_with_shipped(scene)
    scene.populate()
    before, loaded = scene.look(), facts(scene)["loaded"]

    def why(*reasons: str) -> str:
        result = scene.module("ovs_kmod_reload", {})
        if not result.get("failed") or "transaction" in result:
            raise Broken(f"it was not refused: {result}")
        for reason in reasons:
            if reason not in result["msg"]:
                raise Broken(f"{reason!r} is not among the reasons: {result['msg']}")
        return str(result["msg"])

    scene.sh("ovs-dpctl add-dp theirs; ip link set theirs up || true")
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    said = [why("theirs", "no file of the loaded module is kept")]
    scene.sh("ovs-dpctl del-dp theirs; rm $(modinfo -n openvswitch)")
    modules.install(scene.lab, scene.host(), "foreign", PACKAGED)
    said.append(why("is for Linux"))
    scene.sh("find /lib/modules -name 'openvswitch.ko*' -delete; depmod")
    result = scene.module("ovs_kmod_reload", {"state": "forced"})
    if not result.get("failed") or "there is no module to load" not in result["msg"]:
        raise Broken(f"a module that is not there was not refused: {result}")
    said.append(result["msg"])
    require_same(before, scene.look())
    modules.install(scene.lab, scene.host(), modules.SHIPPED)  # without a file there is nothing to tell
    if facts(scene)["loaded"] != loaded:
        raise Broken("another module is loaded")
    scene.sh("echo 1 >/proc/sys/kernel/modules_disabled")  # for good
    result = scene.module("ovs_kmod_reload", {"state": "forced"})
    if not result.get("failed") or "kernel.modules_disabled" not in result["msg"]:
        raise Broken(f"a kernel that takes no modules any more was not told: {result}")
    said.append(result["msg"])
    return "; ".join(said)


def reloaded(scene: Scene, **options: t.Any) -> tuple[dict[str, t.Any], Losses]:
    """Reload to another module under traffic: nothing established is lost, and everything is carried over."""
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    with scene.traffic() as traffic:
        result = scene.module("ovs_kmod_reload", options)
    require(result, state="confirmed", not_carried=[])
    return result, unhurt(traffic)


def unhurt(traffic: Traffic) -> Losses:
    """The losses; raises ``Broken`` when an established flow was hit."""
    losses = measured(traffic)
    if losses.established or losses.duplicates:
        raise Broken(f"traffic was hit: {losses}")
    return losses


def require(result: dict[str, t.Any], **wanted: t.Any) -> None:
    """Raise ``Broken`` unless the result says so."""
    found = {name: result.get(name) for name in wanted}
    if found != wanted:
        raise Broken(f"{found} instead of {wanted}: {result.get('msg') or result.get('reason')}")


def same(before: set[str], after: set[str], when: str) -> None:
    """Raise ``Broken`` and name what differs."""
    if before != after:
        raise Broken(f"{when} there is not: {sorted(before - after)}; but: {sorted(after - before)}")


SCENARIOS = [
    ("module reload: another one, and back", "3.5.0", other_module),
    ("module reload: one that fails", "3.5.0", failing_module),
    ("module reload: one that makes no datapath", "3.5.0", useless_module),
    ("module reload: one for another kernel", "3.5.0", foreign_module),
    ("module reload: with new daemons, by the playbook", "3.5.0", with_daemons),
    ("module reload: two hosts, by the playbook", "3.5.0", two_hosts, "uml", 2),
    ("module reload: a rollback that fails, and again", "3.5.0", rolled_back_again),
    ("module reload: SSH goes over its bridge", "3.5.0", over_the_bridge),
    ("module reload: fifty ports", "3.5.0", many_ports),
    ("module reload: not as root", "3.5.0", other_user),
    ("module reload: what is refused", "3.5.0", refused),
]
