# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon does without; what it is given is in test__launch.py, in real processes."""

from __future__ import annotations

import errno
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import launcher


def task(**like: t.Any) -> launcher.Task:
    return launcher.Task(
        {
            "argv": ["x"],
            "environment": {},
            "like": like,
            "drops": False,
            "pid": 1,
            "pidfd": None,
            "words": None,
        }
    )


@pytest.fixture(name="forbidden")
def _forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A security module that lets nobody touch other processes."""

    def system(name: str, *__: t.Any) -> int:
        raise launcher.Cannot(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(launcher, "system", system)


@pytest.mark.usefixtures("forbidden")
def test_a_stream_that_cannot_be_shared_is_opened_by_its_name(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    made = task(streams=[None, str(log), str(tmp_path / "gone")])
    made.pidfd = 3
    descriptors = [made._stream(number) for number in range(3)]
    os.write(descriptors[1], b"after\n")
    assert log.read_text() == "before\nafter\n"
    assert [os.readlink(f"/proc/self/fd/{descriptors[number]}") for number in (0, 2)] == ["/dev/null"] * 2
    for descriptor in descriptors:
        os.close(descriptor)
    assert made.refused == [
        "stream 0 leads nowhere: Operation not permitted",
        "stream 2 leads nowhere: No such file or directory",
    ]


@pytest.mark.usefixtures("forbidden")
def test_each_refusal_names_what_it_was_about() -> None:
    made = task(timer_slack=5)
    made.attempt("the timer slack", lambda: launcher.prctl(launcher.PR_SET_TIMERSLACK, 5))
    made.attempt("the limit X", lambda: int("not a number"))
    assert made.refused[0] == "the timer slack cannot be set: Operation not permitted"
    assert made.refused[1].startswith("the limit X cannot be set: ")


def test_another_network_is_not_a_thing_to_do_without() -> None:
    made = task(namespaces={"net": "net:[1]"})
    made.pid = None  # it has ended, and its network with it
    with pytest.raises(OSError, match="None/ns/net"):
        made.join_namespaces()


def test_the_same_network_needs_nothing() -> None:
    made = task(namespaces={"net": os.readlink("/proc/self/ns/net")})
    made.pid = None
    made.join_namespaces()


def test_what_leads_nowhere_does_so_in_a_container_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is root there can make its /dev/null a link to /proc/1/root/etc/shadow, and read what the daemon has open."""
    made = task(streams=[None] * 3)
    (tmp_path / "shadow").touch()
    monkeypatch.setattr(launcher.os, "devnull", str(tmp_path / "shadow"))
    descriptor = made._stream(0)
    assert os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/null"
    os.close(descriptor)
