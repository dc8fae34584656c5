# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table as text, for terminals and logs."""

from __future__ import annotations

import typing as t
import unicodedata

_GAP = "  "


def table(rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    """``rows``, of which the first one is the heading, as lines with columns; what is no printable text shows as ``?``."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*shown)]
    return [_GAP.join(_padded(cell, width) for cell, width in zip(row, widths)).rstrip() for row in shown]


def printable(text: str) -> str:
    """Names are what others have chosen: no control sequence of theirs reaches a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _width(text: str) -> int:
    """In columns of a terminal (Unicode Annex 11)."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
