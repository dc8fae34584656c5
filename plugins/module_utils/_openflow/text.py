# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""OpenFlow messages as text for people, written by ``ovs-ofctl`` itself.

Used for errors, differences and printing only: nothing is ever restored from text.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH

_MESSAGE = re.compile(
    r"^(?:OFPT|NXT|ONFT|OFPST|NXST)_\w+(?: reply)?(?: \(OF1\.\d\))? \(xid=0x[0-9a-f]+\):?", re.MULTILINE
)
_STATISTICS = re.compile(r"\b(?:duration|n_packets|n_bytes|idle_age|hard_age)=[^, ]*,? ?")
_TIMEOUT = 60.0
NOBODY: dict[str, t.Any] = {"user": 65534, "group": 65534, "extra_groups": []}
_UNREADABLE = "***decode error"
_UNKNOWN = " (this ovs-ofctl cannot read the rest)"


def lines(messages: t.Sequence[bytes], program: str = "ovs-ofctl") -> list[str]:
    """One line of OpenFlow text for each message, as ``flow ADD table=0 …``; without ``program`` a short description."""
    if not messages:
        return []
    texts = _texts(messages, program)
    unread = [message for message, text in zip(messages, texts) if text is None]
    short = iter(_short(unread, program))
    return [
        f"{kind(message)} {next(short) if text is None else _tidy(text)}".rstrip()
        for message, text in zip(messages, texts)
    ]


def _texts(messages: t.Sequence[bytes], program: str) -> list[str | None]:
    """What the program prints of each, None where it cannot read it."""
    texts = [" ".join(part.split()) for part in _MESSAGE.split(_printed(messages, program))[1:]]
    if len(texts) != len(messages):
        return [None] * len(messages)
    return [None if _UNREADABLE in text else text for text in texts]


def line(message: bytes) -> str:
    """One message as text."""
    return lines([message])[0]


def kind(message: bytes) -> str:
    """What a message is about, in one word."""
    if wire.is_flow_mod(message):
        return "flow"
    if wire.is_group_mod(message):
        return "group"
    if wire.is_port_status(message):
        return "port"
    names = {wire.METER_MOD: "meter", wire.TABLE_MOD: "table", wire.SET_CONFIG: "fragments"}
    return names.get(message[1], "tlv-map")


def unreadable(text: str) -> bool:
    """Whether this line lacks what the program could not read."""
    return text.endswith(_UNKNOWN)


def _short(messages: t.Sequence[bytes], program: str) -> list[str]:
    """What can be told of messages that this ovs-ofctl cannot read (or if there is none): of flows all but the actions."""
    bare = [wire.without_actions(message) for message in messages if wire.is_flow_mod(message)]
    matches = iter(_texts(bare, program) if bare else [])
    return [_what(message, next(matches) if wire.is_flow_mod(message) else None) for message in messages]


def _what(message: bytes, match: str | None) -> str:
    if match is not None:
        return _tidy(match).partition(" actions=")[0] + _UNKNOWN
    if wire.is_flow_mod(message):
        flow = wire.flow_fields(message)
        return f"cookie={flow.cookie:#x}, table={flow.table}, priority={flow.priority}{_UNKNOWN}"
    if wire.is_group_mod(message):
        kind = dict(enumerate(("all", "select", "indirect", "ff"))).get(wire.group_type(message), "?")
        return f"group_id={wire.group_id(message)},type={kind}{_UNKNOWN}"
    return _UNKNOWN.strip()


def _tidy(text: str) -> str:
    return re.sub(r"^(?:ADD|MOD:) ", "", _STATISTICS.sub("", text))


def _printed(messages: t.Sequence[bytes], program: str) -> str:
    """What ovs-ofctl prints of them; it runs as nobody, since they come from a switch that may be anybody's."""
    with tempfile.TemporaryFile() as file:
        file.writelines(wire.flow_statistics(data) if wire.is_flow_mod(data) else data for data in messages)
        file.seek(0)
        try:
            done = subprocess.run(
                [program, "ofp-parse", "-"],
                env={**os.environ, "LC_ALL": "C", "PATH": PATH},
                cwd="/",
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT,
                check=False,
                **(NOBODY if os.geteuid() == 0 else {}),
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return str(done.stdout, "utf-8", "backslashreplace")
