# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Who owns a daemon: starts it, ends it, and would end it with itself.

One file each: a unit of systemd, or nobody.  A ``--monitor`` belongs to the daemon and goes where it goes.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance, like_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Model
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    family,
)


@dataclasses.dataclass(frozen=True)
class Heritage:
    """What the first process of a daemon had when the hand-over began: its next one is to have the same.

    ``owner`` is the unit that owned it in the eyes of systemd, None without one.
    """

    places: cgroups.Places
    owner: str | None
    like: likeness.Likeness


def heritage_of(instance: Instance) -> Heritage:
    """What ``instance`` has now.  Raises ``Unreachable`` when it has ended."""
    pid, like = instance.process.pid, like_of(instance)
    return Heritage(cgroups.places(pid), cgroups.unit_of(pid), like)


def nothing() -> None:
    """What is to be done where nobody wants anything."""


class Owner(t.Protocol):
    """Owns a daemon; ``binaries`` is a directory with programs to use instead of the installed ones."""

    @property
    def name(self) -> str:
        """The daemon."""

    @property
    def rundir(self) -> str:
        """Its run directory."""

    @property
    def heritage(self) -> Heritage:
        """What the daemon had when the hand-over began."""

    @property
    def born_there(self) -> bool:
        """Whether another daemon is in its place from its birth, and not only when it is adopted."""

    def model(self, old: Process) -> Model:
        """What a new daemon is made like, beside ``old``, which runs."""

    def restart(self, old: Instance, binaries: str | None, ending: t.Callable[[], None] = nothing) -> Job:
        """Begin to end ``old`` and to start the daemon; returns at once.  ``ending`` is called right before ``old`` ends."""

    def adopt(self, new: Process) -> list[str]:
        """Own ``new`` from the end of the present daemon on; the pidfile must name it by then.

        Returns what could not be done, as text; ``misplaced`` tells whether that matters.
        """

    def hold(self) -> bool:
        """Restart nothing by itself until ``let_go``, whatever ends; whether ``reload`` has to follow."""

    def cancel_restart(self) -> None:
        """Forget a restart that is due already, for which ``hold`` came too late."""

    def let_go(self) -> bool:
        """Undo ``hold``; nothing to undo is fine.  Whether ``reload`` has to follow."""

    @property
    def revives(self) -> bool:
        """Whether it starts the daemon again by itself when that ends."""

    def misplaced(self, process: Process) -> str | None:
        """Why ``process`` or its monitor would not outlive the hand-over, or is somebody else's; None if it is well."""

    def healthy(self, process: Process) -> str | None:
        """What is wrong with the ownership of ``process``, or None."""


class Adopting:
    """What every ``Owner`` of the host itself has in common: a new daemon is like the first, and comes to it later."""

    heritage: Heritage

    @property
    def born_there(self) -> bool:
        """See ``Owner``."""
        return False

    def model(self, old: Process) -> Model:
        """See ``Owner``."""
        return Model(self.heritage.like, old, self.heritage.places)


class Unwatched:
    """What an ``Owner`` has in common with every other one that starts no daemon again by itself: there is nothing to hold."""

    def hold(self) -> bool:
        """See ``Owner``."""
        return False

    def cancel_restart(self) -> None:
        """See ``Owner``."""

    def let_go(self) -> bool:
        """See ``Owner``."""
        return False

    @property
    def revives(self) -> bool:
        """See ``Owner``."""
        return False


class Job(t.Protocol):
    """A restart under way."""

    @property
    def refused(self) -> list[str]:
        """What the new process could not be given, as text."""

    def failed(self) -> bool:
        """Whether ``wait`` would raise at once."""

    def wait(self, timeout: float) -> None:
        """Return when it is done; raises ``HotUpgradeError`` when it failed or takes longer."""


def ended(name: str, process: Process) -> str | None:
    """That the daemon ``name``, this process, has ended; None while it runs."""
    return None if alive(process) else f"process {process.pid} of {name} has ended"


def take_in(new: Process, heritage: Heritage) -> list[str]:
    """Put ``new`` and its monitor where the first one was; what was refused, as text."""
    refused = []
    for each in family(new):
        refused += cgroups.move(each.pid, heritage.places)
        # A group of its own CPUs gives all of them to whoever comes in.
        refused += likeness.set_affinity(each.pid, heritage.like)
    return refused


def misplaced_of(
    process: Process, owners: t.Sequence[str | None], places: cgroups.Places | None = None
) -> str | None:
    """See ``Owner``; in the very groups of the one before, ``places``, it is well whatever systemd calls them now."""
    for each in family(process):
        group = cgroups.ours(each.pid)
        if group is not None:
            return (
                f"process {each.pid} is in the control group {group}: systemd would end it with the hand-over"
            )
        unit = cgroups.unit_of(each.pid)
        if unit not in owners and cgroups.places(each.pid) != places:
            wanted = owners[0] or "no unit"
            return f"systemd says that process {each.pid} belongs to {unit or 'no unit'}, not to {wanted}"
    return None
