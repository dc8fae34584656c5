# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing but what is made by calls gets into a page as markup."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.markup import Html, escaped, join, tag


class Seen(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_elements() -> None:
    assert tag("p", "a < b", tag("b", "c"), class_="x") == '<p class="x">a &lt; b<b>c</b></p>'
    assert tag("meta", http_equiv="y") == '<meta http-equiv="y">'
    assert tag("details", open=True, id=None, hidden=False) == "<details open></details>"
    assert tag("rect", x=1.5, y=0) == '<rect x="1.5" y="0"></rect>'


def test_what_is_markup_already_stays() -> None:
    assert join([tag("i", "&"), "&"]) == "<i>&amp;</i>&amp;"
    assert escaped(Html("&amp;")) == "&amp;"


def test_control_characters_show_and_line_breaks_stay() -> None:
    assert escaped("a\x1b\u202e\nb\x00") == "a??\nb?"


@given(st.text(), st.text())
def test_any_text_is_text(content: str, value: str) -> None:
    seen = Seen(tag("p", content, title=value))
    assert seen.tags == ["p"]
    assert [name for name, __ in seen.attributes] == ["title"]
    assert len(seen.text) == len(content)
