# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The connections that the userspace datapath of ovs-vswitchd tracks (dpctl(8), lib/ct-dpif.c)."""

from __future__ import annotations

import re
import socket
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl

# The datapath that all bridges with datapath_type=netdev share (dpif-netdev.c, dpif_netdev_enumerate).
DATAPATH = "netdev@ovs-netdev"

TCP, UDP, SCTP, ICMP, ICMPV6 = "tcp", "udp", "sctp", "icmp", "icmpv6"
# What has ports; those of SCTP are known since 3.2 (conntrack.c, extract_l4).
PORTED = frozenset([TCP, UDP, SCTP])
# Others are shown by their numbers (ct-dpif.c, ct_dpif_format_ipproto).
_NUMBERS = {TCP: 6, UDP: 17, SCTP: 132, ICMP: 1, ICMPV6: 58, "udplite": 136, "dccp": 33, "igmp": 2}
WINDOW_SCALE, BE_LIBERAL = "WINDOW_SCALE", "BE_LIBERAL"

_LINE = re.compile(r"^(\w+),orig=\(([^()]*)\),reply=\(([^()]*)\)(.*)$")
_FIELD = re.compile(r",(\w+)=(\([^()]*\)|[^,()]*)")
_TIMEOUT = re.compile(r",timeout=(\d+)")


class Tuple(t.NamedTuple):
    """One direction of a connection: addresses as 4 or 16 bytes, and ports.

    ICMP has no ports: ``source`` is the identifier, ``target`` type << 8 | code.
    """

    src: bytes
    dst: bytes
    source: int
    target: int


# What tells a connection apart from others: protocol, its first direction, zone.
Key = tuple[str, Tuple, int]


class TcpState(t.NamedTuple):
    """The states of both ends by name; their window scales, and the flags of lib/ct-dpif.h."""

    orig: str
    reply: str
    scale_orig: int = 0
    scale_reply: int = 0
    flags_orig: frozenset[str] = frozenset()
    flags_reply: frozenset[str] = frozenset()


class Entry(t.NamedTuple):
    """A tracked connection; ``line`` is what shows it, without what changes with time.

    ``tcp`` is None for other protocols; ``helper`` the name of an application layer gateway; ``timeout`` is what is left of it,
    in seconds.
    """

    line: str
    protocol: str
    orig: Tuple
    reply: Tuple
    zone: int = 0
    mark: int = 0
    labels: int = 0
    tcp: TcpState | None = None
    helper: str = ""
    timeout: int = 0

    @property
    def key(self) -> Key:
        """What tells it apart from others."""
        return self.protocol, self.orig, self.zone

    @property
    def content(self) -> Entry:
        """All that is carried of it: versions differ in how they show the same."""
        return self._replace(line="", timeout=0)


def number(protocol: str) -> int:
    """The number of a protocol (IANA) by what shows it.  Raises ``ValueError`` for one that has none."""
    return _NUMBERS[protocol] if protocol in _NUMBERS else _number(protocol, 8)


def count(control: Appctl) -> int:
    """How many connections are tracked (2.10): a counter, nothing is walked.

    Raises ``HotUpgradeError`` where there is no userspace datapath.
    """
    found = control.call("dpctl/ct-get-nconns", DATAPATH).strip()
    return int(found) if found.isdecimal() else 0


def dump(control: Appctl) -> list[str]:
    """A line for each connection that has not expired.  Raises ``HotUpgradeError`` where there is no userspace datapath."""
    return control.call("dpctl/dump-conntrack", "-m", "-s", DATAPATH).splitlines()


def lasting(line: str) -> str:
    """A line of ``dump`` without what changes with time."""
    return _TIMEOUT.sub("", line)


def parse(line: str) -> Entry:
    """A line of ``dump``.  Raises ``ProtocolError`` for one that is not understood."""
    match = _LINE.match(line)
    if match is None:
        raise _misunderstood("it has no tuples")
    protocol, orig, reply, rest = match.groups()
    fields = dict(_FIELD.findall(rest))
    try:
        number(protocol)
        entry = Entry(
            lasting(line),
            protocol,
            _tuple(protocol, orig),
            _tuple(protocol, reply),
            _number(fields.get("zone", "0"), 16),
            _number(fields.get("mark", "0"), 32),
            _number(fields.get("labels", "0"), 128, 16),
            _tcp(fields["protoinfo"]) if protocol == TCP else None,
            fields.get("helper", ""),
            _number(fields.get("timeout", "0"), 32),
        )
    except (KeyError, ValueError) as error:
        raise _misunderstood(f"{type(error).__name__}: {error}") from error
    if len({len(address) for ends in (entry.orig, entry.reply) for address in ends[:2]}) != 1:
        raise _misunderstood("its addresses are of two kinds")
    return entry


def _misunderstood(why: str) -> ProtocolError:
    return ProtocolError("what is shown of them cannot be understood", why)


def _number(text: str, bits: int, base: int = 10) -> int:
    number = int(text, base)
    if not 0 <= number < 1 << bits:
        raise ValueError(text)
    return number


def _fields(text: str) -> dict[str, str]:
    return dict(t.cast("tuple[str, str]", item.split("=", 1)) for item in text.split(",") if "=" in item)


def _tuple(protocol: str, text: str) -> Tuple:
    fields = _fields(text)
    ends = _address(fields["src"]), _address(fields["dst"])
    if protocol in (ICMP, ICMPV6):
        kind = _number(fields["type"], 8) << 8 | _number(fields["code"], 8)
        return Tuple(*ends, _number(fields["id"], 16), kind)
    return Tuple(*ends, _number(fields["sport"], 16), _number(fields["dport"], 16))


def _address(text: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError as error:
        raise ValueError(text) from error


def _tcp(text: str) -> TcpState:
    fields = _fields(text.strip("()"))
    # Where there are none, 3.0 and older say nothing.
    flags = (frozenset(fields.get(name, "").split("|")) - {"", "0"} for name in ("flags_orig", "flags_reply"))
    return TcpState(
        fields["state_orig"],
        fields["state_reply"],
        _number(fields.get("wscale_orig", "0"), 4),
        _number(fields.get("wscale_reply", "0"), 4),
        *flags,
    )


# What an administrator has set by ovs-appctl, and no database keeps: what shows it, as what, and what sets it.
_SETTINGS = (
    ("ct-get-maxconns", re.compile(r"^(\d+)$", re.MULTILINE), ("ct-set-maxconns", "{}")),
    ("ct-get-sweep-interval", re.compile(r"^(\d+)$", re.MULTILINE), ("ct-set-sweep-interval", "{}")),
    ("ct-get-limits", re.compile(r"^default limit=(\d+)$", re.MULTILINE), ("ct-set-limits", "default={}")),
    ("ct-get-limits", re.compile(r"^(zone=\d+,limit=\d+)", re.MULTILINE), ("ct-set-limits", "{}")),
    ("ipf-get-status", re.compile(r"max num frags \(v4/v6\): (\d+)"), ("ipf-set-max-nfrags", "{}")),
    ("ipf-get-status", re.compile(r"(v[46]) enabled: 0"), ("ipf-set-disabled", "{}")),
)
_CHECKED = re.compile(r"checking: enabled")


def settings(old: Appctl, new: Appctl) -> list[str]:
    """Set in one process what is set in another one; returns what it refuses, a sentence each."""
    refused = []
    if checks_sequence_numbers(new) and not checks_sequence_numbers(old):
        check_no_sequence_numbers(new)
    for shows, shown, (command, argument) in _SETTINGS:
        told = _shown(new, shows)
        there = frozenset(shown.findall(told))
        for value in shown.findall(_shown(old, shows)):
            if value in there or not told:  # a version without it has nothing to set
                continue
            try:
                new.call(f"dpctl/{command}", DATAPATH, argument.format(value))
            except HotUpgradeError as error:
                refused.append(f"dpctl/{command} {argument.format(value)}: {error.why}")
    return refused


def checks_sequence_numbers(control: Appctl) -> bool:
    """Whether a TCP segment outside of the window is invalid (conntrack_get_tcp_seq_chk)."""
    return bool(_CHECKED.search(_shown(control, "ct-get-tcp-seq-chk")))


def check_no_sequence_numbers(control: Appctl) -> None:
    """Have each TCP segment of a known connection be valid, whatever its numbers are."""
    control.call("dpctl/ct-disable-tcp-seq-chk", DATAPATH)


def _shown(control: Appctl, command: str) -> str:
    """Empty where the version does not know the command."""
    try:
        return control.call(f"dpctl/{command}", DATAPATH)
    except Unreachable:
        raise
    except HotUpgradeError:
        return ""
