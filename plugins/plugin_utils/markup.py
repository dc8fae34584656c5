# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTML and SVG from a tree of calls. Whatever is not made here is text, and is escaped: there is no way to forget it."""

from __future__ import annotations

import html
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.table import printable

Attribute = t.Union[str, float, bool, None]
_VOID = ("meta", "br")


class Html(str):
    """Markup that may stand in a page as it is."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """``text`` as content or as the value of an attribute; line breaks stay, other control characters show as ``?``."""
    if isinstance(text, Html):
        return text
    return Html("\n".join(html.escape(printable(line)) for line in text.split("\n")))


def join(parts: t.Iterable[str]) -> Html:
    """All of them, one after the other."""
    return Html("".join(map(escaped, parts)))


def tag(element: str, /, *children: str, **attributes: Attribute) -> Html:
    """An element. ``class_`` is ``class``, ``aria_label`` is ``aria-label``; None and False leave an attribute out."""
    opening = "".join([f"<{element}", *(_attribute(*each) for each in attributes.items()), ">"])
    return Html(opening if element in _VOID else f"{opening}{join(children)}</{element}>")


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {written}"
    return f' {written}="{escaped(value if isinstance(value, str) else format(value, "g"))}"'
