# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bonds as ovs-vswitchd shows them, and what makes another process send by the same members."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import bonds
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.bonds import Bond, Member

# Of 3.5 and, with other words, of 2.15.
SHOWN = """\
---- bond 0 ----
bond_mode: balance-slb
bond may use recirculation: no, Recirc-ID : -1
next rebalance: 4288 ms
lacp_status: negotiated
active-backup primary: <none>
active member mac: 02:00:00:00:00:02(a: 2)

member a: 2: enabled
  active member
  may_enable: true
  hash 5: 12 kB load
  hash 77: 1 kB load

member a1: disabled
  may_enable: false

---- old ----
bond_mode: active-backup
active slave mac: 02:00:00:00:00:03(b1)

slave b1: enabled
  active slave
  may_enable: true
"""


def test_what_is_shown() -> None:
    assert bonds.parse(SHOWN) == {
        "bond 0": Bond("balance-slb", {"a: 2": Member(True, True, (5, 77)), "a1": Member(False, False, ())}),
        "old": Bond("active-backup", {"b1": Member(True, True, ())}),
    }
    assert bonds.parse("") == {}


def bond(mode: str, **members: tuple[bool, bool, tuple[int, ...]]) -> dict[str, Bond]:
    return {"bond0": Bond(mode, {name: Member(*member) for name, member in members.items()})}


def test_what_comes_in_by_a_member_is_taken_at_the_active_one() -> None:
    assert bonds.stand_ins(bond("active-backup", a=(True, False, ()), b=(True, True, ()))) == {
        "a": "b",
        "b": "b",
    }
    assert bonds.stand_ins(bond("active-backup", a=(False, False, ()), b=(False, False, ()))) == {}


def test_a_new_process_sends_by_the_members_of_the_old_one() -> None:
    old = bond(bonds.SLB, a=(True, True, (5, 9)), b=(True, False, (7,)))
    new = bond(bonds.SLB, a=(True, False, ()), b=(True, True, ()))
    assert bonds.assignments(old, new) == [
        ("bond/migrate", "bond0", "5", "a"),
        ("bond/migrate", "bond0", "9", "a"),
        ("bond/migrate", "bond0", "7", "b"),
        ("bond/set-active-member", "bond0", "a"),
    ]


def test_only_what_the_new_process_takes_is_asked_for() -> None:
    old = bond("balance-tcp", a=(True, True, (5,)), b=(True, False, (7,)))
    assert bonds.assignments(old, bond("balance-tcp", a=(True, True, ()), b=(True, False, ()))) == []
    assert bonds.assignments(old, bond("balance-tcp", a=(False, False, ()), b=(True, True, ()))) == []
    assert bonds.assignments(old, {}) == []
