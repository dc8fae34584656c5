# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/awx: what AWX finds in it, whether its surveys are those that the role takes, its workflow, the image of its jobs."""

from __future__ import annotations

import functools
import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2.nativetypes import NativeEnvironment

from tests.harness import awx
from tests.lab.images import REPOSITORY

ROLE = REPOSITORY / "roles/hot_upgrade"
ROLES = (ROLE, REPOSITORY / "roles/kube_ovn")
# What the playbooks have beside the role; their value is what they take without one.
PLAYBOOKS = {"hot_upgrade_serial": "1,100%", "hot_upgrade_canary_soak": None, "hot_upgrade_reload": "current"}
# What the wrappers have besides.
WRAPPERS = {
    "hot_upgrade_canary": "ovs_hosts[0]",
    "hot_upgrade_fleet_max_failed": "0",
    "hot_upgrade_change": "",
}
TYPES = {
    "str": "text",
    "path": "text",
    "list": "text",
    "int": "integer",
    "float": "float",
    "bool": "multiplechoice",
}


@functools.cache
def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text())


def setup(name: str) -> t.Any:
    return load(awx.PROJECT / f"setup/{name}.yml")


def options() -> dict[str, awx.Json]:
    """Those of both roles."""
    specs = [load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"] for role in ROLES]
    return {name: option for spec in specs for name, option in spec.items()}


def flat(asks: t.Sequence[t.Any]) -> set[str]:
    return {name for each in asks for name in ([each] if isinstance(each, str) else each)}


QUESTIONS: list[awx.Json] = setup("questions")["awx_questions"]
TEMPLATES: list[awx.Json] = setup("templates")["awx_templates"]
WORKFLOW: awx.Json = setup("templates")["awx_workflow"]
SURVEYS = {
    each["name"]: [question for question in QUESTIONS if question["variable"] in flat(each["asks"])]
    for each in [*TEMPLATES, WORKFLOW]
}
surveys = pytest.mark.parametrize("survey", [survey for survey in SURVEYS.values() if survey])
questions = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["variable"])


def test_awx_finds_the_wrappers_and_nothing_else() -> None:
    wrappers = {f"playbooks/{template['playbook']}.yml" for template in TEMPLATES}
    assert awx.found(awx.PROJECT) == {*wrappers, "setup.yml"}


def test_every_playbook_of_the_collection_has_a_wrapper() -> None:
    text = "".join(path.read_text() for path in (awx.PROJECT / "playbooks").glob("*.yml"))
    imported = set(re.findall(r"import_playbook: ovsops[.]hot_upgrade[.](\w+)", text))
    every = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}
    # What puts the strategy of a DaemonSet back is for one who looks at it.
    assert imported == every - {"kube_ovn_strategy"}


@surveys
def test_awx_takes_the_surveys(survey: list[awx.Json]) -> None:
    assert not awx.refusals(survey)


def test_every_question_is_asked_by_somebody_and_each_is_known() -> None:
    asked = set().union(*(flat(each["asks"]) for each in [*TEMPLATES, WORKFLOW]))
    assert asked == {question["variable"] for question in QUESTIONS}


@questions
def test_a_question_is_that_of_an_option(question: awx.Json) -> None:
    """The name exists; type, choices and default are the same. No default is none, or an empty one."""
    name = question["variable"]
    if name in {**PLAYBOOKS, **WRAPPERS}:
        default = {**PLAYBOOKS, **WRAPPERS}[name]
        assert question.get("default") == (default or None)
        return
    option = options()[name]
    if "choices" in option:
        assert (question["type"], question["choices"]) == ("multiplechoice", option["choices"])
    else:
        assert question["type"] == TYPES[option["type"]]
    if option["type"] == "bool":
        assert sorted(question["choices"]) == ["false", "true"]
    default = option.get("default")
    wanted = str(default).lower() if isinstance(default, bool) else default
    assert question.get("default", "") == ("" if wanted in (None, []) else wanted)


@pytest.mark.parametrize(("name", "default"), PLAYBOOKS.items())
def test_the_playbooks_have_those_variables_and_defaults(name: str, default: str | None) -> None:
    text = "".join(path.read_text() for path in (REPOSITORY / "playbooks").rglob("*.yml"))
    assert re.search(rf"\b{name}\b", text)
    assert default is None or f"{name} | default('{default}')" in text


@pytest.mark.parametrize(("name", "default"), WRAPPERS.items())
def test_the_wrappers_have_those_variables_and_defaults(name: str, default: str) -> None:
    text = "".join(path.read_text() for path in (awx.PROJECT / "playbooks").glob("*.yml"))
    written = default if default.isdigit() else f"'{default}'"
    assert f"{name} | default({written})" in text


# By type: what an operator may answer.
ANSWERS: dict[str, list[t.Any]] = {"text": ["", "some,text"], "integer": ["", 1], "float": ["", 0.5, 3]}


@questions
def test_the_role_takes_every_answer(question: awx.Json) -> None:
    answers = question.get("choices", ANSWERS.get(question["type"], []))
    for answer in answers:
        given = awx.answered([question], {question["variable"]: answer})
        spec = {name: spec for name, spec in options().items() if name in given}
        result = ArgumentSpecValidator(spec).validate({name: given[name] for name in spec})
        assert not result.error_messages, (answer, result.error_messages)


def test_answers_are_taken_for_what_they_say() -> None:
    """Ansible checks the arguments of a role and leaves them as they are: the text false would be true."""
    flags = [name for name, spec in options().items() if spec["type"] == "bool"]
    files = [path for role in ROLES for part in ("tasks", "vars") for path in role.rglob(f"{part}/*.yml")]
    for name in flags:
        uses = [
            use for path in files for use in re.findall(rf"\b{name}\b(?![=:])(.{{0,7}})", path.read_text())
        ]
        assert all(use.startswith(" | bool") for use in uses), (name, uses)


@pytest.mark.parametrize(
    ("budget", "slices", "share"),
    [
        ("3", 2, 1),
        ("1", 2, 0),
        ("4", 1, 4),
        (5, None, 5),
        (" 9 ", 2, 4),
        ("34%", 2, "34%"),
        ("some", 2, "some"),
        (None, 3, 0),
    ],
)
def test_the_share_of_a_slice(budget: str | None, slices: int | None, share: int | str) -> None:
    """What is no number is left to the playbook, which knows percent and refuses the rest."""
    (play,) = (
        play for play in load(awx.PROJECT / "playbooks/fleet.yml") if "vars" in play and "hosts" not in play
    )
    environment = NativeEnvironment()
    environment.tests["match"] = lambda text, pattern: bool(re.match(pattern, text))
    given = {"hot_upgrade_fleet_max_failed": budget, "hot_upgrade_slices": slices}
    known = {name: value for name, value in given.items() if value is not None}
    whole = str(environment.from_string(play["vars"]["__hot_upgrade_all"]).render(known))
    rendered = environment.from_string(play["vars"]["hot_upgrade_max_failed"]).render(
        {**known, "__hot_upgrade_all": whole}
    )
    assert str(rendered).strip() == str(share)


def test_the_canary_is_never_sliced_and_what_is_sliced_knows_it() -> None:
    sliced = {template["playbook"] for template in TEMPLATES if template.get("sliced")}
    assert sliced == {"rehearse", "kube_ovn_rehearse", "fleet"}
    tasks = load(awx.PROJECT / "setup.yml")[0]["tasks"]
    (making,) = (task["awx.awx.job_template"] for task in tasks if "awx.awx.job_template" in task)
    assert not any(name in making for name in ("ask_job_slice_count_on_launch", "ask_variables_on_launch"))
    assert "hot_upgrade_slices" in making["extra_vars"]


NODES = {node["identifier"]: node for node in WORKFLOW["nodes"]}


def after(node: str, how: str) -> list[str]:
    return t.cast("list[str]", NODES[node].get(how, []) + NODES[node].get("always", []))


def test_the_workflow() -> None:
    names = {template["name"] for template in TEMPLATES}
    assert all(node["template"] in names for node in NODES.values() if "template" in node)
    assert {name for node in NODES for how in ("success", "failure") for name in after(node, how)} <= set(
        NODES
    )
    well = ["rehearse"]
    while after(well[-1], "success"):
        well += after(well[-1], "success")
    assert well == ["rehearse", "approve_canary", "canary", "approve_fleet", "fleet", "status"]
    assert [name for name in well if "approval" in NODES[name]] == ["approve_canary", "approve_fleet"]
    assert after("canary", "failure") == after("fleet", "failure") == ["roll_back"]
    assert after("roll_back", "failure") == ["status"]
    # A failure that something is done about is none to AWX.
    assert after("rehearse", "failure") == after("status", "failure") == []


def test_the_answers_of_the_workflow_are_those_of_its_jobs() -> None:
    """They are given to every job, also to those whose templates do not ask."""
    asked = {template["name"]: flat(template["asks"]) for template in TEMPLATES}
    assert flat(WORKFLOW["asks"]) <= asked["OVS canary"] | asked["OVS fleet"]
    # The one would make a fleet of the canary, the other take back a fleet because of one host.
    assert not {"hot_upgrade_hosts", "hot_upgrade_rollout"} & flat(WORKFLOW["asks"])
    assert all("hot_upgrade_hosts" not in names for names in asked.values())


def built(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible-builder", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("file", ["meta/execution-environment.yml", "examples/awx/execution-environment.yml"])
def test_an_image_can_be_made(file: str, tmp_path: Path) -> None:
    done = built(
        "create", "--file", REPOSITORY / file, "--context", tmp_path, "--output-filename", "Containerfile"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FROM" in (tmp_path / "Containerfile").read_text()


def test_an_image_needs_no_package_for_us() -> None:
    done = built("introspect", REPOSITORY / "build/collections")
    assert done.returncode == 0, done.stdout + done.stderr
    needs = yaml.safe_load(done.stdout)
    assert needs["python"] in ({}, []), needs
    assert needs["system"] in ({}, []), needs
