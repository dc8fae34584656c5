# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import watch


class Switch:
    """Answers with ``answer``, or raises it."""

    def __init__(self, answer: t.Any) -> None:
        self.answer = answer

    def account(self) -> dict[str, t.Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return t.cast("dict[str, t.Any]", self.answer)

    def take(self) -> None:
        """There is nothing."""


@contextlib.contextmanager
def served(path: Path, switch: Switch) -> t.Iterator[str]:
    over = threading.Event()
    thread = threading.Thread(target=watch.serve, args=(str(path), switch, over.is_set))
    thread.start()
    try:
        yield str(path)
    finally:
        over.set()
        thread.join()
        assert not path.exists()


def test_whoever_asks_gets_the_account_again_and_again(tmp_path: Path) -> None:
    with served(tmp_path / "s", Switch({"bridges": {"br0": "x" * 100_000}})) as path:
        assert watch.ask(path) == watch.ask(path) == {"bridges": {"br0": "x" * 100_000}}


def test_an_account_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with (
        served(tmp_path / "s", Switch(HotUpgradeError("br0 is gone"))) as path,
        pytest.raises(HotUpgradeError, match="br0 is gone"),
    ):
        watch.ask(path)


def test_an_engine_that_ends_while_it_is_asked_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))
        first.listen()
        found: list[t.Any] = []
        asking = threading.Thread(target=lambda: found.append(watch.ask(str(path))))
        asking.start()
        first.accept()[0].close()
        path.unlink()
    with served(path, Switch({"bridges": {}})):
        asking.join()
    assert found == [{"bridges": {}}]


def test_nobody_there_is_an_error_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACK_TIMEOUT", 0.0)
    with pytest.raises(HotUpgradeError, match="answers"):
        watch.ask(str(tmp_path / "nobody"))
