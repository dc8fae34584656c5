# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: escaped, without anything from outside, and small enough for a fleet."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.page import page
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.page_style import STYLE
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import Told, result
from tests.unit.plugins.plugin_utils.test_markup import Seen

ROLLOUTS = {"good": rollouts.good, "bad": rollouts.bad, "hostile": rollouts.hostile}


@pytest.mark.parametrize("name", ROLLOUTS)
def test_it_loads_and_runs_nothing(name: str) -> None:
    text = page(*ROLLOUTS[name]().seen())
    seen = Seen(text)
    assert not {"script", "img", "iframe", "object", "base", "form"} & set(seen.tags)
    names = {attribute for attribute, __ in seen.attributes}
    assert not {"style", "src", "srcset"} & names
    assert not [attribute for attribute in names if attribute.startswith("on")]
    links = {value for attribute, value in seen.attributes if attribute == "href"}
    assert all(str(link).startswith("#host-") or link == "data:," for link in links)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_the_policy_allows_this_style_and_nothing_else() -> None:
    text = page(*rollouts.good().seen())
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;; img-src data:;"
    assert policy in text
    assert "unsafe" not in text


def test_links_lead_to_a_host_and_ids_are_there_once() -> None:
    seen = Seen(page(*rollouts.bad().seen()))
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {str(value)[1:] for name, value in seen.attributes if name == "href" and value != "data:,"} <= set(
        map(str, ids)
    )


def test_what_an_operator_needs_comes_first() -> None:
    text = Seen(page(*rollouts.bad().seen())).text
    order = [
        "Stopped: 2 of 6 hosts failed", "Packets were lost on", "What must I do now?", "Decide before 2026-11-28 03:45:00 UTC",
        "What happened?", "Is anything lost?", "Hosts that need you", "Traffic around the cut-over", "Timeline", "All hosts",
    ]  # fmt: skip
    places = [text.index(words, text.index("</style>") if "</style>" in text else 0) for words in order]
    places[0] = text.rindex(order[0], 0, places[1])
    assert places == sorted(places)


def test_everything_of_a_host_is_told() -> None:
    text = Seen(page(*rollouts.bad().seen())).text
    for words in (
        "make_before_break is possible, and loses nothing", "the MAC table of br-ex", "410 of 416 live megaflows",
        "br-int: the controller with cookie 0xc0ffee: 40 added, 7 modified, 39 removed", "20261128T030512Z-3fa2c1, rolled back",
        "in packages", "in hand-over", "71 of 8,400 packets lost", "Not begun: 1 host", "silent 412.7 ms",
    ):  # fmt: skip
        assert words in text, words


def test_limits_and_counters_of_the_host_are_told() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.steps(["a"])
    limits = {
        "breaches": ["lost 12 of 4012 packets (5 allowed)"],
        "counted": {"lost_upcalls": 7, "dropped": 2},
    }
    told.fact("a", result("a", "failed", **limits))
    told.collector.end()
    text = Seen(page(*told.seen())).text
    assert "lost 12 of 4012 packets (5 allowed)" in text
    assert "of all traffic, at least 7 packets lost on their way to ovs-vswitchd, 2 dropped by ports" in text


def test_hostile_names_are_text() -> None:
    text = page(*rollouts.hostile().seen())
    text.encode()
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<!--") == 0
    assert text.count("</style>") == 1


def test_a_fleet_fits_into_a_page() -> None:
    text = page(*rollouts.fleet().seen())
    assert len(text) < 2_500_000
    seen = Seen(text)
    assert len(seen.tags) < 30_000
    assert sum(value == "dots" for __, value in seen.attributes) == 2 * 27
    # The batches are closed.
    assert not re.search('<details class="card batch" open', text)


def test_more_pictures_than_a_page_can_hold_are_left_out_and_it_says_so() -> None:
    told = Told()
    hosts = [f"h{number}" for number in range(60)]
    told.batch(hosts, hosts, [60])
    told.steps(hosts)
    lossy = rollouts.traffic(90.0, 3)
    for host in hosts:
        told.fact(host, result(host, traffic=lossy))
    told.collector.end()
    text = page(*told.seen())
    assert text.count('class="dots"') == 2 * 50
    assert "10 hosts more lost something or were slow" in text


def test_a_host_that_an_earlier_play_has_lost_is_in_no_batch() -> None:
    told = Told()
    told.collector.play("Before", ["a", "b"], ["a", "b"], [2])
    told.collector.unreachable("b", "Ping", {"msg": "timed out"})
    told.batch(["a", "b"], ["a"], [2])
    told.steps(["a"])
    told.fact("a", result("a"))
    told.collector.end()
    text = Seen(page(*told.seen())).text
    assert "Not all is well: 1 of 2 hosts failed" in text
    assert "it became unreachable: timed out" in text
    assert "Not begun" not in text


def test_a_page_of_nothing() -> None:
    told = Told()
    told.rollout.refusal = "no"
    assert "Refused: nothing was done on any host" in page(*told.seen())
    empty = Told()
    empty.batch([], [], [])
    empty.collector.end()
    page(*empty.seen())


@given(st.text(), st.text(), st.text())
def test_no_text_becomes_markup(host: str, failure: str, cookie: str) -> None:
    def seen(*texts: str) -> Seen:
        told = Told()
        told.batch([texts[0], "b"], [texts[0], "b"], [2])
        told.steps([texts[0], "b"])
        changes = {"bridges": {texts[2]: {"others": {texts[2]: {"added": 1}}}}}
        told.fact(texts[0], result(texts[0], "failed", failure=texts[1], changes=changes, deadline=texts[2]))
        told.collector.end()
        return Seen(page(*told.seen()))

    names = ("b" if host == "b" else f"h{host}", f"f{failure}", f"c{cookie}")
    assert seen(*names).tags == seen("b" if host == "b" else "h", "f", "c").tags
