# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of refusals has what the code says: here a little code, to see that nothing of it is lost."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from tests.tools import refusals

MODULE = """
class HotUpgradeError(Exception): ...
class Refused(HotUpgradeError): ...
class ProtocolError(HotUpgradeError): ...
class Busy(Refused):
    def __init__(self, other):
        super().__init__("a second one", f"{other.id} {'runs' if other else 'waits'}", HINT)

HINT = "Wait"
_MOST = 50
def log_of(name):
    return f"Look into the log of {name}"
LOG = log_of("ovs-vswitchd")

def refuse(path, error):
    why = "it is no *file*"
    raise Refused(f"{path} is refused", why, f"Keep {_MOST}. {LOG}")
    raise HotUpgradeError("it failed", hint="Try again")
    raise ProtocolError("cut off", f"{len(path)} bytes")
    raise HotUpgradeError(*error.args)
    raise HotUpgradeError(path, str(error), error.hint)

def wait(waiter, look):
    waiter.wait("it is there", look, bool, hint="Look")

def _reasons(facts, state, held):
    if held:
        yield from _of_the_file(facts)

def _of_the_file(facts):
    yield f"{facts.image} is not signed"

def _never_asked(facts):
    yield "nobody says this"
"""
TASKS = """
- name: Look
  block:
    - ansible.builtin.assert:
        that: fine
        fail_msg: "{{ inventory_hostname }}: {{ __why }}. {{ 'Nothing at all was done' if x else '' }}"
      vars: {__why: "{{ hot_upgrade_serial }} is no size"}
  rescue:
    - ansible.builtin.fail: {msg: "{{ all_of_it }}"}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A collection with one module and one file of tasks."""
    for path, text in {
        "plugins/module_utils/_kmod/plan.py": MODULE,
        "roles/r/tasks/main.yml": TASKS,
        "playbooks/p.yml": "[]",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_all_that_is_said_is_there(tree: Path) -> None:
    found = [(each.text, each.hint) for each in refusals.messages(tree)]
    assert found == [
        ("a second one: <other> runs / waits", "Wait"),
        ("<path> is refused: it is no *file*", "Keep 50. Look into the log of ovs-vswitchd"),
        ("it failed", "Try again"),
        ("cut off: … bytes", ""),
        ("waited … s in vain until it is there: last seen: …", "Look"),
        ("<image> is not signed", ""),
        ("<host>: <hot_upgrade_serial> is no size. Nothing at all was done", ""),
    ]


def test_the_page_is_markdown(tree: Path) -> None:
    page = refusals.page(refusals.messages(tree))
    assert "\n* \\<path\\> is refused: it is no \\*file\\*\n  * **Keep 50. Look into" in page
    assert page.index("## Why the kernel module") < page.index(f"## {refusals.NONSENSE}")


def test_a_page_that_is_behind_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: t.Any, tree: Path
) -> None:
    page, messages = tmp_path / "page.md", refusals.messages
    monkeypatch.setattr(refusals, "messages", lambda: messages(tree))
    assert refusals.main([str(page)]) == 0
    assert refusals.main(["--check", str(page)]) == 0
    module = tree / "plugins/module_utils/_kmod/plan.py"
    module.write_text(MODULE.replace("it failed", "it has failed"))
    assert refusals.main(["--check", str(page)]) == 1
    assert "make refusals" in capsys.readouterr().err
