# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what nothing tells of."""

from __future__ import annotations

import time
import typing as t


def wait_until(done: t.Callable[[], bool], seconds: float = 30.0, interval: float = 0.05) -> None:
    """Return when ``done()`` is true; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not happen within {seconds:g} s")
        time.sleep(interval)


def until(condition: str, seconds: int = 30, otherwise: str = "false") -> str:
    """The shell script that waits until ``condition`` holds; after so many seconds it runs ``otherwise``, and fails."""
    tries = f"for try in $(seq {seconds * 10}); do {{ {condition}; }} && break; sleep 0.1; done"
    return f"{tries}\n{{ {condition}; }} || {{ {otherwise}; exit 1; }}\n"


# The kernel gives addresses by itself a while after a device was made, and their routes when they are no longer tentative:
# both ends of the traffic have one, and the bridge that SSH may go through. Who stops reading early makes ip fail.
SETTLED = """
has_address() { ip "$@" scope link -tentative | grep inet6 >/dev/null; }
settled() {
    for namespace in $(ip netns list | cut -d' ' -f1); do
        has_address -n "$namespace" -6 address show || return 1
    done
    [ ! -e /sys/class/net/br-mgmt ] || has_address -6 address show dev br-mgmt || return 1
    ! ip -6 address show tentative | grep inet6 >/dev/null
}
""" + until("settled", 30)
