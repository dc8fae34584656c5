# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Flows that an old ovs-vswitchd must not be asked for, told by what ``bridge/dump-flows`` shows of them.

One before 2.17, 2.16.3, 2.15.4, 2.14.5 or 2.13.7 ends when a flow takes more than 64 KB in the OpenFlow version in which it is
asked for, and another one follows ("Skip flow reply if it exceeds the maximum message size").  Newer ones leave such a flow
out.  A controller that speaks another version can have made it: an output has 8 bytes in OpenFlow 1.0, and 16 in all others.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.versions import version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

# What a flow has besides its actions: its match names each field once at most.
_REST = 4096
# The shortest word has one letter, and a separator behind it.
_LETTERS = 2
# Bytes that a word stands for on the wire, at most; any other one has those of its names and numbers besides.
_SMALL, _LARGE = 16, 24
_WORD = re.compile(r"resubmit\([^)]*\)|[^,()]+")
_IS_SMALL = re.compile(r"output:[\w.-]+|resubmit\(.*|\w+")
# What OVN has one of for each port.
_IS_LARGE = re.compile(
    r"(?:set_field|load):0x[0-9a-f]{1,16}->(?:reg\d+|metadata|NXM_NX_REG\d+\[[\d.]*\]|OXM_OF_METADATA\[[\d.]*\])"
)


def ends_over_large_flows(software: str) -> bool:
    """Whether an ovs-vswitchd of that version may; distributions have repaired some without saying so."""
    return () < version(software) < (2, 17)


def large_flows(text: str) -> t.Iterator[str]:
    """Those of ``bridge/dump-flows`` that may take more than a message in some version, without their actions."""
    shortest = (wire.MAX_MESSAGE - _REST) // _SMALL * _LETTERS
    for line in text.splitlines():
        if len(line) < shortest:
            continue
        match, __, actions = line.partition("actions=")
        if sum(map(_most, _WORD.findall(actions))) > wire.MAX_MESSAGE - _REST:
            yield match.rpartition("n_bytes=")[2].partition(", ")[2].rstrip(",")


def _most(word: str) -> int:
    if _IS_SMALL.fullmatch(word):
        return _SMALL
    # Of names and numbers the wire needs no more bytes than the text.
    return _LARGE if _IS_LARGE.fullmatch(word) else _LARGE + len(word)
