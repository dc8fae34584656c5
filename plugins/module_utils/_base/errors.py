# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The one error hierarchy of the engine.

Every message answers four questions for an operator at 3 a.m.: what failed, on
which object, what was seen instead of what was wanted, and what to do next.
"""

from __future__ import annotations

import os
import typing as t


class HotUpgradeError(Exception):
    """A failure that is reported to the operator as it stands.

    ``what`` says what failed and on which object, ``why`` what was seen instead
    of what was wanted, ``hint`` what to do next.
    """

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        self.what = what
        self.why = why
        self.hint = hint
        text = what + (f": {why}" if why else "")
        super().__init__(f"{text}. {hint}" if hint else text)


class Refused(HotUpgradeError):
    """The request was refused before anything was touched."""


class Unreachable(HotUpgradeError):
    """A daemon or a database could not be reached, or did not answer in time."""


class Ended(Unreachable):
    """A daemon ended while it was needed: whoever waits for it waits in vain."""


class ProtocolError(HotUpgradeError):
    """The other side sent something that its protocol does not allow."""


def attempt(action: t.Callable[[], object]) -> list[str]:
    """Do something that nothing may fail on; what went wrong as text."""
    try:
        action()
    except Exception as error:  # whatever it is
        return [told(error)]
    return []


def told(error: Exception) -> str:
    """An error in words; one that nobody has foreseen, with its kind and where it came from."""
    if isinstance(error, (HotUpgradeError, OSError)):
        return str(error)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = (
        f" ({os.path.basename(place.tb_frame.f_code.co_filename)}, line {place.tb_lineno})" if place else ""
    )
    return f"{type(error).__name__}: {error}{where}"
