# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook as it is, over a role that only fails or does not: which hosts are touched after a failure?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import typing as t
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.lab.images import REPOSITORY

PLAYBOOK = REPOSITORY / "playbooks/hot_upgrade.yml"
IN_ENV = REPOSITORY / "tests/tools/in-env"
# The oldest and the newest ansible-core, by the names of their environments.
CORES = ("tools", "ansible-2.21")
FLEET = ("h1", "h2", "h3", "h4", "h5", "h6")
# Nobody listens there: the first task of such a host ends in "unreachable".
UNREACHABLE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
FAILING = {"ansible_connection": "local", "fails": True}
HEALTHY = {"ansible_connection": "local", "fails": False}
UNCONFIRMED = {"ansible_connection": "local", "confirmed": ""}

ROLE = """
- name: Upgrade
  block:
    - name: Touch the host
      ansible.builtin.raw: "true"
    - name: Fail where the test wants it
      ansible.builtin.fail:
      when: fails | default(false)
  rescue:
    - name: Fail again
      ansible.builtin.fail:
  always:
    - name: Result
      ansible.builtin.set_fact:
        hot_upgrade_result:
          outcome: "{{ 'failed' if fails | default(false) else 'unconfirmed' if confirmed is defined else 'upgraded' }}"
          failure: "{{ 'it is broken' if fails | default(false) else '' }}"
"""
# What the role's file of this name does: it ends when somebody has confirmed (or the host has gone back).
CONFIRMATION = """
- name: Wait
  ansible.builtin.shell: "echo {{ inventory_hostname }} >>{{ waited }}; test '{{ confirmed }}' = yes"
"""


class Outcome(t.NamedTuple):
    code: int
    touched: set[str]
    waited: list[str]
    output: str


def roll_out(
    core: str,
    folder: Path,
    broken: dict[str, dict[str, t.Any]],
    playbook: str,
    settings: t.Mapping[str, str],
    **variables: t.Any,
) -> Outcome:
    """Run a playbook text over the fleet with the role replaced; who was touched, and the exit status.

    ``settings`` are variables of Ansible's environment.
    """
    collection = folder / "ansible_collections/ovsops/hot_upgrade"
    (collection / "roles/hot_upgrade/tasks").mkdir(parents=True)
    (collection / "roles/hot_upgrade/tasks/main.yml").write_text(ROLE)
    (collection / "roles/hot_upgrade/tasks/confirmation.yml").write_text(CONFIRMATION)
    shutil.copytree(REPOSITORY / "playbooks", collection / "playbooks")
    (collection / "playbooks/hot_upgrade.yml").write_text(playbook)
    shutil.copy(REPOSITORY / "galaxy.yml", collection)
    inventory, waited = folder / "inventory.json", folder / "waited"
    waited.touch()
    given = json.dumps({**variables, "waited": str(waited)})
    hosts = {name: broken.get(name, HEALTHY) for name in FLEET}
    inventory.write_text(json.dumps({"ovs_hosts": {"hosts": hosts}}))
    done = subprocess.run(
        [IN_ENV, core, "ansible-playbook", "-i", str(inventory), "-e", given,
         "ovsops.hot_upgrade.hot_upgrade"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_NOCOLOR": "1", **settings},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    recap = done.stdout.partition("PLAY RECAP")[2]
    # The others are in the recap with tasks that were skipped.
    touched = set(
        re.findall(r"^(\w+) +: ok=\d+ +(?:changed=[1-9]|changed=0 +unreachable=1)", recap, re.MULTILINE)
    )
    return Outcome(done.returncode, touched, sorted(waited.read_text().split()), done.stdout)


@pytest.fixture(params=CORES)
def fleet(request: t.Any, tmp_path: Path) -> t.Callable[..., Outcome]:
    """Roll out over six hosts, one, then two, then the rest."""
    core = request.param
    if subprocess.run([IN_ENV, "--have", core], check=False).returncode:
        pytest.skip(f"there is no Python for {core} here")

    def run(
        broken: dict[str, dict[str, t.Any]],
        playbook: str | None = None,
        settings: t.Mapping[str, str] = MappingProxyType({}),
        **variables: t.Any,
    ) -> Outcome:
        text = PLAYBOOK.read_text() if playbook is None else playbook
        return roll_out(
            core, tmp_path, broken, text, settings, **{"hot_upgrade_serial": "1,2,100%", **variables}
        )

    return run


def test_a_healthy_fleet_is_upgraded_whole(fleet: t.Callable[..., Outcome]) -> None:
    done = fleet({})
    assert (done.code, done.touched, done.waited) == (0, set(FLEET), [])


@pytest.mark.parametrize("how", [FAILING, UNREACHABLE], ids=["fails", "unreachable"])
@pytest.mark.parametrize(("who", "touched"), [("h1", {"h1"}), ("h2", {"h1", "h2", "h3"})])
def test_no_later_batch_is_touched(
    fleet: t.Callable[..., Outcome], how: dict[str, t.Any], who: str, touched: set[str]
) -> None:
    done = fleet({who: how})
    assert done.code != 0
    assert done.touched == touched
    why = "it is broken" if how is FAILING else "it became unreachable"
    text = f"The rollout stops here, {who} failed ({why}). Nothing was done on {', '.join(FLEET[len(touched) :])}."
    # When nobody of a batch can be reached any more, Ansible itself ends the play.
    assert (text in " ".join(done.output.split())) == (who == "h2" or how is FAILING)


@pytest.mark.parametrize("forks", ["1", "50"])
@pytest.mark.parametrize("strategy", ["linear", "free"])
def test_no_later_batch_is_touched_in_whatever_way_ansible_goes_through_the_hosts(
    fleet: t.Callable[..., Outcome], strategy: str, forks: str
) -> None:
    settings = {"ANSIBLE_STRATEGY": strategy, "ANSIBLE_FORKS": forks}
    done = fleet({"h2": FAILING}, settings=settings)
    assert done.code != 0
    assert done.touched == {"h1", "h2", "h3"}


def test_the_next_batch_waits_for_the_confirmation(fleet: t.Callable[..., Outcome]) -> None:
    done = fleet({name: {**UNCONFIRMED, "confirmed": "yes"} for name in FLEET})
    assert (done.code, done.touched) == (0, set(FLEET))
    # Nothing comes after the last batch that would have to wait.
    assert done.waited == ["h1", "h2", "h3"]


@pytest.mark.parametrize(("who", "touched"), [("h1", {"h1"}), ("h3", {"h1", "h2", "h3"})])
def test_no_later_batch_is_touched_when_nobody_confirms(
    fleet: t.Callable[..., Outcome], who: str, touched: set[str]
) -> None:
    done = fleet({who: UNCONFIRMED})
    assert done.code != 0
    assert done.touched == touched
    assert done.waited == [who]


def test_a_last_batch_whose_last_host_failed_is_the_last_one_all_the_same(
    fleet: t.Callable[..., Outcome],
) -> None:
    done = fleet({"h4": {**UNCONFIRMED, "confirmed": "yes"}, "h6": UNREACHABLE})
    assert done.code != 0
    assert done.touched == set(FLEET)


def test_a_budget_lets_the_rollout_go_on(fleet: t.Callable[..., Outcome]) -> None:
    done = fleet({"h2": FAILING}, hot_upgrade_max_failed="1")
    assert done.code != 0
    assert done.touched == set(FLEET)


@pytest.mark.parametrize(
    "broken", [{"h1": FAILING}, {"h2": FAILING, "h3": FAILING}, {"h2": UNREACHABLE, "h3": FAILING}]
)
def test_a_budget_counts_for_a_whole_batch_too(
    fleet: t.Callable[..., Outcome], broken: dict[str, dict[str, t.Any]]
) -> None:
    """Ansible would end the run there."""
    done = fleet(broken, hot_upgrade_max_failed=str(len(broken)))
    assert done.code != 0
    assert done.touched == set(FLEET)
    for who, how in broken.items():
        assert re.search(
            rf"^{who} .*{'failed' if how is FAILING else 'unreachable'}=1", done.output, re.MULTILINE
        ), who


def test_what_was_kept_in_the_play_counts_for_the_budget(fleet: t.Callable[..., Outcome]) -> None:
    done = fleet({"h1": FAILING, "h2": FAILING}, hot_upgrade_max_failed="1")
    assert done.code != 0
    assert done.touched == {"h1", "h2", "h3"}
    assert "h1 failed (it is broken), h2 failed (it is broken)" in " ".join(done.output.split())


@pytest.mark.parametrize(("budget", "touched"), [("17%", set(FLEET)), ("16%", {"h1", "h2", "h3"})])
def test_a_budget_may_be_percent_of_all_hosts(
    fleet: t.Callable[..., Outcome], budget: str, touched: set[str]
) -> None:
    assert fleet({"h2": FAILING}, hot_upgrade_max_failed=budget).touched == touched


@pytest.mark.parametrize(
    "wrong",
    [{"hot_upgrade_max_failed": "some"}, {"hot_upgrade_serial": "abc"}, {"hot_upgrade_serial": "1,0"}],
)
def test_a_rollout_that_cannot_be_understood_touches_nobody(
    fleet: t.Callable[..., Outcome], wrong: dict[str, str]
) -> None:
    done = fleet({}, **wrong)
    assert done.code != 0
    assert "PLAY [Hot-upgrade Open vSwitch]" not in done.output
    assert "Nothing was done on any host" in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_why_the_gate_and_not_any_errors_fatal(fleet: t.Callable[..., Outcome]) -> None:
    """With ansible's own keyword an unreachable host lets the rollout run over the whole fleet."""
    head, __, tail = PLAYBOOK.read_text().partition("    # Neither any_errors_fatal")
    role = tail[tail.index("    - name: Upgrade this batch") :]
    keyword = (
        head.replace("  gather_facts: false\n", "  gather_facts: false\n  any_errors_fatal: true\n") + role
    )
    assert fleet({"h2": UNREACHABLE}, playbook=keyword).touched == set(FLEET)
