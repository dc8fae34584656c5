# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files, drop-ins and environment files, read as systemd 257 was seen to read them."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import unit_files as unitfile
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.unit_files import (
    Origin,
    Service,
    Text,
)

UNIT = "ovsdb-server.service"
DEBIAN = r"""
[Unit]
Description=Open vSwitch Database Unit

[Service]
Type=forking
EnvironmentFile=-/etc/default/openvswitch-switch
ExecStart=/usr/share/openvswitch/scripts/ovs-ctl \
          --no-ovs-vswitchd --no-monitor --system-id=random \
          # a comment between
          --no-record-hostname \
          start $OVS_CTL_OPTS
ExecStop=/usr/share/openvswitch/scripts/ovs-ctl --no-ovs-vswitchd stop
"""
RPM = """
[Service]
EnvironmentFile=/etc/openvswitch/default.conf
EnvironmentFile=-/etc/sysconfig/openvswitch
ExecStartPre=-/usr/bin/chown ${OVS_USER_ID} /run/openvswitch ; /bin/true
ExecStartPre=/bin/sh -c 'rm -f /run/x; echo "$$a"'
ExecStart=/usr/share/openvswitch/scripts/ovs-ctl --system-id=random ${OVS_USER_OPT} start $OPTIONS
User=root
"""


def put(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(textwrap.dedent(text))


def service(root: Path) -> Service:
    found = unitfile.read(UNIT, str(root))
    assert found is not None
    return found


def started(root: Path) -> tuple[str, ...]:
    command = service(root).start
    assert command is not None
    return command.argv


def test_debians_unit_with_the_words_of_its_environment_file(tmp_path: Path) -> None:
    put(tmp_path, f"usr/lib/systemd/system/{UNIT}", DEBIAN)
    put(tmp_path, "etc/default/openvswitch-switch", "# comment\n\nOVS_CTL_OPTS='--delete-bridges  --a=b c'\n")
    command = service(tmp_path).start
    assert command is not None
    assert command.argv[1:] == (
        *("--no-ovs-vswitchd", "--no-monitor", "--system-id=random", "--no-record-hostname", "start"),
        *("--delete-bridges", "--a=b", "c"),
    )
    assert command.words[-1].origin == Origin("/etc/default/openvswitch-switch", 3)
    assert str(command.words[0].origin) == f"/usr/lib/systemd/system/{UNIT}, line 8"
    assert [each.key for each in service(tmp_path).commands] == ["ExecStart", "ExecStop"]


def test_the_rpms_unit(tmp_path: Path) -> None:
    put(tmp_path, f"usr/lib/systemd/system/{UNIT}", RPM)
    put(tmp_path, "etc/sysconfig/openvswitch", 'OPTIONS="--ovs-user=a:b --x"\nOVS_USER_ID=a b\n')
    found = service(tmp_path)
    assert found.missing == (
        Text("/etc/openvswitch/default.conf", Origin(f"/usr/lib/systemd/system/{UNIT}", 3)),
    )
    # An empty ${...} is an empty word; the one in the middle of others is one word.
    assert started(tmp_path)[1:] == ("--system-id=random", "", "start", "--ovs-user=a:b", "--x")
    chown, true, shell = found.commands[:3]
    assert (chown.argv, chown.checked) == (("/usr/bin/chown", "a b", "/run/openvswitch"), False)
    assert (true.argv, true.checked) == (("/bin/true",), True)
    assert shell.argv == ("/bin/sh", "-c", 'rm -f /run/x; echo "$a"')
    assert (found.user, found.group) == ("root", None)


def test_drop_ins_come_by_name_and_an_empty_setting_takes_back(tmp_path: Path) -> None:
    put(tmp_path, f"usr/lib/systemd/system/{UNIT}", DEBIAN)
    put(tmp_path, f"etc/systemd/system/{UNIT}.d/50-a.conf", "[Service]\nExecStart=\nExecStart=/bin/one $A\n")
    put(tmp_path, f"run/systemd/system/{UNIT}.d/40-b.conf", "[Service]\nExecStart=/bin/two\n")
    put(tmp_path, f"run/systemd/system/{UNIT}.d/60-c.conf", '[Service]\nEnvironment="A=b c" D=e\n')
    assert started(tmp_path) == ("/bin/one", "b", "c")
    # One of the same name in a folder that comes first hides the other.
    put(tmp_path, f"etc/systemd/system/{UNIT}.d/60-c.conf", "[Service]\nEnvironment=A=x\n")
    assert started(tmp_path) == ("/bin/one", "x")
    ignoring = unitfile.read(UNIT, str(tmp_path), ignored=("50-a.conf",))
    assert ignoring is not None
    assert ignoring.start is not None
    assert ignoring.start.argv[0].endswith("ovs-ctl")
    put(tmp_path, f"etc/systemd/system/{UNIT}", "[Service]\nExecStart=/bin/three\n")
    put(tmp_path, f"etc/systemd/system/{UNIT}.d/50-a.conf", "")
    put(tmp_path, f"run/systemd/system/{UNIT}.d/40-b.conf", "")
    assert started(tmp_path) == ("/bin/three",)


def test_no_unit(tmp_path: Path) -> None:
    assert unitfile.read(UNIT, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A= b c  ", "b c"),
        ("A='b  c' ", "b  c"),
        ("A=\"b\"'c' d", "bcd"),
        ('A=b"c"', 'b"c"'),  # quotes count only where a value begins
        ('A="$B \\$ \\" \\x"', '$B $ " \\x'),
        ("A=b\\\nc", "bc"),
        ("A=$B ${C}", "$B ${C}"),  # nothing is expanded
        ("A=", ""),
        ("A='unfinished", "unfinished"),
        ("A=b # c", "b # c"),
        ("A=x\nA=b", "b"),
    ],
)
def test_values_of_environment_files(text: str, value: str) -> None:
    assert {name: found for name, found, __ in unitfile.assignments(text)} == {"A": value}


def test_what_is_no_assignment_is_left_out_and_lines_are_counted() -> None:
    text = "#A=1\n;A=2\nexport A=3\nnothing\n\nB='x\ny'\nC=4"
    assert list(unitfile.assignments(text)) == [("B", "x\ny", 6), ("C", "4", 8)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("a'b c'd \"e f\"", ["ab cd", "e f"]),
        ("'' \"\"", ["", ""]),
        (r"a\x41\101\u0042\s\q", ["aAAB \\q"]),
        ("'unfinished", ["unfinished"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert unitfile.split(text) == words


@hypothesis.given(st.lists(st.text("ab $%{}\\\"';#=\t\n-éA", max_size=12), max_size=4))
def test_every_word_survives_being_quoted(words: list[str]) -> None:
    """Property: what ``quoted`` writes into a unit is read back as the same words."""
    line = " ".join(map(unitfile.quoted, ["/bin/x", *words]))
    with tempfile.TemporaryDirectory() as root:
        put(Path(root), f"etc/systemd/system/{UNIT}", f"[Service]\nExecStart={line}\n")
        assert started(Path(root)) == ("/bin/x", *words)


@hypothesis.given(st.text("A=b \\\"'\n#;$", max_size=30))
def test_no_text_breaks_the_parsers(text: str) -> None:
    """Property: any text is read to its end, each assignment has a line of the text."""
    unitfile.split(text)
    for name, __, line in unitfile.assignments(text):
        assert text.split("\n")[line - 1].lstrip().startswith(name)
