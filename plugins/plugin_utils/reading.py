# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as modules and hosts tell them: what is not of the wanted type counts as not told.

A report is made of whatever has arrived, also from a host that lies.
"""

from __future__ import annotations

import typing as t

Json = t.Mapping[str, t.Any]
# Greater ones say nothing, and are no float.
_MOST = 10**15


def mapping(value: object) -> Json:
    """``value``, or an empty one; only its names that are text."""
    if not isinstance(value, dict):
        return {}
    return (
        value
        if all(isinstance(key, str) for key in value)
        else {str(key): each for key, each in value.items()}
    )


def text(value: object) -> str:
    """``value``, or an empty text."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """``value`` where it is a number that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Not-a-number is not smaller, either.
    return value if abs(value) < _MOST else None


def whole(value: object) -> int | None:
    """``value`` where it counts something."""
    found = number(value)
    return int(found) if found is not None else None


def sequence(value: object) -> t.Sequence[object]:
    """``value``, or an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def texts(value: object) -> tuple[str, ...]:
    """What of a list is text."""
    return tuple(each for each in sequence(value) if isinstance(each, str))
