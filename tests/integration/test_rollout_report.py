# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback in ansible-playbook, over a role and a module that only say what the real ones would."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from tests.harness.waiting import wait_until
from tests.lab.images import REPOSITORY

IN_ENV = REPOSITORY / "tests/tools/in-env"
# The oldest and the newest ansible-core, by the names of their environments.
CORES = ("tools", "ansible-2.21")
FLEET = ("h1", "h2", "h3", "h4", "h5", "h6")
LOCAL: dict[str, t.Any] = {"ansible_connection": "local", "fails": False}
FAILING = {**LOCAL, "fails": True}
# Nobody listens there.
UNREACHABLE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
SECRET = "correct-horse-battery"

MAIN = """
- name: Upgrade
  block:
    - name: Begin
      ansible.builtin.include_tasks: begin.yml
    - name: Hand-over
      ansible.builtin.include_tasks: handover.yml
  rescue:
    - name: Rescue
      ansible.builtin.include_tasks: rescue.yml
  always:
    - name: Result
      ansible.builtin.include_tasks: result.yml
"""
BEGIN = """
- name: Prepare a result
  ansible.builtin.set_fact:
    hot_upgrade_result: {outcome: unknown, failure: the run was ended}
- name: Reach the host
  ansible.builtin.raw: "true"
  check_mode: false
"""
HANDOVER = """
- name: Hand over
  ovsops.hot_upgrade.ovs_handover:
    fail: "{{ fails }}"
    wait: "{{ wait | default('') }}"
  register: handed_over
"""
RESCUE = """
- name: Fail again
  ansible.builtin.fail:
    msg: "{{ ansible_failed_result.msg }}"
"""
RESULT = """
- name: Tell
  ansible.builtin.set_fact:
    hot_upgrade_result:
      outcome: "{{ 'failed' if fails else 'planned' if ansible_check_mode else 'upgraded' }}"
      failure: "{{ handed_over.msg | default('') }}"
      from: 3.5.0
      to: 4.0.0
      verified: true
      window_ms: "{{ handed_over.window_ms | default(none) }}"
      transaction: "{{ handed_over.transaction | default(none) }}"
"""
MODULE = """
import os, time
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"fail": {"type": "bool"}, "wait": {"type": "str"}}, supports_check_mode=True)
if module.params["wait"]:
    open(module.params["wait"], "a").close()
    time.sleep(60)
told = {"plan": {"strategy": "standby", "needed": True, "reasons": {"restart": ["it <b>loses</b> packets"]}}}
if module.params["fail"]:
    module.fail_json(msg="it is <broken>", transaction="t1", state="rolled_back", **told)
if not module.check_mode:
    told.update(transaction="t1", state="confirmed", window_ms=3.25)
module.exit_json(changed=True, **told)
"""
PLAY = """
- name: Upgrade
  hosts: ovs_hosts
  gather_facts: false
  serial: [1, 2, '100%']
  strategy: "{{ kind | default('linear') }}"
  no_log: "{{ quiet | default(false) }}"
  tasks:
    - name: Upgrade this host
      ansible.builtin.include_role:
        name: ovsops.hot_upgrade.hot_upgrade
"""
OTHER = """
- name: Something else
  hosts: ovs_hosts
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug:
"""


class Outcome(t.NamedTuple):
    code: int
    output: str
    folder: Path

    def text(self, kind: str) -> str:
        (path,) = self.folder.glob(f"rollout-*.{kind}")
        return path.read_text()

    def document(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(self.text("json")))

    def outcomes(self) -> dict[str, str]:
        return {host["host"]: host["outcome"] for host in self.document()["hosts"]}

    def progress(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("ROLLOUT ")]


class Controller:
    """A folder with a collection that has our callback, and a role and a module of the tests'."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports = folder, folder / "reports"
        collection = folder / "ansible_collections/ovsops/hot_upgrade"
        tasks = collection / "roles/hot_upgrade/tasks"
        tasks.mkdir(parents=True)
        parts = {"main": MAIN, "begin": BEGIN, "handover": HANDOVER, "rescue": RESCUE, "result": RESULT}
        for name, content in parts.items():
            (tasks / f"{name}.yml").write_text(content)
        (collection / "plugins/modules").mkdir(parents=True)
        (collection / "plugins/modules/ovs_handover.py").write_text(MODULE)
        for name in ("callback", "plugin_utils"):
            shutil.copytree(REPOSITORY / "plugins" / name, collection / "plugins" / name)
        shutil.copytree(REPOSITORY / "playbooks", collection / "playbooks")
        shutil.copy(REPOSITORY / "galaxy.yml", collection)

    def start(
        self, core: str, hosts: dict[str, dict[str, t.Any]], *options: str, play: str = PLAY, **given: t.Any
    ) -> subprocess.Popen[str]:
        inventory, playbook = self.folder / "inventory.json", self.folder / "site.yml"
        inventory.write_text(
            json.dumps({"ovs_hosts": {"hosts": {name: hosts.get(name, LOCAL) for name in FLEET}}})
        )
        playbook.write_text(play)
        target = "ovsops.hot_upgrade.hot_upgrade" if play == "" else str(playbook)
        environment = {
            **os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.folder), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACKS_ENABLED": "ovsops.hot_upgrade.rollout_report", "OVSOPS_REPORT_FOLDER": str(self.reports),
        }  # fmt: skip
        return subprocess.Popen(
            [IN_ENV, core, "ansible-playbook", "-i", inventory, "-e", json.dumps(given), *options, target],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=self.folder,
        )  # fmt: skip

    def run(self, core: str, hosts: dict[str, dict[str, t.Any]], *options: str, **given: t.Any) -> Outcome:
        running = self.start(core, hosts, *options, **given)
        output = running.communicate()[0]
        return Outcome(running.returncode, output, self.reports)


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("kind", "forks"), [("linear", 1), ("free", 50)])
def test_a_rollout_that_stops(controller: Controller, core: str, kind: str, forks: int) -> None:
    if subprocess.run([IN_ENV, "--have", core], check=False).returncode:
        pytest.skip(f"there is no Python for {core} here")
    done = controller.run(core, {"h2": FAILING, "h3": UNREACHABLE}, f"--forks={forks}", kind=kind)
    assert done.code != 0
    expected = ["upgraded", "failed", "unreachable", "untouched", "untouched", "untouched"]
    assert list(done.outcomes().values()) == expected, done.output
    document = done.document()
    assert (document["format"], document["version"]) == ("ovsops.hot_upgrade.rollout", 1)
    assert (document["state"], document["forks"]) == ("ended", forks)
    assert [batch["hosts"] for batch in document["batches"]] == [["h1"], ["h2", "h3"]]
    first, second = document["hosts"][:2]
    assert (first["window_ms"], first["strategy"], first["from"], first["to"]) == (
        3.25,
        "standby",
        "3.5.0",
        "4.0.0",
    )
    assert [step["name"] for step in first["steps"]] == ["begin", "hand-over", "result"]
    assert (second["failure"], second["failed_in"]) == ("it is <broken>", "hand-over")
    assert second["handover"]["state"] == "rolled_back"
    page = done.text("html")
    assert "it is &lt;broken&gt;" in page
    assert "it &lt;b&gt;loses&lt;/b&gt; packets" in page
    assert "<b>" not in page
    assert "Stopped: 2 of 6 hosts failed" in page
    assert oct(done.folder.stat().st_mode & 0o777) == "0o700"
    assert {oct(path.stat().st_mode & 0o777) for path in done.folder.iterdir()} == {"0o600"}
    assert len(list(done.folder.iterdir())) == 2
    told = done.progress()
    assert re.match(
        r"ROLLOUT 00:\d\d \| batch 1 of 3 \| 0 of 6 hosts done \| remaining not known yet \| begins: h1",
        told[0],
    )
    assert any(
        "batch 2 of 3 | 1 of 6 hosts done | about" in line and "| begins: 2 hosts" in line for line in told
    )
    assert any("h1: handed over to what is on the disk, nobody forwarded for 3.2 ms" in line for line in told)
    assert any("h2: FAILED: it is <broken>" in line for line in told)
    assert any("h3: UNREACHABLE: " in line for line in told)
    assert "Stopped: 2 of 6 hosts failed" in done.output
    assert "Traceback" not in done.output
    assert "rollout_report" not in done.output.partition("WARNING")[2]


def test_check_mode_is_a_plan(controller: Controller) -> None:
    done = controller.run("tools", {}, "--check")
    assert done.code == 0, done.output
    assert set(done.outcomes().values()) == {"planned"}
    assert "Plan: 6 of 6 hosts would be upgraded. Nothing was changed" in done.text("html")


def test_what_no_log_hides_is_not_shown(controller: Controller) -> None:
    done = controller.run("tools", {"h1": {**FAILING, "hot_upgrade_secret": SECRET}}, quiet=True, told=SECRET)
    assert done.code != 0
    for kind in ("html", "json"):
        assert "hidden by no_log" in done.text(kind)
        assert SECRET not in done.text(kind)
        assert "broken" not in done.text(kind)


def test_ctrl_c_leaves_a_page_that_tells_so(controller: Controller) -> None:
    waiting = controller.folder / "waiting"
    running = controller.start("tools", {"h2": {**LOCAL, "wait": str(waiting)}})
    wait_until(waiting.exists, 60)
    running.send_signal(signal.SIGINT)
    output = running.communicate()[0]
    done = Outcome(running.returncode, output, controller.reports)
    assert done.code != 0
    assert done.document()["state"] == "interrupted", output
    assert (done.outcomes()["h1"], done.outcomes()["h2"], done.outcomes()["h4"]) == (
        "upgraded",
        "unknown",
        "untouched",
    )
    assert "The run was ended before its end" in done.text("html")


def test_a_run_that_is_killed_leaves_the_page_of_a_running_rollout(controller: Controller) -> None:
    waiting = controller.folder / "waiting"
    running = controller.start("tools", {"h2": {**LOCAL, "wait": str(waiting)}})
    wait_until(waiting.exists, 60)
    running.kill()
    running.communicate()
    done = Outcome(running.returncode, "", controller.reports)
    assert done.document()["state"] == "running"
    assert "If nothing runs any more, the run was killed" in done.text("html")


def test_a_report_that_cannot_be_written_is_one_warning(controller: Controller) -> None:
    controller.reports.write_text("a file")
    done = controller.run("tools", {})
    assert done.code == 0
    assert done.output.count("rollout_report: the report is not complete") == 1
    # What it can do it does.
    assert any("h6: upgraded" in line for line in done.progress())


def test_a_rollout_that_is_refused_as_a_whole(controller: Controller) -> None:
    done = controller.run("tools", {}, play="", hot_upgrade_serial="abc")
    assert done.code != 0
    assert "Refused: nothing was done on any host" in done.text("html")
    assert "Batch sizes are numbers of hosts or percent" in done.text("html")


def test_other_playbooks_are_left_alone(controller: Controller) -> None:
    done = controller.run("tools", {}, play=OTHER)
    assert done.code == 0
    assert not controller.reports.exists()
    assert "ROLLOUT" not in done.output
