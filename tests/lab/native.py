# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The native backend (engineer E)."""

from __future__ import annotations

from hosts import Host, Lab
from images import LabError


def prepare(ovs: str | None) -> None:
    raise LabError("the native backend is not there yet")


def start(lab: Lab, host: Host) -> Lab:
    raise LabError("the native backend is not there yet")
