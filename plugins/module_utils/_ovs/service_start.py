# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What starting the service of ovsdb-server does besides starting it, and how it is started without that.

Upstream's units start the daemons by ``ovs-ctl``, which changes the database, too: as its options and its files say it deletes
bridges or transient ports, and sets ``external_ids`` (utilities/ovs-ctl.in of 2.15 to 4.0: do_start_ovsdb, set_system_ids).
Pure but for reading files below ``root``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import open_regular
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb, is_true
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.unit_files import (
    Command,
    Origin,
    Service,
    Text,
    setting,
)

OVS_CTL = "ovs-ctl"
_MOST_READ = 1 << 16
_OPTION = re.compile(r"--([a-z][^=]*)=(.*)", re.DOTALL)
_SWITCH = re.compile(r"--(no-)?([a-z].*)", re.DOTALL)
DELETE_BRIDGES, DELETE_TRANSIENT_PORTS, SYSTEM_ID = "delete-bridges", "delete-transient-ports", "system-id"
_BESIDE = ("ExecStartPre", "ExecStartPost")
_CHANGES = re.compile(r"\b(ovs-vsctl|ovs-ofctl|ovsdb-client|ovsdb-tool)\b")
_BOOLEAN = frozenset({DELETE_BRIDGES, DELETE_TRANSIENT_PORTS})


@dataclasses.dataclass(frozen=True)
class Known:
    """What the database has now of what a start may change."""

    external_ids: t.Mapping[str, str]
    bridges: tuple[str, ...] = ()
    transient: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Foresight:
    """What a start would do: ``refusals`` say why there would be none, ``warnings`` what the hand-over leaves out.

    ``argv`` is the command line without what is left out, empty where nothing is known of it; ``lines`` are what the unit must
    have meanwhile, so that it does no more than that.
    """

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """A command line as ovs-ctl takes it: ``values`` by option, the last one counts; ``fatal`` is why it starts nothing."""

    values: t.Mapping[str, Text]
    external_ids: tuple[tuple[str, Text], ...]
    fatal: str | None


def known(database: Ovsdb) -> Known:
    """What ``database`` has now."""
    switches, bridges, ports = database.select_many(
        (DATABASE, ("external_ids",), ()), ("Bridge", ("name",), ()), ("Port", ("name", "other_config"), ())
    )
    return Known(
        switches[0]["external_ids"] if switches else {},
        tuple(sorted(row["name"] for row in bridges)),
        tuple(sorted(row["name"] for row in ports if is_true(row["other_config"].get("transient")))),
    )


def together(foreseen: t.Iterable[Foresight]) -> Foresight:
    """What is foreseen for ovsdb-server's service, with what stands in the way of others."""
    first, *others = foreseen
    return dataclasses.replace(
        first, refusals=tuple(dict.fromkeys(text for each in (first, *others) for text in each.refusals))
    )


def foresee(service: Service | None, known: Known, root: str = "/") -> Foresight:
    """What the next start of ``service`` would do to a database that holds ``known``."""
    if service is None or service.start is None:
        return Foresight()
    command, unit = service.start, service.unit
    refusals = [f"{unit} reads {text.text}, which is not there ({text.origin})" for text in service.missing]
    others = _others(service)
    if os.path.basename(command.words[0].text) != OVS_CTL:
        return Foresight(tuple(refusals), tuple(map(_told, others)), (), _without_others(service, others))
    options = parse(command)
    if options.fatal:
        unexpanded = (
            "; an environment file is no shell script: nothing in it is expanded"
            if "$" in options.fatal
            else ""
        )
        refusals.append(f"{unit} would not start again: {options.fatal}{unexpanded}")
        return Foresight(refusals=tuple(refusals))
    refusals += _ended_too(service, options)
    if _leaves_out(options, "ovsdb-server"):
        return Foresight(tuple(refusals))
    identity = _identity(options, root)
    warnings = (*_deletions(unit, options, known), *_identities(unit, options, known, identity))
    argv = _without(command, options, known, identity) if warnings else command.argv
    lines = ("ExecStart=", setting(command, argv)) if warnings else ()
    return Foresight(
        tuple(refusals),
        (*warnings, *map(_told, others)),
        argv,
        (*lines, *_without_others(service, others)),
        {name: value.text for name, value in service.environment.items()},
        service.user,
    )


def _leaves_out(options: Options, daemon: str) -> bool:
    return daemon in options.values and options.values[daemon].text == "no"


def _ended_too(service: Service, start: Options) -> t.Iterator[str]:
    """What a restart of a unit that starts one daemon does to the other."""
    stops = [
        command
        for command in service.commands
        if command.key == "ExecStop" and os.path.basename(command.words[0].text) == OVS_CTL
    ]
    for other in ("ovs-vswitchd", "ovsdb-server"):
        for command in stops:
            if _leaves_out(start, other) and not _leaves_out(parse(command), other):
                yield (
                    f"{service.unit} does not start {other}, but stopping it ends {other} "
                    f"({command.words[0].origin}): ExecStop= lacks --no-{other}"
                )


def parse(command: Command) -> Options:
    """The options of a call of ovs-ctl, as its loop over the arguments takes them."""
    values: dict[str, Text] = {}
    external: list[tuple[str, Text]] = []
    action: Text | None = None
    for word in command.words[1:]:
        text, origin = word.text, word.origin
        found, switch = _OPTION.fullmatch(text), _SWITCH.fullmatch(text)
        if text in ("-h", "--help", "-V", "--version"):
            return Options(values, tuple(external), f"{text} has ovs-ctl print and not start ({origin})")
        if text.startswith("--external-id="):
            key, equals, value = text[len("--external-id=") :].partition("=")
            if not equals:
                return Options(values, tuple(external), f"{text} is no key=value ({origin})")
            external.append((key, Text(value, origin)))
        elif found:
            values[found.group(1)] = Text(found.group(2), origin)
        elif switch:
            values[switch.group(2)] = Text("no" if switch.group(1) else "yes", origin)
        elif text.startswith("-"):
            return Options(values, tuple(external), f"ovs-ctl does not know the option {text} ({origin})")
        elif (
            action is not None and action.text
        ):  # before that, an empty word changes nothing: ${OVS_USER_OPT} of the RPM
            return Options(
                values,
                tuple(external),
                f"ovs-ctl takes one word beside options, and {text!r} is another ({origin})",
            )
        else:
            action = word
    fatal = None if action and action.text else f"ovs-ctl is not told to start ({command.words[0].origin})"
    return Options(values, tuple(external), fatal)


def _others(service: Service) -> list[Command]:
    """What the unit runs before or after its start that changes the database or flows: what it does is done already."""
    beside = (command for command in service.commands if command.key in _BESIDE)
    return [command for command in beside if any(_CHANGES.search(word) for word in command.argv)]


def _told(command: Command) -> str:
    return (
        f"each start runs '{' '.join(command.argv)}' ({command.words[0].origin}): what it does is done already, and the "
        "hand-over starts without it, the next boot does not"
    )


def _without_others(service: Service, others: t.Sequence[Command]) -> tuple[str, ...]:
    """The lines of a unit that take ``others`` out of it."""
    lines: list[str] = []
    for key in dict.fromkeys(command.key for command in others):
        kept = [command for command in service.commands if command.key == key and command not in others]
        lines += [f"{key}=", *map(setting, kept)]
    return tuple(lines)


def _deletions(unit: str, options: Options, known: Known) -> t.Iterator[str]:
    for option, what, names in (
        (DELETE_BRIDGES, "all bridges", known.bridges),
        (DELETE_TRANSIENT_PORTS, "the ports with other_config:transient", known.transient),
    ):
        if _is_on(options, option) and names:
            yield (
                f"each start of {unit} deletes {what} ({_some(names)}): --{option} in {options.values[option].origin}; the "
                "hand-over starts it without, the next boot does not"
            )


def _identities(unit: str, options: Options, known: Known, identity: Text | None) -> t.Iterator[str]:
    wanted = [*options.external_ids, *([(SYSTEM_ID, identity)] if identity else [])]
    for key, value in wanted:
        now = known.external_ids.get(key)
        if now != value.text:
            yield (
                f"each start of {unit} sets external_ids:{key} to {value.text!r} ({value.origin}), the database has "
                f"{'none' if now is None else repr(now)}: the hand-over leaves that, the next boot does not; make the two equal"
            )


def _identity(options: Options, root: str) -> Text | None:
    """The system-id that a start sets; None when nothing is known, or a new one is made up."""
    given = options.values.get(SYSTEM_ID)
    if given is None or given.text != "random":
        return given
    for name in ("system-id.conf", "install_uuid.conf"):
        path = os.path.join("/etc/openvswitch", name)
        try:
            with open_regular(os.path.join(root, path.lstrip("/"))) as file:
                content = file.read(_MOST_READ).decode(errors="replace").rstrip("\n")
        except OSError:
            continue
        if name == "install_uuid.conf":
            found = re.search(r"^INSTALLATION_UUID=['\"]?([^'\"\s]*)", content, re.MULTILINE)
            content = found.group(1) if found else ""
        return Text(content, Origin(path, 1))
    return Text("a new random one", Origin(given.origin.file, given.origin.line))


def _without(command: Command, options: Options, known: Known, identity: Text | None) -> tuple[str, ...]:
    """The command line that starts the same daemon, and changes nothing of ``known``."""
    kept = [word.text for word in command.words if not _is_left_out(word.text, known)]
    now = known.external_ids.get(SYSTEM_ID)
    if identity is not None and now is not None and identity.text != now:
        kept = [word for word in kept if not word.startswith(f"--{SYSTEM_ID}=")]
        kept.append(f"--{SYSTEM_ID}={now}")
    return tuple(kept)


def _is_left_out(word: str, known: Known) -> bool:
    if word.startswith("--external-id="):
        key, __, value = word[len("--external-id=") :].partition("=")
        return known.external_ids.get(key) != value
    return any(word == f"--{name}" or word.startswith(f"--{name}=") for name in _BOOLEAN)


def _is_on(options: Options, name: str) -> bool:
    return name in options.values and options.values[name].text == "yes"


def _some(names: t.Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
