# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a benchmark's file: one for each case and metric, with every repetition."""

from __future__ import annotations

import contextlib
import json
import statistics
import typing as t
from pathlib import Path

Row = dict[str, t.Any]


def row(case: Row, metric: str, unit: str, values: list[float], **more: t.Any) -> Row:
    """``case``: what was measured, ``tool`` and ``size`` among it; ``values``: each repetition."""
    middle = statistics.median(values)
    return {
        **case, "metric": metric, "unit": unit, "value": middle, "repetitions": len(values),
        "min": min(values), "median": middle, "max": max(values), "values": values, **more,
    }  # fmt: skip


def merged(path: Path, document: Row, case: t.Callable[[Row], t.Any], order: t.Callable[[Row], t.Any]) -> Row:
    """``document`` with the rows of other cases that ``path`` has from earlier runs on the same machine and versions."""
    with contextlib.suppress(FileNotFoundError):
        earlier = json.loads(path.read_text())
        if all(earlier.get(name) == value for name, value in document.items() if name != "rows"):
            mine = set(map(case, document["rows"]))
            kept = [each for each in earlier["rows"] if case(each) not in mine]
            return {**document, "rows": sorted(kept + document["rows"], key=order)}
    return document
