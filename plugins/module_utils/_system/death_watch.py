# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""While a step waits for a daemon, the death of another one must not be found out by a time-out.

Without its database ovs-vswitchd answers nobody, so whoever talks OpenFlow to it would wait a minute.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Ended
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive


@contextlib.contextmanager
def attention(daemons: t.Mapping[str, Process]) -> t.Iterator[None]:
    """Raise ``Ended`` in the block as soon as one of ``daemons`` (by name) ends; only in the main thread."""
    descriptors: dict[int, str] = {}
    for name, process in daemons.items():
        with contextlib.suppress(ProcessLookupError):
            descriptors[os.pidfd_open(process.pid)] = name
        if not alive(process):
            raise _ended(name)
    reader, writer = os.pipe()
    dead: list[str] = []
    active = True

    def interrupt(_number: int, _frame: types.FrameType | None) -> None:
        if active and dead:
            raise _ended(dead[0])

    def watch() -> None:
        ready = readable([reader, *descriptors], None)
        if reader not in ready:
            dead.append(descriptors[ready[0]])
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        active = False
        os.close(writer)
        watcher.join()
        signal.signal(signal.SIGUSR1, before)
        for descriptor in (reader, *descriptors):
            os.close(descriptor)


def _ended(name: str) -> Ended:
    return Ended(
        f"{name} ended while it was needed", "somebody killed it, or it crashed", "Look into its log"
    )
