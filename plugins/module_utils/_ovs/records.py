# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What earlier runs have written down on this host, as JSON."""

from __future__ import annotations

import json
import typing as t

T = t.TypeVar("T")


def read(path: str, understand: t.Callable[[t.Any], T]) -> T | None:
    """What ``understand`` makes of the record at ``path``; None where there is none, or it is not as it was written."""
    try:
        with open(path, encoding="utf-8") as file:
            return understand(json.load(file))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
