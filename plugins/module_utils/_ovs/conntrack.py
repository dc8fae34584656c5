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

TCP, UDP, ICMP, ICMPV6 = "tcp", "udp", "icmp", "icmpv6"
# What the userspace datapath tracks (conntrack.c, extract_l4), by its number (IANA).
NUMBERS = {TCP: 6, UDP: 17, ICMP: 1, ICMPV6: 58}
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

    ``tcp`` is None for other protocols; ``helper`` the name of an application layer gateway; ``related`` tells that such a one
    has opened it; ``timeout`` is what is left of it in seconds, None where nobody asked.
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
    related: bool = False
    timeout: int | None = None

    @property
    def key(self) -> tuple[str, Tuple, int]:
        """What tells it apart from others."""
        return self.protocol, self.orig, self.zone

    @property
    def content(self) -> Entry:
        """All that is carried of it: versions differ in how they show the same."""
        return self._replace(line="", timeout=None)


def dump(control: Appctl, timeouts: bool = False) -> list[str]:
    """A line for each connection that has not expired; with ``timeouts`` each line tells how much of it is left.

    Raises ``HotUpgradeError`` where there is no userspace datapath.
    """
    options = ("-m", "-s") if timeouts else ("-m",)
    return control.call("dpctl/dump-conntrack", *options, DATAPATH).splitlines()


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
        timeout = fields.get("timeout")
        return Entry(
            lasting(line),
            protocol,
            _tuple(protocol, orig),
            _tuple(protocol, reply),
            int(fields.get("zone", 0)),
            int(fields.get("mark", 0)),
            int(fields.get("labels", "0"), 16),
            _tcp(fields["protoinfo"]) if protocol == TCP else None,
            fields.get("helper", ""),
            "parent" in fields,
            int(timeout) if timeout else None,
        )
    except (KeyError, ValueError) as error:
        raise _misunderstood(f"{type(error).__name__}: {error}") from error


def _misunderstood(why: str) -> ProtocolError:
    return ProtocolError("what is shown of it cannot be understood", why)


def _fields(text: str) -> dict[str, str]:
    return dict(t.cast(tuple[str, str], item.split("=", 1)) for item in text.split(",") if "=" in item)


def _tuple(protocol: str, text: str) -> Tuple:
    fields = _fields(text)
    addresses = _address(fields["src"]), _address(fields["dst"])
    if protocol in (ICMP, ICMPV6):
        return Tuple(*addresses, int(fields["id"]), int(fields["type"]) << 8 | int(fields["code"]))
    return Tuple(*addresses, int(fields["sport"]), int(fields["dport"]))


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
        int(fields.get("wscale_orig", 0)),
        int(fields.get("wscale_reply", 0)),
        *flags,
    )


# What an administrator has set by ovs-appctl, and no database keeps: what shows it, as what, and what sets it.
_SETTINGS = (
    ("ct-get-maxconns", re.compile(r"^(\d+)$", re.MULTILINE), ("ct-set-maxconns", "{}")),
    ("ct-get-sweep-interval", re.compile(r"^(\d+)$", re.MULTILINE), ("ct-set-sweep-interval", "{}")),
    ("ct-get-limits", re.compile(r"^default limit=(\d+)$", re.MULTILINE), ("ct-set-limits", "default={}")),
    ("ct-get-limits", re.compile(r"^(zone=\d+,limit=\d+)", re.MULTILINE), ("ct-set-limits", "{}")),
    ("ipf-get-status", re.compile(r"max num frags \(v4/v6\): (\d+)"), ("ipf-set-max-nfrags", "{}")),
)
_CHECKED = re.compile(r"checking: enabled")


def settings(old: Appctl, new: Appctl) -> list[str]:
    """Set in one process what is set in another one; returns what it refuses, a sentence each."""
    refused = []
    for shows, shown, (command, argument) in _SETTINGS:
        there = frozenset(shown.findall(_shown(new, shows)))
        for value in shown.findall(_shown(old, shows)):
            if value in there or not there:  # a version without it has nothing to set
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
