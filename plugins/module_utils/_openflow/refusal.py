# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a switch has refused: all of it at once, as OpenFlow text, with the cause that the switch wrote into its log.

The tools on the disk may be older than the running switch and unable to print what it holds; that switch can
(``bridge/dump-flows``, ovs-vswitchd(8)).
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as _oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import last_words

# So many objects are in a message; the rest is counted.
SHOWN = 20
# So many lines of a log.
_LOG_LINES = 5

_HINT = "The bridge is as it was before. Correct or delete that object where the snapshot was taken, and take it again"
_COUNTS = re.compile(
    r"(?:table_id|table|cookie|duration|n_packets|n_bytes|n_offload_packets|n_offload_bytes)=[^, ]*,? ?"
)
_GROWING = re.compile(r"(?:duration|n_packets|n_bytes|n_offload_packets|n_offload_bytes)=[^, ]*, ?")
_WORSE = re.compile(r"\|(?:WARN|ERR|EMER)\|(.*)")


class Refusal(Refused):
    """A switch has refused ``objects``, each with the name of the error; of the switch ``name``."""

    def __init__(self, name: str, objects: t.Sequence[tuple[bytes, str]]) -> None:
        self.bridge, self.objects = (
            name.removesuffix(".mgmt"),
            tuple(objects),
        )  # of a switch that is named by its socket
        super().__init__(*_told(name, self.objects), _HINT)


def texts(objects: t.Sequence[tuple[bytes, str]]) -> list[tuple[str, str]]:
    """The first of ``objects`` as text, each with its error."""
    shown = objects[:SHOWN]
    return list(zip(_oftext.lines([message for message, __ in shown]), (error for __, error in shown)))


def _told(name: str, objects: t.Sequence[tuple[bytes, str]]) -> tuple[str, str]:
    told = texts(objects)
    if len(objects) == 1:
        return f"{name}: the switch refused {told[0][0]}", told[0][1]
    more = f"; and {len(objects) - len(told)} more" if len(objects) > len(told) else ""
    return f"{name}: the switch refused {len(objects)} objects", "; ".join(map(": ".join, told)) + more


@contextlib.contextmanager
def explaining(argv: t.Sequence[str], dump: t.Callable[[str], str]) -> t.Iterator[list[Refusal]]:
    """Raise what was refused, or put into the list, as an operator needs it.

    ``argv`` is the command line of the daemon that may refuse; ``dump`` asks the old switch for all flows of a bridge, if it
    still can (``HotUpgradeError`` if not).
    """
    log, refusals = Log(argv), list[Refusal]()
    try:
        yield refusals
    except Refusal as refusal:
        refusals.append(refusal)
    if refusals:
        raise explained(refusals, dump, log.complaints()) from refusals[0]


def explained(refusals: t.Sequence[Refusal], dump: t.Callable[[str], str], log: str) -> HotUpgradeError:
    """All that was refused in one message, with the words of the ``log``."""
    parts = []
    for refusal in refusals:
        told = texts(refusal.objects)
        if any(_oftext.unreadable(text) for text, __ in told):
            told = _completed(refusal, told, dump)
        more = len(refusal.objects) - len(told)
        parts.append(
            f"bridge {refusal.bridge}: {'; '.join(map(': '.join, told))}{f'; and {more} more' if more else ''}"
        )
    if log:
        parts.append(f"it wrote into its log: {log}")
    return HotUpgradeError(
        f"the new version refuses {sum(len(refusal.objects) for refusal in refusals)} of the OpenFlow objects",
        ". ".join(parts),
        "Change or delete what is named, or choose another version, and start again",
    )


def _completed(
    refusal: Refusal, told: t.Sequence[tuple[str, str]], dump: t.Callable[[str], str]
) -> list[tuple[str, str]]:
    """The texts with the lines of the old switch for flows that the program could not print."""
    try:
        lines = dump(refusal.bridge).splitlines()
    except HotUpgradeError:
        return list(told)
    found = []
    for (text, error), (message, __) in zip(told, refusal.objects):
        if _oftext.unreadable(text) and wire.is_flow_mod(message):
            text = next(
                (f"flow {_GROWING.sub('', line)}" for line in lines if _same(line, text, message)), text
            )
        found.append((text, error))
    return found


def _same(line: str, text: str, message: bytes) -> bool:
    """Whether a line of the switch's dump is the flow that ``text`` tells the match of."""
    table = re.search(r"\btable_id=(\d+)", line)
    if (int(table[1]) if table else 0) != wire.flow_fields(message).table:
        return False
    match = _COUNTS.sub("", text.partition(" (")[0]).replace("flow ", "")
    return _COUNTS.sub("", line).startswith(f"{match},actions=")


class Log:
    """What a daemon with the command line ``argv`` writes into its log from now on."""

    def __init__(self, argv: t.Sequence[str]) -> None:
        self._argv, self._begin = argv, last_words.log_size(argv)

    def complaints(self) -> str:
        """The last warnings and errors since then, without their time and number."""
        text = last_words.written(self._argv, self._begin)
        found = dict.fromkeys(match[1].strip() for match in _WORSE.finditer(text))
        return " / ".join([*found][-_LOG_LINES:])
