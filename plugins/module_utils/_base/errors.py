# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The one error hierarchy of the engine.

Every message answers four questions for an operator at 3 a.m.: what failed, on
which object, what was seen instead of what was wanted, and what to do next.
"""

from __future__ import annotations


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


class ProtocolError(HotUpgradeError):
    """The other side sent something that its protocol does not allow."""
