# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Where Open vSwitch runs in pods; _ansible.CONTAINERS is the same in code.
    DOCUMENTATION = r"""
options:
  container:
    description:
      - Where Open vSwitch runs in pods, the id of the container that is to have the daemons next. Its programs are what is on
        the disk.
      - It is what C(kubectl) shows as C(containerID), without what comes before the two slashes. Naming it means to trust its
        image.
    type: str
  container_before:
    description: The id of the container that has the daemons now.
    type: str
"""
