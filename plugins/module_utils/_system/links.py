# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Network devices of the host, by ip-link(8)."""

from __future__ import annotations

import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import check, run

# In bytes, without the final zero (IFNAMSIZ).
LONGEST_NAME = 15


def device(interface: str) -> str:
    """What Linux calls the device of an interface: older versions of Open vSwitch have the name cut off (IFNAMSIZ)."""
    return os.fsdecode(interface.encode()[:LONGEST_NAME])


def exists(name: str) -> bool:
    """Whether there is a network device of this name."""
    return os.path.exists(os.path.join("/sys/class/net", name))


def is_down(name: str) -> bool:
    """Whether there is a network device of this name and it is down (IFF_UP, netdevice(7))."""
    try:
        with open(os.path.join("/sys/class/net", name, "flags"), encoding="ascii") as file:
            return not int(file.read(), 16) & 1
    except FileNotFoundError:
        return False


def rename(old: str, new: str) -> None:
    """Give a network device, which must be down, another name."""
    check(run, ["ip", "link", "set", "dev", old, "name", new])


def delete(name: str) -> None:
    """Delete a virtual network device; one that is not there is fine."""
    if exists(name):
        check(run, ["ip", "link", "delete", "dev", name])
