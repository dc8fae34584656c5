# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The same work on many bridges at a time.

ovs-vswitchd answers once in a turn of its main loop, in which it looks at every bridge: whoever asks one bridge after the other
waits for as many turns as there are bridges, and each of them is the longer the more there are.
"""

from __future__ import annotations

import typing as t

# How many questions are under way at once, and how many where all bridges together have many flows: each holds some in memory.
_MOST, _MOST_LARGE = 32, 8
_MANY_FLOWS = 50_000

T = t.TypeVar("T")
R = t.TypeVar("R")


def side_by_side(
    work: t.Callable[[T], R], things: t.Iterable[T], flows: int = 0, each: bool = False
) -> list[R]:
    """``work`` on each of ``things``, many at a time; ``flows`` are what all of it handles.

    After an error no more are begun, since one after the other would wait for a switch that hangs, unless ``each`` is to be
    tried; the first error is raised when those that were begun have ended.
    """
    things = list(things)
    if len(things) < 2:
        return [work(thing) for thing in things]
    import concurrent.futures  # takes longer than a small snapshot

    pool = concurrent.futures.ThreadPoolExecutor(_MOST if flows < _MANY_FLOWS else _MOST_LARGE)
    futures: list[concurrent.futures.Future[R]] = []
    try:
        futures += (pool.submit(work, thing) for thing in things)
        concurrent.futures.wait(
            futures,
            return_when=concurrent.futures.ALL_COMPLETED if each else concurrent.futures.FIRST_EXCEPTION,
        )
    except BaseException:
        # From outside (see _attention): a switch that does not answer must not be waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(cancel_futures=True)
    for future in futures:
        if not future.cancelled():
            future.result()
    return [future.result() for future in futures]


def first_alone(work: t.Callable[[T], R], things: t.Sequence[T]) -> None:
    """``side_by_side``, but when the first one is done: one is enough to wait until whoever serves all of them has started."""
    for some in (things[:1], things[1:]):
        side_by_side(work, some)
