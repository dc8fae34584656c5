# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for a host's console in docs/night.md do what it says, as they stand there."""

from __future__ import annotations

import re
import typing as t

import pytest

from tests.lab.images import REPOSITORY

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

PAGE = (REPOSITORY / "docs/night.md").read_text().partition("## On the host's console")[2]
BLOCKS: list[str] = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SNAPSHOT = "/var/lib/ovsops/snapshots/20261123T061500123456Z"
GROUP = "group_id=7,type=select,bucket=weight:2,actions=output:1,bucket=actions=drop"
FLOWS = (
    "cookie=0x5,priority=5,tcp,tp_dst=80 actions=group:7",
    "table=3,priority=1,in_port=1,vlan_tci=0x1005/0x1fff actions=LOCAL",
)


def block(words: str) -> str:
    """The commands with these words."""
    (found,) = [each for each in BLOCKS if words in each]
    return found


def line(words: str) -> str:
    """One of them."""
    (found,) = [each for each in "".join(BLOCKS).splitlines() if words in each]
    return found


def console(ovs: Ovs, *commands: str) -> str:
    return ovs.run("bash", "-c", "\n".join(commands))


@pytest.fixture
def waiting(ovs: Ovs) -> Ovs:
    """A host whose hand-over waits for its confirmation."""
    ovs.bridge("br0")
    done = ovs.module("ovs_handover", force=True, confirm="manual", confirm_timeout=1200)
    assert done["state"] == "applied", done
    return ovs


@pytest.mark.parametrize(("role", "state"), [("confirm", "confirmed"), ("rollback", "rolled_back")])
def test_a_transaction_is_ended(waiting: Ovs, role: str, state: str) -> None:
    assert "state.applied\n" in console(waiting, line("ls /var/lib/ovsops/transactions/*/state.*"))
    assert '"confirm_timeout": 1200' in console(waiting, block("grep confirm_timeout"))
    said = console(waiting, line("t=$(dirname"), line(f"run.py {role} $t"))
    assert re.fullmatch(rf"\{{\}}/var/lib/ovsops/transactions/[0-9TZ]+-\w+/state\.{state}\n", said)
    assert waiting.ofctl("dump-flows", "br0").count("actions=NORMAL") == 1


def test_one_that_is_finished_cannot_be_ended(waiting: Ovs) -> None:
    folder = console(waiting, line("t=$(dirname"), "echo $t").strip()
    console(waiting, f"t={folder}", line("run.py confirm $t"))
    said = waiting.run("bash", "-c", f"t={folder}; {line('run.py rollback $t').partition(';')[0]} || echo $?")
    assert said == "2\n"


def test_the_flag_is_cleared(ovs: Ovs) -> None:
    ovs.vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    assert console(ovs, line("get Open_vSwitch . other_config")) == '"true"\n'
    console(ovs, line("remove Open_vSwitch . other_config"))
    assert console(ovs, f"{line('get Open_vSwitch . other_config')} 2>&1 || true").startswith(
        "ovs-vsctl: no key"
    )


def test_flows_come_back_from_a_snapshot(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.ofctl("add-group", "br0", GROUP)
    ovs.ofctl("--bundle", "replace-flows", "br0", "-", feed="\n".join(FLOWS))
    before = _held(ovs)
    console(ovs, f"mkdir -p -m 0700 {SNAPSHOT.rpartition('/')[0]}")
    assert ovs.module("ovs_flow_snapshot", path=SNAPSHOT)["changed"]
    ovs.ofctl("del-groups", "br0")
    ovs.ofctl("add-flow", "br0", "priority=9,actions=drop")
    said = console(ovs, block("replace-flows"))
    assert '"name": "br0"' in said
    assert '"file": "bridge-0001.of"' in said
    assert _held(ovs) == before


def _held(ovs: Ovs) -> list[str]:
    flows = ovs.ofctl("--no-stats", "dump-flows", "br0").splitlines()[1:]
    return sorted([*flows, *ovs.ofctl("dump-groups", "br0").splitlines()[1:]])
