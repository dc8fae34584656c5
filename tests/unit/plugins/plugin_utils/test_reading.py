# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not of the wanted type counts as not told."""

from __future__ import annotations

import math

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import reading


@pytest.mark.parametrize("value", [True, None, "1", math.nan, math.inf, -math.inf, 10**400, [], {}])
def test_what_is_no_number(value: object) -> None:
    assert reading.number(value) is None
    assert reading.whole(value) is None


def test_numbers() -> None:
    assert (reading.number(3), reading.number(-2.5), reading.whole(2.9)) == (3, -2.5, 2)


def test_texts_and_mappings() -> None:
    assert reading.text(b"x") == reading.text(None) == ""
    assert reading.texts(["a", 1, None, "b"]) == ("a", "b")
    assert reading.texts("abc") == ()
    assert reading.mapping([("a", 1)]) == {}
    assert reading.mapping({1: 2, "a": 3}) == {"1": 2, "a": 3}
