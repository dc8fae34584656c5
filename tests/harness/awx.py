# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX does with a project: finds its playbooks, asks surveys, slices inventories, and has ansible-runner run a job."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import yaml

from tests.lab.images import REPOSITORY

PROJECT = REPOSITORY / "examples/awx"
Json = dict[str, t.Any]
Hosts = t.Mapping[str, t.Mapping[str, t.Any]]
_PLAYBOOK = re.compile(r"\s*-?\s*(hosts|(ansible\.builtin\.)?(include|import_playbook)):")
# Folders that are not searched.
_OTHERS = ("roles", "tasks", "group_vars", "host_vars")


def found(project: Path) -> set[str]:
    """The playbooks that AWX offers for a job template: files with a line that looks like one."""
    files = (path.relative_to(project) for path in project.rglob("*.y*ml"))
    return {
        str(path)
        for path in files
        if not any(part in _OTHERS or part.startswith(".") for part in path.parent.parts)
        and any(_PLAYBOOK.match(line) for line in (project / path).read_text().splitlines())
    }


def answered(survey: t.Sequence[Json], answers: t.Mapping[str, t.Any]) -> Json:
    """The variables of a job: what was answered, and defaults. A field that is left empty is no answer."""
    defaults = {each["variable"]: each["default"] for each in survey if "default" in each}
    given = {name: value for name, value in answers.items() if value != ""}
    wrong = [
        each for each in survey if each["variable"] in given and not _allowed(each, given[each["variable"]])
    ]
    assert not wrong, f"AWX refuses the answers to {wrong}"
    assert set(given) <= {each["variable"] for each in survey}, "AWX drops what the survey does not ask"
    return {**defaults, **given}


def _allowed(question: Json, value: t.Any) -> bool:
    if question["type"] == "multiplechoice":
        return value in question["choices"]
    types: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "float": (int, float)}
    if type(value) not in types[question["type"]]:
        return False
    size = len(value) if isinstance(value, str) else value
    return bool(question.get("min", size) <= size <= question.get("max", size))


def refusals(survey: t.Sequence[Json]) -> list[str]:
    """Why AWX would not take a survey."""
    why = []
    names = [each["variable"] for each in survey]
    why += [f"{name} is asked twice" for name in set(names) if names.count(name) > 1]
    for each in survey:
        name = each["variable"]
        why += [f"{name} has no {key}" for key in ("question_name", "type", "required") if key not in each]
        if not isinstance(each.get("required"), bool):
            why.append(f"{name}: required is no boolean")
        if each["type"] == "multiplechoice" and not all(
            isinstance(choice, str) for choice in each["choices"]
        ):
            why.append(f"{name}: choices are strings")
        if each["type"] == "multiplechoice" and "default" not in each:
            why.append(f"{name}: the user interface cannot show a choice without a default")
        if any(not isinstance(each.get(key, 0), int) for key in ("min", "max")):
            why.append(f"{name}: min and max are integers")
        if "default" in each and not _allowed(each, each["default"]):
            why.append(f"{name}: its default is not allowed")
    return why


def sliced(hosts: Hosts, number: int, count: int) -> Hosts:
    """The hosts of slice ``number`` of ``count``, which begins with 1."""
    return dict(sorted(hosts.items())[number - 1 :: count])


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that has ended."""

    status: str
    output: str
    artifacts: Json
    touched: set[str]


def prepare(
    folder: Path, job: int, hosts: Hosts, variables: t.Mapping[str, t.Any], options: str = ""
) -> Path:
    """The private data folder of a job, as AWX writes it; the project is that of ``folder``."""
    place = folder / f"job_{job}"
    for name in ("inventory", "env"):
        (place / name).mkdir(parents=True)
    shutil.copytree(PROJECT, place / "project")
    inventory = json.dumps(
        {
            "ovs_hosts": {"hosts": list(hosts)},
            "_meta": {"hostvars": {name: dict(of) for name, of in hosts.items()}},
        }
    )
    script = place / "inventory/hosts"
    script.write_text(f"#!/usr/bin/env python3\nprint({inventory!r})\n")
    script.chmod(0o700)
    meta = {f"{name}_job_id": job for name in ("awx", "tower")}
    (place / "env/extravars").write_text(_unsafe({**variables, **meta}))
    (place / "env/cmdline").write_text(f"-u root --become {options}")
    return place


def _unsafe(variables: t.Mapping[str, t.Any]) -> str:
    """AWX has no template of an answer evaluated."""
    dumper: t.Any = type("Answers", (yaml.SafeDumper,), {"ignore_aliases": lambda *__: True})
    dumper.add_representer(str, lambda to, text: to.represent_scalar("!unsafe", text, style="'"))
    return str(yaml.dump(dict(variables), Dumper=dumper))


def command(place: Path, playbook: str) -> list[str]:
    """How ansible-runner runs a job; AWX uses it as a library, which does the same."""
    return ["ansible-runner", "run", str(place), "--playbook", f"playbooks/{playbook}.yml", "--ident", "1"]


def environment(collections: Path) -> dict[str, str]:
    """Of a job; AWX gives no colours, no retry files."""
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_NOCOLOR": "1",
    }


def ended(place: Path) -> Job:
    """What AWX knows of a job that has ended: the artifacts come with its last event."""
    run = place / "artifacts/1"
    events = [json.loads(path.read_text()) for path in sorted((run / "job_events").glob("*.json"))]
    last = [each["event_data"] for each in events if each["event"] == "playbook_on_stats"]
    touched = {
        each["event_data"]["host"]
        for each in events
        if each["event"].startswith("runner_on_") and each["event_data"].get("task") == "Touch the host"
    }
    return Job(
        (run / "status").read_text(),
        (run / "stdout").read_text(),
        last[0]["artifact_data"] if last else {},
        touched,
    )


def run(place: Path, playbook: str, collections: Path) -> Job:
    """Run the job that was prepared in a folder to its end."""
    subprocess.run(
        command(place, playbook),
        env=environment(collections),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return ended(place)
