# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Bonds as ovs-vswitchd shows them (bond_print_details in ofproto/bond.c)."""

from __future__ import annotations

import re
import typing as t

SLB = "balance-slb"

_BOND = re.compile(r"^---- (.+) ----$", re.MULTILINE)
_MODE = re.compile(r"^bond_mode: (.+)$", re.MULTILINE)
_MEMBER = re.compile(r"^(?:member|slave) (.+): (enabled|disabled)$", re.MULTILINE)
_ACTIVE = re.compile(r"^  active (?:member|slave)$", re.MULTILINE)
_HASH = re.compile(r"^  hash (\d+): \d+ kB load$", re.MULTILINE)


class Member(t.NamedTuple):
    """A member of a bond; ``hashes`` are those that it carries, as far as they have a load that is worth a line."""

    enabled: bool
    active: bool
    hashes: tuple[int, ...]


class Bond(t.NamedTuple):
    """A bond, its members by name."""

    mode: str
    members: t.Mapping[str, Member]


def parse(shown: str) -> dict[str, Bond]:
    """Each bond in what ``bond/show`` tells."""
    names = _BOND.split(shown)[1:]
    return {name: _bond(told) for name, told in zip(names[::2], names[1::2])}


def _bond(told: str) -> Bond:
    head, *members = _MEMBER.split(told)
    mode = _MODE.search(head)
    each = zip(members[::3], members[1::3], members[2::3])
    return Bond(mode[1] if mode else "", {name: _member(state, more) for name, state, more in each})


def _member(state: str, told: str) -> Member:
    hashes = tuple(int(number) for number in _HASH.findall(told))
    return Member(state == "enabled", bool(_ACTIVE.search(told)), hashes)


def stand_ins(found: t.Mapping[str, Bond]) -> dict[str, str]:
    """The active member for each member of a bond: the others may drop what comes in there (bond_check_admissibility)."""
    return {
        member: active
        for bond in found.values()
        for active, state in bond.members.items()
        if state.active
        for member in bond.members
    }


def assignments(old: t.Mapping[str, Bond], new: t.Mapping[str, Bond]) -> list[tuple[str, ...]]:
    """The commands that make ``new`` send what ``old`` sends by the same members: hashes of balance-slb, and the active one.

    Those of balance-tcp cannot be told (bond_unixctl_migrate).  The active one comes last: it tells switches of MAC addresses by
    the members of their hashes.
    """
    found: list[tuple[str, ...]] = []
    active: list[tuple[str, ...]] = []
    for name, bond in old.items():
        known = new[name].members if name in new else {}
        for member, was in bond.members.items():
            if member not in known or not known[member].enabled:
                continue
            if was.active and not known[member].active:
                active.append(("bond/set-active-member", name, member))
            if bond.mode == SLB:
                found += [("bond/migrate", name, str(number), member) for number in was.hashes]
    return found + active
