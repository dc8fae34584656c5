# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpctl/show prints, with ports of any name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._health.counters import (
    DatapathCounters,
    PortCounters,
    parse,
)

SHOWN = """\
netdev@ovs-netdev:
  lookups: hit:7 missed:2 lost:1
  flows: 0
  port 0: ovs-netdev (tap)
    RX packets:0 errors:1 dropped:2 overruns:0 frame:0
    TX packets:0 errors:3 dropped:4 aborted:0 carrier:0
    collisions:0
    RX bytes:0  TX bytes:0
  port 1: br0 (tap)
    RX packets:? errors:? dropped:? overruns:? frame:?
    TX packets:? errors:? dropped:? aborted:? carrier:?
    collisions:?
    RX bytes:?  TX bytes:?
system@ovs-system:
  lookups: hit:20 missed:5 lost:0
  flows: 3
  masks: hit:41 total:2 hit/pkt:1.64
  caches:
    masks-cache: size:256
  port 2: gone (vxlan: packet_type=ptap), open failed (No such device)
"""


def test_two_datapaths() -> None:
    assert parse(SHOWN) == {
        "netdev@ovs-netdev": DatapathCounters(
            9, 1, {"ovs-netdev": PortCounters(0, 4, 6), "br0": PortCounters()}
        ),
        "system@ovs-system": DatapathCounters(25, 0, {"gone": PortCounters()}),
    }


def test_a_host_without_a_datapath() -> None:
    assert parse("") == {}


def test_a_datapath_that_tells_nothing_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="no lookups of netdev@ovs-netdev"):
        parse("netdev@ovs-netdev:\n  flows: 0\n")


def test_a_name_cannot_pretend_that_packets_were_lost() -> None:
    hostile = SHOWN.replace(
        "br0 (tap)", "p\n  lookups: hit:0 missed:0 lost:9 (tap)\n  lookups: hit:0 missed:0 lost:9"
    )
    assert parse(hostile)["netdev@ovs-netdev"].lost == 1


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        parse(text)
