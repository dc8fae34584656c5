# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster of two nodes for all tests; KUBE_LAB names one that is up already, and stays."""

from __future__ import annotations

import os
import typing as t

import pytest

from tests.harness.traces import traces
from tests.kube.cluster import Cluster
from tests.lab import hosts
from tests.lab import lab as laboratory

FROM, TO = "3.1.0", "3.5.0"


@pytest.fixture(scope="session")
def cluster() -> t.Iterator[Cluster]:
    """Two nodes, Open vSwitch 3.1.0 in a pod on each, with bridges and traffic endpoints."""
    if "KUBE_LAB" in os.environ:
        yield Cluster(hosts.require(os.environ["KUBE_LAB"]))
        return
    name = f"kube-{os.getpid()}"
    try:
        lab = laboratory.up(name, "kubernetes", 2, FROM)
        laboratory.populate(lab, [])
        yield Cluster(lab)
    finally:
        hosts.down(name)
    assert traces(name) == []
