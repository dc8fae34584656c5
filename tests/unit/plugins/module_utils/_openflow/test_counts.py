# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import counts

COOKIES = [0, 7, 7, 0, 9, 7, *range(100, 110)]


class Switch:
    """A bridge whose flows have ``COOKIES``, and that says it has ``more`` flows besides."""

    more, version = 0, "3.5.0"

    def __init__(self, path: str, timeout: float) -> None:
        assert (path, timeout) == ("/run/br-int.mgmt", 5.0)

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def count_flows(self) -> list[int]:
        return [len(COOKIES) + self.more]

    def count_flows_of(self, cookie: int) -> int:
        return COOKIES.count(cookie)

    def software(self) -> str:
        return self.version

    def cookies(self) -> t.Iterator[int]:
        if self.more or self.version < "2.17":
            pytest.fail("it was asked for its flows")
        return iter(COOKIES)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(counts, "Switch", Switch)
    return monkeypatch


@pytest.mark.usefixtures("switch")
def test_flows_by_their_cookies() -> None:
    found = counts.count_cookies("/run/br-int.mgmt", 5.0)
    assert (found.total, found.without_cookie, found.cookies) == (16, 2, 12)
    assert found.largest is not None
    assert list(found.largest.items())[:1] == [("0x7", 3)]
    assert len(found.largest) == 5


@pytest.mark.parametrize(("what", "value"), [("more", 20_000), ("version", "2.16.0")])
def test_a_switch_that_is_not_asked_for_every_flow(
    switch: pytest.MonkeyPatch, what: str, value: t.Any
) -> None:
    switch.setattr(Switch, what, value)
    found = counts.count_cookies("/run/br-int.mgmt", 5.0)
    assert (found.without_cookie, found.cookies, found.largest) == (2, None, None)
