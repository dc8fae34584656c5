# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""STP and RSTP in the second ovs-vswitchd: it hears what the first one hears, until its trees are the same.

BPDUs are overheard at the ports and given to the silent process as packets-out, for as long as its ports take to forward.
Its topology changes, which nobody hears of, are acknowledged, and its RSTP gets the agreements that the first process has.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import polling
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import unheard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import spanning_tree
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Interface
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.spanning_tree import Tree
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.links import device
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.listener import Heard, Listener

# A bridge speaks every second or two; in seconds.
_OFTEN = 0.25
# A tree grows in twice the forwarding delay, and once more where somebody else has to be heard first; besides, in seconds.
_RESERVE = 15.0
# Both hear of a change at about the same time; in seconds.
_AGREE = 10.0


class _Ear(t.NamedTuple):
    """Where a port is overheard, and to whom that is told."""

    bridge: Bridge
    listener: Listener
    channel: OpenFlow
    ofport: int


class Trees:
    """Those of one hand-over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ears: list[_Ear] = []
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._bridges: dict[str, Bridge] = {}
        # Those with a port that has changed over to STP, since its neighbour knows no RSTP.
        self._slow: set[str] = set()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._bridges)

    def listen(self, bridges: t.Iterable[Bridge], switches: t.Mapping[str, Switch], old: Appctl) -> None:
        """Overhear the ports of all trees from now on; returns when each has been heard that speaks.

        Raises ``HotUpgradeError`` where a port cannot be overheard.
        """
        shown = show(old)  # one that is configured wrongly has none
        grown = [
            each
            for each in bridges
            if spanning_tree.members(each) and each.name in switches.keys() & shown.keys()
        ]
        self._bridges = {bridge.name: bridge for bridge in grown}
        for bridge in grown:
            (channel,) = switches[bridge.name].further(1)
            for interface in spanning_tree.with_neighbours(bridge):
                self._ears.append(_ear(bridge, interface, channel))
        if self._ears:
            self._clock.sleep(1 + max(shown[bridge.name].hello_time for bridge in grown))

    def begin(self) -> None:
        """Tell the second process, which runs them now, what has been heard, and what will be."""
        if self._ears:
            self._thread = threading.Thread(target=self._relay, name="spanning trees", daemon=True)
            self._thread.start()

    def settle(self, old: Appctl, new: Appctl) -> None:
        """Return when the second process shows the same trees for long enough to have forgotten how they came to be.

        Raises ``TimedOut`` when it does not come to that, and whatever has kept it from hearing.
        """
        if not self:
            return
        trees = self._ours(old)
        since = self._clock.monotonic()

        def look() -> list[str]:
            nonlocal since
            found = self._differences(old, new)
            if found:
                since = self._clock.monotonic()
            return found

        def settled(found: list[str]) -> bool:
            still = max(self._stillness(name, tree) for name, tree in trees.items())
            return not found and self._clock.monotonic() - since >= still

        patience = _RESERVE + max(4 * tree.forward_delay + 2 * tree.max_age for tree in trees.values())
        Waiter(patience, _OFTEN, self._clock, strict=True).wait(
            "the spanning trees of the new process are those of the old one",
            look,
            settled,
            lambda found: "; ".join(found) or "they came to be the same only now",
            VSWITCHD_LOG,
        )

    def _ours(self, control: Appctl) -> dict[str, Tree]:
        return {name: tree for name, tree in show(control).items() if name in self._bridges}

    def _stillness(self, name: str, tree: Tree) -> int:
        """For how long after its last change a tree tells of it (stp_tick in lib/stp.c; newTcWhile, 17.21.7), in seconds."""
        slow = tree.is_root if not self._bridges[name].rstp else name in self._slow
        if slow:
            return tree.max_age + tree.forward_delay + 1
        return tree.hello_time + 2

    def _differences(self, old: Appctl, new: Appctl) -> list[str]:
        if self._failure:
            raise self._failure
        return differences(self._ours(old), show(new))

    def require(self, old: Appctl, new: Appctl) -> None:
        """Raise ``TimedOut`` unless the trees are still the same, and whatever has kept the second process from hearing."""
        Waiter(_AGREE, _OFTEN, self._clock, strict=True).wait(
            "the spanning trees of both processes are still the same",
            lambda: self._differences(old, new),
            lambda found: not found,
            "; ".join,
            VSWITCHD_LOG,
        )

    def _relay(self) -> None:
        ears = {ear.listener.fileno(): ear for ear in self._ears}
        try:
            with unheard():  # it goes on whatever becomes of the rest
                while not self._ended.is_set():
                    for descriptor in polling.readable(ears, _OFTEN):
                        self._tell(ears[descriptor])
        except Exception as error:  # whatever it is, the second process hears nothing any more
            self._failure = error
        finally:
            for ear in self._ears:
                ear.listener.close()

    def _tell(self, ear: _Ear) -> None:
        frames = [told for heard in ear.listener.heard() for told in self._told(heard, ear.bridge)]
        of = ear.channel
        # Whatever is refused shows in the trees.
        of.exchange([wire.packet_out(of.version, of.xid(), ear.ofport, frame) for frame in frames])

    def _told(self, heard: Heard, bridge: Bridge) -> t.Iterator[bytes]:
        if not heard.own:
            yield spanning_tree.acknowledged(heard.frame)
            return
        answer = spanning_tree.answer(heard.frame) if bridge.rstp else None
        if answer is not None:
            yield answer
        if bridge.rstp and not spanning_tree.is_rapid(heard.frame):
            self._slow.add(bridge.name)

    def leave(self) -> None:
        """Tell it nothing any more: it hears by itself now.  Returns at once."""
        self._ended.set()

    def close(self) -> None:
        """Overhear nothing any more."""
        self.leave()
        if self._thread is not None:
            self._thread.join()
            return
        for ear in self._ears:
            ear.listener.close()


def _ear(bridge: Bridge, interface: Interface, channel: OpenFlow) -> _Ear:
    name = device(interface.name)
    try:
        listener = Listener(name, spanning_tree.GROUP)
    except (OSError, ValueError) as error:  # ValueError: a name that is no text
        raise HotUpgradeError(
            f"the spanning tree at {name} cannot be overheard",
            str(error),
            "See 'ip link show'",
        ) from error
    return _Ear(bridge, listener, channel, interface.ofport or 0)


def show(control: Appctl) -> dict[str, Tree]:
    """The trees that an ovs-vswitchd shows, by bridge."""
    found: dict[str, Tree] = {}
    for command in ("stp/show", "rstp/show"):
        found.update(spanning_tree.parse(control.call(command)))
    return found


def differences(old: t.Mapping[str, Tree], new: t.Mapping[str, Tree]) -> list[str]:
    """One sentence for each bridge whose tree is not the same in ``new``."""
    found = []
    for name, tree in old.items():
        if name not in new:
            found.append(f"bridge {name} runs no spanning tree yet")
            continue
        now = set(new[name].lines)
        lines = [
            *sorted(now.difference(tree.lines)),
            *(f"no {line}" for line in tree.lines if line not in now),
        ]
        if lines:
            found.append(f"bridge {name}: {', '.join(lines)}")
    return found
