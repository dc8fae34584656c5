# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.keeper import Keeper


class Thing:
    """Notes that it breathed."""

    def __init__(self) -> None:
        self.breathed = threading.Event()

    def breathe(self) -> None:
        self.breathed.set()


def test_what_is_kept_breathes_until_it_is_let_go() -> None:
    keeper, thing, other = Keeper(), Thing(), Thing()
    keeper.keep(thing)
    keeper.keep(other)
    assert thing.breathed.wait(30.0)
    keeper.let_go(thing)
    thing.breathed.clear()
    other.breathed.clear()
    assert other.breathed.wait(30.0)
    other.breathed.clear()
    assert other.breathed.wait(30.0)
    assert not thing.breathed.is_set()


def test_what_was_let_go_can_be_kept_again_after_the_keeper_has_gone_to_sleep() -> None:
    keeper, thing = Keeper(), Thing()
    keeper.keep(thing)
    keeper.let_go(thing)
    keeper.let_go(thing)
    while any(thread.name == "keeper" and thread.is_alive() for thread in [keeper._thread] if thread):
        pass
    thing.breathed.clear()
    keeper.keep(thing)
    assert thing.breathed.wait(30.0)
