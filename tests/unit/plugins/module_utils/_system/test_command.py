# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import command
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import (
    Completed,
    check,
    convert,
    run,
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_words_reach_the_command_as_they_are() -> None:
    words = ['a b"c', "$(touch x)", "`id`", ";", "*"]
    done = run(python("import sys; print('|'.join(sys.argv[1:]))", *words))
    assert done == Completed(0, "|".join(words) + "\n", "")


def test_messages_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(python("import os; print(os.environ['LC_ALL'])")).out == "C\n"


def test_a_failure_is_returned() -> None:
    assert run(python("import sys; sys.exit('no')")) == Completed(1, "", "no\n")


def test_bytes_that_are_no_text_do_not_matter() -> None:
    assert run(python("import sys; sys.stdout.buffer.write(b'\\xff')")).out == "\ufffd"


def test_check_turns_a_failure_into_an_error_with_its_words() -> None:
    with pytest.raises(HotUpgradeError, match="failed with status 1: no such unit"):
        check(run, python("import sys; sys.exit('no such unit')"))


def test_check_of_a_silent_failure() -> None:
    with pytest.raises(HotUpgradeError, match="failed with status 3: it said nothing"):
        check(run, python("import sys; sys.exit(3)"))


def test_check_returns_the_output() -> None:
    assert check(run, python("print('fine')")) == "fine\n"


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(HotUpgradeError, match="cannot run /nonexistent/modinfo: No such file"):
        run(["/nonexistent/modinfo", "openvswitch"])


def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(HotUpgradeError, match=r"did not end: killed after 0\.1 s"):
        run(python("import signal; signal.pause()"), timeout=0.1)


def test_a_command_that_says_nothing_more_and_hangs_is_killed() -> None:
    with pytest.raises(HotUpgradeError, match=r"did not end: killed after 0\.2 s"):
        run(python("import os, signal; os.close(1); os.close(2); signal.pause()"), timeout=0.2)


def test_what_a_command_leaves_behind_is_not_waited_for_after_the_time_limit() -> None:
    leave = "import os, time; os.fork() or time.sleep(5)"
    with pytest.raises(HotUpgradeError, match=r"did not end: killed after 0\.5 s"):
        run(python(leave), timeout=0.5)


def test_a_command_that_talks_for_ever_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MOST_OUTPUT", 1 << 20)
    with pytest.raises(HotUpgradeError, match="more than 1 MiB"):
        run(python("while True: print('x' * 1000)"))


def test_much_on_both_streams_goes_through() -> None:
    done = run(python("import sys\nfor n in range(20_000): print(n); print(n, file=sys.stderr)"))
    assert done.out == done.err == "".join(f"{number}\n" for number in range(20_000))


def test_commands_are_found_where_root_alone_puts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "id").write_text("#!/bin/sh\necho mine\n")
    (tmp_path / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run(["id", "-u"]).out == f"{os.getuid()}\n"


COPY = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"


def test_a_file_is_converted_into_a_new_one_of_its_owner_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"\xff\x00abc")
    convert(python(COPY), str(source), str(target))
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"cba\x00\xff", 0o600)
    with pytest.raises(FileExistsError):
        convert(python(COPY), str(source), str(target))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (python("import sys; sys.exit('no package')"), "failed with status 1: no package"),
        (python("import signal; signal.pause()"), r"did not end: killed after 0\.2 s"),
        (["/nonexistent/rpm2archive"], "cannot run /nonexistent/rpm2archive"),
    ],
)
def test_a_conversion_that_fails_says_why(argv: list[str], why: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    with pytest.raises(HotUpgradeError, match=why):
        convert(argv, str(tmp_path / "in"), str(tmp_path / "out"), timeout=0.2 if "pause" in argv[-1] else 30)
