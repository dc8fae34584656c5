# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""CFM as ovs-vswitchd shows it, and what the remote end of an interface would say (IEEE 802.1ag, lib/cfm.c)."""

from __future__ import annotations

import re
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError

_ENDPOINT = re.compile(r"^---- (.+) ----$", re.MULTILINE)
_OWN = re.compile(r"^MPID (\d+):(.*)$", re.MULTILINE)
_REMOTE = re.compile(r"^Remote MPID (\d+)$", re.MULTILINE)
_INTERVAL = re.compile(r"^  interval: (\d+)ms$", re.MULTILINE)
_FAULT = re.compile(r"^\s*fault: (.*)$", re.MULTILINE)

# The code of each interval in milliseconds (IEEE 802.1ag, table 21-16); 0 for others, which the extended mode has.
_CODES = {3: 1, 10: 2, 100: 3, 1000: 4, 10000: 5, 60000: 6, 600000: 7}
_MESSAGE = struct.Struct("!BBBBIH48sHQB5xB")
_CHECK, _FIRST_TLV = 1, 70
# Maintenance association of Open vSwitch (cfm_generate_maid): "ovs" in "ovs", as character strings.
_ASSOCIATION = (b"\x04\x03ovs" + b"\x02\x03ovs").ljust(48, b"\0")
_TO, _TO_EXTENDED = bytes.fromhex("0180c2000030"), bytes.fromhex("012320000030")
# Nobody looks at who sent it.
_FROM = bytes.fromhex("020000000001")
_TYPE = bytes.fromhex("8902")


class Endpoint(t.NamedTuple):
    """An interface that runs CFM: its MPID, those of its remote ends, the interval in milliseconds, and what is wrong."""

    mpid: int
    extended: bool
    interval: int
    remotes: tuple[int, ...]
    fault: str


def parse(shown: str) -> dict[str, Endpoint]:
    """Each interface in what ``cfm/show`` tells.  Raises ``ProtocolError`` for one that lacks something."""
    names = _ENDPOINT.split(shown)[1:]
    return {name: _endpoint(name, told) for name, told in zip(names[::2], names[1::2])}


def _endpoint(name: str, told: str) -> Endpoint:
    own, interval, fault = _OWN.search(told), _INTERVAL.search(told), _FAULT.search(told)
    if own is None or interval is None:
        raise ProtocolError(
            f"what is shown of CFM on {name} cannot be understood", "MPID or interval is missing"
        )
    return Endpoint(
        int(own[1]),
        "extended" in own[2],
        int(interval[1]),
        tuple(int(number) for number in _REMOTE.findall(told)),
        fault[1] if fault else "",
    )


def from_remotes(endpoint: Endpoint) -> list[bytes]:
    """The frames with the continuity checks that the remote ends would send now."""
    return [_frame(endpoint, mpid) for mpid in endpoint.remotes]


def _frame(endpoint: Endpoint, mpid: int) -> bytes:
    code = _CODES.get(endpoint.interval, 0)
    extended = endpoint.extended
    rest = (0 if code else endpoint.interval, mpid) if extended else (0, 0)
    check = _MESSAGE.pack(0, _CHECK, code, _FIRST_TLV, 0, mpid & 0xFFFF, _ASSOCIATION, *rest, 0, 0)
    return (_TO_EXTENDED if extended else _TO) + _FROM + _TYPE + check
