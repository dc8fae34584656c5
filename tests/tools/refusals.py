# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of all refusals, made from the code that utters them, so that it says what they say.

``python tests/tools/refusals.py FILE`` writes it, ``--check FILE`` fails when it is not what would be written.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import re
import sys
import typing as t
from pathlib import Path

import yaml

TREE = Path(__file__).resolve().parents[2]
UTILS = "plugins/module_utils/"
ROOT_ERROR = "HotUpgradeError"
# Who says "waited in vain"; for what, is said by whoever calls it.
WAITER = f"{UTILS}_base/waiting.py"
# What the code fills in.
GAP = "…"

# The headings, in the order in which an operator comes by, and where their messages are: in files whose paths begin so.
GROUPS: t.Mapping[str, tuple[str, ...]] = {
    "A playbook refuses to begin": ("playbooks/",),
    "The role refuses a host, or gives it up": ("roles/",),
    "The task that hands over": ("plugins/action/", "plugins/plugin_utils/judgement.py"),
    "Why a strategy is not possible": (),
    "Whom root does not believe": (f"{UTILS}_system/trust.py",),
    "Why the kernel module cannot be reloaded": (f"{UTILS}_kmod/plan.py",),
    "The hand-over": (f"{UTILS}_handover/", f"{UTILS}_proof/"),
    "The reload of the kernel module": (f"{UTILS}_kmod/",),
    "A transaction: confirm it, take it back, begin another one": (f"{UTILS}_transaction/",),
    "Snapshots: take, restore, compare": (f"{UTILS}_snapshot/", f"{UTILS}_openflow/", f"{UTILS}_prune/"),
    "The flag flow-restore-wait": (f"{UTILS}_restore_wait/",),
    "The rehearsal": (f"{UTILS}_rehearsal/",),
    "Measured traffic, and health": (f"{UTILS}_probe/", f"{UTILS}_health/"),
    "OVN": (f"{UTILS}_ovn/",),
    "Pods of a DaemonSet": (f"{UTILS}_kube/",),
    "Packages": (f"{UTILS}_policy_guard/",),
    "The database and the daemons": (f"{UTILS}_ovs/", f"{UTILS}_info/"),
    "The host": (UTILS, "plugins/modules/"),
}
STRATEGY = "Why a strategy is not possible"
NONSENSE = "Answers that nobody understands"

# Functions that utter reasons without raising them, by file; what they ask by ``yield from`` in the same file, too.
REASONS: t.Mapping[str, tuple[str, ...]] = {
    f"{UTILS}_handover/plan.py": ("_make_before_break", "_prefilled", "_standby", "_restart"),
    f"{UTILS}_handover/spoken.py": ("unprimable",),
    f"{UTILS}_handover/facts.py": ("_distrust",),
    f"{UTILS}_ovs/service_start.py": ("foresee", "_ended_too"),
    f"{UTILS}_kmod/plan.py": ("_reasons",),
    f"{UTILS}_system/trust.py": (
        "doubt_of_file",
        "doubt_of_directory",
        "doubt_of_daemon",
        "doubt_of_arguments",
        "doubt_of_environment",
    ),
    "plugins/plugin_utils/judgement.py": ("mistake", "breaches", "_gap"),
}
# Those of them that say why a strategy is not possible; of the others it is what the file is about.
OF_STRATEGIES = tuple(REASONS)[:4]

INTRODUCTION = """<!--
Copyright (c) 2026, ovsops contributors
SPDX-License-Identifier: GPL-3.0-or-later
-->
# Every refusal, and what to do

Each message of the collection says what failed, on which object, what was seen, and what to do next. This page has them all,
as the code has them (`make refusals` writes it). Search for some words of yours. What stands in \\<brackets\\> or as … is filled
in on the host. A / stands between two wordings of one message.

A refusal comes before anything is touched. What fails later is undone, and the message says how the host was found afterwards.
[For 3 a.m.](night.md) has the commands, and what to do with a host that has failed.
"""
NOTES: t.Mapping[str, str] = {
    STRATEGY: """\
`plan.reasons` has these for each strategy. With `auto` the next one is taken; a reason against all of them refuses the host.
A run in check mode shows them days before.
""",
    "Whom root does not believe": """\
These fill in the … of other messages: what root would have to rely on, although somebody else can change it
([security](security.md)).
""",
    NONSENSE: """\
A daemon has sent what its protocol does not allow, or not what this collection knows of it. Nothing that an operator does
brings that about: keep the message, the versions (`ovs_info`) and the log of the daemon, and open an issue.
""",
}


@dataclasses.dataclass(frozen=True)
class Message:
    """One message, and the ``hint`` that it ends with."""

    heading: str
    text: str
    hint: str = ""


def page(messages: t.Sequence[Message]) -> str:
    """The whole page, in Markdown."""
    parts = [INTRODUCTION]
    for heading in (*GROUPS, NONSENSE):
        found = list(dict.fromkeys(each for each in messages if each.heading == heading))
        if found:
            parts.append(f"\n## {heading}\n" + (f"{NOTES[heading]}\n" if heading in NOTES else ""))
            parts.extend(_item(each) for each in found)
    return "".join(parts)


def _item(message: Message) -> str:
    return f"* {_escaped(message.text)}\n" + (f"  * **{_escaped(message.hint)}.**\n" if message.hint else "")


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*<>\[\]|])|(?<!\w)(_)", r"\\\1\2", " ".join(text.split()).rstrip("."))


def messages(tree: Path = TREE) -> list[Message]:
    """All messages below ``tree``, in the order of their files."""
    files = {
        str(path.relative_to(tree)): ast.parse(path.read_text())
        for path in sorted((tree / "plugins").rglob("*.py"))
    }
    family = _family(files.values())
    # Numbers of another file have other meanings; texts have the same name only where they are the same.
    constants = _constants(files.values(), (str,))
    sentences = {
        each.name: each
        for parsed in files.values()
        for each in parsed.body
        if isinstance(each, ast.FunctionDef)
        and not each.name.startswith("_")  # those of two files may have the same name
        and len(each.args.args) == 1
        and isinstance(each.body[-1], ast.Return)
        and isinstance(each.body[-1].value, ast.JoinedStr)
    }
    found: list[Message] = []
    for path, parsed in files.items():
        if path == WAITER:
            continue
        found += Module(path, parsed, family, constants, _imported(parsed, files), sentences).messages()
    for folder in ("playbooks", "roles"):
        for file in sorted((tree / folder).rglob("*.yml")):
            found += _of_tasks(str(file.relative_to(tree)), yaml.safe_load(file.read_text()))
    return found


def _heading(path: str) -> str:
    return next(name for name, starts in GROUPS.items() if path.startswith(starts or ("\0",)))


def _family(parsed: t.Iterable[ast.Module]) -> frozenset[str]:
    """The names of the error and of all that inherit from it."""
    parents = {
        each.name: {base.id for base in each.bases if isinstance(base, ast.Name)}
        for module in parsed
        for each in ast.walk(module)
        if isinstance(each, ast.ClassDef)
    }
    family = {ROOT_ERROR}
    while more := {name for name, bases in parents.items() if bases & family} - family:
        family |= more
    return frozenset(family)


def _if_said(text: str) -> str:
    """The text; nothing where all of it is filled in."""
    return text if re.search(r"[a-z]{2}", re.sub(r"<\w+>", "", text)) else ""


def _constants(
    parsed: t.Iterable[ast.Module], kinds: tuple[type, ...] = (str, int, float)
) -> dict[str, ast.expr]:
    """What constants of modules are, by name: a text of these ``kinds``, or a number."""
    return {
        statement.targets[0].id: statement.value
        for module in parsed
        for statement in module.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id.isupper()
        and (
            isinstance(statement.value, (ast.JoinedStr, ast.Call))
            or (isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, kinds))
        )
    }


def _imported(parsed: ast.Module, files: t.Mapping[str, ast.Module]) -> dict[str, ast.expr]:
    """The constants that a module has from others, by name: two may have one of the same name."""
    found: dict[str, ast.expr] = {}
    for statement in parsed.body:
        if isinstance(statement, ast.ImportFrom):
            path = (statement.module or "").partition("ansible_collections.ovsops.hot_upgrade.")[2]
            there = files.get(path.replace(".", "/") + ".py")
            known = _constants([there]) if there else {}
            found.update({each.name: known[each.name] for each in statement.names if each.name in known})
    return found


class Module:
    """One file of Python, and the messages in it."""

    def __init__(
        self,
        path: str,
        parsed: ast.Module,
        family: t.Container[str],
        constants: t.Mapping[str, ast.expr],
        imported: t.Mapping[str, ast.expr],
        sentences: t.Mapping[str, ast.FunctionDef],
    ) -> None:
        self.path = path
        self._parsed = parsed
        self._family = family
        self._sentences = sentences
        self._constants = {**constants, **imported, **_constants([parsed])}
        functions = [each for each in ast.walk(parsed) if isinstance(each, ast.FunctionDef)]
        self._functions = sorted(functions, key=lambda each: each.lineno)

    def messages(self) -> list[Message]:
        """What is raised, waited for and given as a reason."""
        found = [*self._of_calls(), *self._reasons()]
        return [each for each in found if _if_said(each.text)]

    def _of_calls(self) -> t.Iterator[Message]:
        for function in self._functions:
            for call in _own_nodes(function):
                if isinstance(call, ast.Call):
                    yield from self._of_call(call, function)

    def _of_call(self, call: ast.Call, function: ast.FunctionDef) -> t.Iterator[Message]:
        say = functools.partial(self._say, function=function)
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        name = self._name(call, function)
        if any(isinstance(each, ast.Starred) for each in call.args) or not call.args:
            return
        if name in self._family:
            what, why, hint = (
                say(call.args[at]) if at < len(call.args) else say(given[part]) if part in given else ""
                for at, part in enumerate(("what", "why", "hint"))
            )
            if name == "ProtocolError" and not hint:
                yield Message(NONSENSE, f"{what}: {why}" if why else what)
            else:
                yield Message(_heading(self.path), f"{what}: {why}" if why else what, _if_said(hint))
        elif (
            name == "wait" and isinstance(call.args[0], (ast.Constant, ast.JoinedStr)) and len(call.args) > 2
        ):
            hint = say(call.args[4]) if len(call.args) > 4 else say(given["hint"]) if "hint" in given else ""
            text = say(call.args[0])
            yield Message(
                _heading(self.path), f"waited {GAP} s in vain until {text}: last seen: {GAP}", _if_said(hint)
            )
        elif name == "failed" and len(call.args) > 1 and self.path.startswith("plugins/action/"):
            yield Message(_heading(self.path), say(call.args[1]))

    def _name(self, call: ast.Call, function: ast.FunctionDef) -> str:
        """Of what is called; the error itself where one of the family fills itself in."""
        called = call.func
        if isinstance(called, ast.Name):
            return called.id
        if isinstance(called, ast.Attribute):
            of_super = isinstance(called.value, ast.Call) and ast.unparse(called.value.func) == "super"
            inherits = any(
                each.name in self._family and function in each.body
                for each in ast.walk(self._parsed)
                if isinstance(each, ast.ClassDef)
            )
            return ROOT_ERROR if of_super and inherits and called.attr == "__init__" else called.attr
        return ""

    def _reasons(self) -> t.Iterator[Message]:
        by_name = {each.name: each for each in self._functions}
        waiting, seen = list(REASONS.get(self.path, ())), set()
        heading = STRATEGY if self.path in OF_STRATEGIES else _heading(self.path) if waiting else ""
        while waiting:
            name = waiting.pop(0)
            if name in seen or name not in by_name:
                continue
            seen.add(name)
            function = by_name[name]
            for node in sorted(ast.walk(function), key=lambda each: getattr(each, "lineno", 0)):
                if isinstance(node, ast.YieldFrom):
                    waiting += [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
                for uttered in _uttered(node):
                    if _is_text(uttered):
                        yield Message(heading, self._say(uttered, function))

    def _say(self, node: ast.expr, function: ast.FunctionDef) -> str:
        """An expression as the operator reads it."""
        if isinstance(node, ast.Constant):
            return GAP if node.value is None else str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(
                self._say(each.value if isinstance(each, ast.FormattedValue) else each, function)
                for each in node.values
            )
        if isinstance(node, ast.IfExp):
            wordings = [self._say(each, function) for each in (node.body, node.orelse)]
            return " / ".join(dict.fromkeys(filter(_if_said, wordings))) or GAP
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._say(node.left, function) + self._say(node.right, function)
        if isinstance(node, ast.Name):
            return self._say_name(node.id, function, node.lineno)
        if isinstance(node, ast.Call):
            return self._say_call(node, function)
        if isinstance(node, ast.Attribute):
            if node.attr.isupper():
                return self._say_name(node.attr, function)
            if node.attr.startswith("__"):
                return GAP
            owner = node.value
            of_it = node.attr in ("id", "name") and isinstance(owner, ast.Name) and owner.id != "self"
            return f"<{owner.id if of_it and isinstance(owner, ast.Name) else node.attr}>".replace("<_", "<")
        return GAP

    def _say_call(self, call: ast.Call, function: ast.FunctionDef) -> str:
        """What a function makes of one text; of any other call nothing is known."""
        made = self._sentences.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if made is None or len(call.args) != 1:
            return GAP
        parameter = made.args.args[0].arg
        uttered = t.cast("ast.Return", made.body[-1]).value
        text = self._say(t.cast("ast.expr", uttered), made)
        return text.replace(f"<{parameter}>", self._say(call.args[0], function))

    def _say_name(self, name: str, function: ast.FunctionDef, line: int = 0) -> str:
        if name in self._constants:
            return self._say(self._constants[name], function)
        values = [
            each.value
            for each in ast.walk(function)
            if isinstance(each, ast.Assign)
            and each.lineno <= line
            and any(isinstance(target, ast.Name) and target.id == name for target in each.targets)
        ]
        if values and _is_text(values[-1]):
            return self._say(values[-1], function)
        return f"<{name.strip('_')}>"


def _own_nodes(function: ast.FunctionDef) -> t.Iterator[ast.AST]:
    """The nodes of a function without those of functions in it, in the order of their lines."""
    inner = {
        id(node)
        for each in ast.walk(function)
        if isinstance(each, ast.FunctionDef) and each is not function
        for node in ast.walk(each)
    }
    nodes = [each for each in ast.walk(function) if id(each) not in inner]
    return iter(sorted(nodes, key=lambda each: getattr(each, "lineno", 0)))


def _is_text(node: ast.AST) -> bool:
    """Whether it is text, or a choice of texts."""
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) or _is_text(node.orelse)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _uttered(node: ast.AST) -> t.Iterator[ast.expr]:
    """What a statement or an expression hands on as a reason."""
    if isinstance(node, (ast.Yield, ast.Return)) and node.value is not None:
        yield node.value
    elif isinstance(node, ast.ListComp):
        yield node.elt
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        yield node.args[0]


def _of_tasks(path: str, found: t.Any, known: t.Mapping[str, t.Any] | None = None) -> t.Iterator[Message]:
    """The messages of asserts and failures in a file of tasks or plays."""
    if isinstance(found, list):
        for each in found:
            yield from _of_tasks(path, each, known)
    if not isinstance(found, dict):
        return
    known = {**(known or {}), **(found.get("vars") or {})}
    for action, option in (("ansible.builtin.assert", "fail_msg"), ("ansible.builtin.fail", "msg")):
        if action in found:
            text = _template(str(found[action][option]), known)
            if _if_said(text):
                yield Message(_heading(path), text)
    for part in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
        yield from _of_tasks(path, found.get(part), known)


def _template(text: str, known: t.Mapping[str, t.Any]) -> str:
    """A template as the operator reads it."""

    def say(match: re.Match[str]) -> str:
        expression = match[1].strip()
        if isinstance(known.get(expression), str):
            return _template(known[expression], known)
        wordings = [each for each in re.findall(r"'([^']*)'", expression) if len(each.split()) > 2]
        name = "host" if expression == "inventory_hostname" else expression
        return " / ".join(wordings) or (f"<{name}>" if re.fullmatch(r"host|hot_\w+", name) else GAP)

    said = re.sub(r"\{\{(.*?)\}\}", say, text, flags=re.DOTALL)
    return re.sub(r"\{%.*?%\}", "", said, flags=re.DOTALL)


def main(arguments: t.Sequence[str] | None = None) -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail unless FILE is what would be written")
    parser.add_argument("file", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    text = page(messages())
    if not options.check:
        options.file.write_text(text)
    elif options.file.read_text() != text:
        print(
            f"refusals: {options.file} is not what the messages of the code are now; run 'make refusals'",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
