# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a service's files say, as systemd reads them, with the file and line of every word.

Units, drop-ins and environment files: systemd.syntax(7), systemd.unit(5), systemd.exec(5), systemd.service(5).  Pure but for
reading files below ``root``.  The files count and not what systemd has loaded: it loads them before the next start.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import typing as t

# Where units are looked for, the first one that has a name wins (systemd.unit(5), Unit File Load Path).
FOLDERS = (
    *("etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient"),
    *("run/systemd/generator.early", "etc/systemd/system", "run/systemd/system", "run/systemd/generator"),
    *("usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"),
    "run/systemd/generator.late",
)
_BLANK = " \t\n\r"
_PREFIXES = "@-:+!|"
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "s": " ",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
_VARIABLE = re.compile(r"\$(\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_WHOLE_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where something was read; ``str`` is how a message names it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclasses.dataclass(frozen=True)
class Text:
    """A word or a value, and where it comes from."""

    text: str
    origin: Origin


@dataclasses.dataclass(frozen=True)
class Command:
    """A line of ``Exec...=``: the program first; ``prefix`` are the signs before it that count with words as they are here."""

    key: str
    words: tuple[Text, ...]
    prefix: str = ""

    @property
    def checked(self) -> bool:
        """Whether its failure is one of the service."""
        return "-" not in self.prefix

    @property
    def argv(self) -> tuple[str, ...]:
        """The words without their origins."""
        return tuple(word.text for word in self.words)


@dataclasses.dataclass(frozen=True)
class Service:
    """What starting and stopping a unit executes, and with what; ``missing`` are environment files that must be there."""

    unit: str
    commands: tuple[Command, ...]
    environment: t.Mapping[str, Text]
    user: str | None
    group: str | None
    missing: tuple[Text, ...]

    @property
    def start(self) -> Command | None:
        """Its main command."""
        return next((command for command in self.commands if command.key == "ExecStart"), None)


def read(unit: str, root: str = "/", ignored: t.Container[str] = ()) -> Service | None:
    """The service ``unit``, None where no file has that name; drop-ins of the names ``ignored`` do not count."""
    files = _files(unit, root, ignored)
    if not files:
        return None
    settings = [setting for file in files for setting in _settings(file, root)]
    environment, missing = _environment(settings, root)
    return Service(
        unit,
        tuple(
            command
            for key in ("ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop")
            for command in _commands(settings, key, environment)
        ),
        environment,
        _last(settings, "User"),
        _last(settings, "Group"),
        missing,
    )


def setting(command: Command, argv: t.Sequence[str] | None = None) -> str:
    """``command`` as a line of a unit, with other words if given."""
    words = command.argv if argv is None else argv
    return f"{command.key}={command.prefix}{' '.join(map(quoted, words))}"


def quoted(word: str) -> str:
    """``word`` as a unit file has to have it, so that it is one word and nothing in it is expanded."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


def split(text: str, escapes: bool = True) -> list[str]:
    """Words as systemd splits them: quotes join, backslashes escape; an end of quotes that is missing is forgiven."""
    return [word for word, __ in _split(text, escapes)]


def _split(text: str, escapes: bool) -> t.Iterator[tuple[str, bool]]:
    """The words, and whether each is written as it is, without quotes and backslashes."""
    current: str | None = None
    quote, plain, position = "", True, 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and position < len(text):
            piece, position = _unescape(text, position) if escapes else (text[position], position + 1)
            current, plain = (current or "") + piece, False
        elif quote:
            quote, current = ("", current) if character == quote else (quote, (current or "") + character)
        elif character in "\"'":
            quote, current, plain = character, current or "", False
        elif character not in _BLANK:
            current = (current or "") + character
        elif current is not None:
            yield current, plain
            current, plain = None, True
    if current is not None:
        yield current, plain


def _unescape(text: str, position: int) -> tuple[str, int]:
    """What stands behind a backslash (systemd.syntax(7), Quoting), and where it ends."""
    found = re.compile(r"x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})").match(
        text, position
    )
    if found:
        hexadecimal = found.group(1) or found.group(3) or found.group(4)
        number = int(hexadecimal, 16) if hexadecimal else int(found.group(2), 8)
        return (chr(number) if number < 0x110000 else ""), found.end()
    return _ESCAPES.get(text[position], "\\" + text[position]), position + 1


def assignments(text: str) -> t.Iterator[tuple[str, str, int]]:
    """(name, value, line) of an environment file, as systemd reads it (systemd.exec(5), EnvironmentFile=): no shell."""
    position, line = 0, 1
    while position < len(text):
        character = text[position]
        if character in _BLANK:
            line += character == "\n"
            position += 1
            continue
        if character in "#;":
            position = _end_of_line(text, position)
            continue
        equals, end = text.find("=", position), _end_of_line(text, position)
        if equals < 0 or equals > end:
            position = end
            continue
        name = text[position:equals].rstrip(_BLANK)
        value, after = _value(text, equals + 1)
        if _NAME.fullmatch(name):
            yield name, value, line
        line += text.count("\n", position, after)
        position = after


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value(text: str, position: int) -> tuple[str, int]:
    """The value that begins at ``position``, and where its line ends: quotes only where a value or a part of it begins."""
    value, kept, bare = "", 0, False
    while position < len(text) and text[position] != "\n":
        character = text[position]
        position += 1
        if character == "\\":
            bare = True
            piece = text[position : position + 1]
            position += 1
            value += "" if piece == "\n" else piece
            kept = len(value)
        elif not bare and character in "\"'":
            piece, position = _quoted_part(text, position, character)
            value += piece
            kept = len(value)
        elif bare or character not in _BLANK:
            bare = True
            value += character
            kept = kept if character in _BLANK else len(value)
    return value[:kept], position


def _quoted_part(text: str, position: int, quote: str) -> tuple[str, int]:
    part = ""
    while position < len(text) and text[position] != quote:
        if text[position] == "\\" and quote == '"' and position + 1 < len(text):
            position += 1
            escaped = text[position]
            part += escaped if escaped in '"\\`$' else "" if escaped == "\n" else "\\" + escaped
        else:
            part += text[position]
        position += 1
    return part, position + 1


@dataclasses.dataclass(frozen=True)
class _Setting:
    key: str
    value: Text


def _files(unit: str, root: str, ignored: t.Container[str]) -> list[str]:
    """The unit's file and its drop-ins in the order of their names; of two with one name the first folder's counts."""
    folders = [os.path.join(root, folder) for folder in FOLDERS]
    main = [path for path in (os.path.join(folder, unit) for folder in folders) if os.path.isfile(path)]
    found: dict[str, str] = {}
    for directory in (f"{unit}.d", "service.d"):
        for folder in folders:
            for path in glob.glob(os.path.join(glob.escape(os.path.join(folder, directory)), "*.conf")):
                if os.path.basename(path) not in ignored:
                    found.setdefault(os.path.basename(path), path)
    return [*main[:1], *(found[name] for name in sorted(found))] if main else []


def _settings(path: str, root: str) -> t.Iterator[_Setting]:
    """The settings of the section [Service]; a line goes on behind a backslash at its end."""
    shown, section, begun, text = os.path.join("/", os.path.relpath(path, root)), "", 0, ""
    for number, line in enumerate(_lines(path), 1):
        if line.lstrip()[:1] in ("#", ";"):  # also between the parts of a line that goes on
            continue
        begun = begun or number
        if line.endswith("\\"):
            text += line[:-1] + " "
            continue
        whole, origin = (text + line).strip(), Origin(shown, begun)
        begun, text = 0, ""
        if whole.startswith("["):
            section = whole
        elif section == "[Service]" and "=" in whole:
            key, __, value = whole.partition("=")
            yield _Setting(key.strip(), Text(value.strip(), origin))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().split("\n")
    except OSError:
        return []


def _given(settings: t.Sequence[_Setting], key: str) -> list[Text]:
    """The values of a list: an empty one takes back those before it."""
    values: list[Text] = []
    for setting in settings:
        if setting.key == key:
            values = [*values, setting.value] if setting.value.text else []
    return values


def _last(settings: t.Sequence[_Setting], key: str) -> str | None:
    values = _given(settings, key)
    return values[-1].text if values else None


def _environment(settings: t.Sequence[_Setting], root: str) -> tuple[dict[str, Text], tuple[Text, ...]]:
    """The variables, those of files last; and the files that have to be there and are not."""
    found: dict[str, Text] = {}
    missing: list[Text] = []
    for value in _given(settings, "Environment"):
        for word in split(value.text.replace("%%", "%")):
            name, equals, content = word.partition("=")
            if equals:
                found[name] = Text(content, value.origin)
    for value in _given(settings, "EnvironmentFile"):
        pattern = value.text.lstrip("-")
        paths = sorted(glob.glob(os.path.join(root, pattern.lstrip("/"))))
        if not paths and not value.text.startswith("-"):
            missing.append(Text(pattern, value.origin))
        for path in paths:
            shown = os.path.join("/", os.path.relpath(path, root))
            for name, content, line in assignments("\n".join(_lines(path))):
                found[name] = Text(content, Origin(shown, line))
    return found, tuple(missing)


def _commands(
    settings: t.Sequence[_Setting], key: str, environment: t.Mapping[str, Text]
) -> t.Iterator[Command]:
    for value in _given(settings, key):
        for words in _sequences(value.text):
            program = words[0].lstrip(_PREFIXES)
            prefix = words[0][: len(words[0]) - len(program)]
            arguments = [word.replace("%%", "%") for word in words[2 if "@" in prefix else 1 :]]
            expanded = (
                [Text(word, value.origin) for word in arguments]
                if ":" in prefix
                else [word for each in arguments for word in _expanded(each, value.origin, environment)]
            )
            kept = prefix.replace("@", "").replace(":", "")
            yield Command(key, (Text(program, value.origin), *expanded), kept)


def _sequences(text: str) -> t.Iterator[list[str]]:
    """One line may hold several commands, with a semicolon as a word between them."""
    current: list[str] = []
    for word, plain in [*_split(text, True), (";", True)]:
        if word != ";" or not plain:
            current.append(word)
        elif current:
            yield current
            current = []


def _expanded(word: str, origin: Origin, environment: t.Mapping[str, Text]) -> list[Text]:
    """systemd.service(5), Command lines: ``$NAME`` as a word is split into words, ``${NAME}`` is put in its place."""
    whole = _WHOLE_VARIABLE.fullmatch(word)
    if whole:
        value = environment.get(whole.group(1))
        return [Text(part, value.origin) for part in split(value.text, escapes=False)] if value else []

    origins = [origin]

    def replacement(found: t.Match[str]) -> str:
        if found.group(1) == "$":
            return "$"
        value = environment.get(found.group(2))
        if value:
            origins.append(value.origin)
        return value.text if value else ""

    return [Text(_VARIABLE.sub(replacement, word), origins[-1])]
