# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import last_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed


def sound(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
    return Completed(0, "ovs-vswitchd (Open vSwitch) 4.0.0\n", "")


def test_the_errors_of_this_start_and_not_of_earlier_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = ["/usr/sbin/ovs-vswitchd", f"--log-file={log}"]
    log.write_text("2026|1|x|EMER|of before\n")
    since = last_words.log_size(argv)
    with log.open("a") as file:
        file.write("2026|2|bridge|INFO|begins\n2026|3|dpif|ERR|no datapath\n2026|4|bridge|INFO|ends\n")
    assert last_words.last_words(argv, since, sound) == "2026|3|dpif|ERR|no datapath"


def test_a_program_that_never_came_to_its_log_is_asked_itself(tmp_path: Path) -> None:
    def broken(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        assert list(argv) == ["/bin/x", "--version"]
        return Completed(127, "", "error while loading shared libraries: libx.so\n")

    said = last_words.last_words(["/bin/x", "--log-file=/not/there"], 0, broken)
    assert said == "error while loading shared libraries: libx.so"


def test_one_that_hangs_is_a_sentence() -> None:
    def hangs(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        raise HotUpgradeError("it did not end", "killed after 5 s")

    assert "killed after 5 s" in last_words.last_words(["/bin/x", "--log-file=/not/there"], 0, hangs)


def test_without_an_error_the_end_of_the_log_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\nthree\nfour\n")
    assert last_words.last_words(["/bin/x", f"--log-file={log}"], 0, sound) == "two\nthree\nfour"


def test_a_log_that_was_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("new\n")
    assert last_words.written(["/bin/x", f"--log-file={log}"], 1000) == "new\n"


def test_a_log_that_is_no_log_is_not_read(tmp_path: Path) -> None:
    """Its directory may be the daemon's user's: a pipe would be waited for, a link leads anywhere."""
    secret, log = tmp_path / "secret", tmp_path / "x.log"
    secret.write_text("2026|3|dpif|ERR|secret\n")
    os.mkfifo(log)
    argv = ["/bin/true", f"--log-file={log}"]
    assert last_words.last_words(argv, 0, sound) == ""
    log.unlink()
    log.symlink_to(secret)
    assert last_words.last_words(argv, 0, sound) == ""


def test_a_command_line_that_root_must_not_run_is_not_run(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("the end\n")
    assert last_words.last_words(["/bin/x", f"--log-file={log}"], 0, None) == "the end"


def test_a_program_that_is_asked_does_not_open_its_log() -> None:
    asked: list[t.Sequence[str]] = []

    def program(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        asked.append(argv)
        return Completed(1, "", "no such option")

    assert last_words.last_words(["/bin/x", "--log-file=/not/there", "-v"], 0, program) == "no such option"
    assert asked == [["/bin/x", "-v", "--version"]]
