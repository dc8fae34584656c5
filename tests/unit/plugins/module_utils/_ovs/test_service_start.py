# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a start of ovsdb-server's service does besides, by what the host's files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import service_start as starts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight, Known
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import unit_files as unitfile

UNIT = "ovsdb-server.service"
WORDS = ("--no-ovs-vswitchd", "--no-monitor", "--system-id=random", "--no-record-hostname", "start")
CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
KNOWN = Known({"system-id": "me", "hostname": "h"}, ("br0", "br1"), ("p9",))


def foresee(root: Path, options: str, known: Known = KNOWN, unit: str = " ".join((CTL, *WORDS))) -> Foresight:
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNIT).write_text(
        f"[Service]\nEnvironmentFile=-/etc/default/openvswitch-switch\nExecStart={unit} $OVS_CTL_OPTS\n"
    )
    (root / "etc/default").mkdir(exist_ok=True)
    (root / "etc/default/openvswitch-switch").write_text(f"# one\nOVS_CTL_OPTS={options}\n")
    return starts.foresee(unitfile.read(UNIT, str(root)), known, str(root))


def identity(root: Path, text: str = "me\n", name: str = "system-id.conf") -> None:
    (root / "etc/openvswitch").mkdir(parents=True, exist_ok=True)
    (root / "etc/openvswitch" / name).write_text(text)


@pytest.mark.parametrize(
    "options", ["", "--ovs-user=ovs --no-mlockall", "--no-delete-bridges --delete-bridges=no"]
)
def test_nothing_is_left_out_where_nothing_is_done(tmp_path: Path, options: str) -> None:
    identity(tmp_path)
    found = foresee(tmp_path, f'"{options}"')
    assert (found.refusals, found.warnings) == ((), ())
    assert found.argv == (CTL, *WORDS, *options.split())
    assert found.environment == {"OVS_CTL_OPTS": options}


def test_bridges_would_be_deleted(tmp_path: Path) -> None:
    identity(tmp_path)
    found = foresee(tmp_path, "'--delete-bridges --no-mlockall'")
    assert found.refusals == ()
    assert len(found.warnings) == 1
    assert "all bridges (br0, br1)" in found.warnings[0]
    assert "--delete-bridges in /etc/default/openvswitch-switch, line 2" in found.warnings[0]
    assert found.argv == (CTL, *WORDS, "--no-mlockall")
    assert foresee(tmp_path, "--delete-bridges=yes").argv == (CTL, *WORDS)
    # The last word counts, and a host without bridges loses none.
    assert not foresee(tmp_path, "'--delete-bridges --no-delete-bridges'").warnings
    assert not foresee(tmp_path, "--delete-bridges", Known({"system-id": "me"})).warnings


def test_transient_ports_would_be_deleted(tmp_path: Path) -> None:
    identity(tmp_path)
    found = foresee(tmp_path, "--delete-transient-ports")
    assert "(p9)" in found.warnings[0]
    assert "line 2" in found.warnings[0]
    assert found.argv == (CTL, *WORDS)


@pytest.mark.parametrize(
    ("name", "text"),
    [("system-id.conf", "other\n"), ("install_uuid.conf", "INSTALLATION_UUID=other\n")],
)
def test_the_host_would_change_its_name(tmp_path: Path, name: str, text: str) -> None:
    identity(tmp_path, text, name)
    found = foresee(tmp_path, "")
    assert (
        f"external_ids:system-id to 'other' (/etc/openvswitch/{name}, line 1), the database has 'me'"
        in found.warnings[0]
    )
    assert found.argv == (CTL, *(word for word in WORDS if word != "--system-id=random"), "--system-id=me")


def test_a_name_that_would_be_made_up_or_is_given(tmp_path: Path) -> None:
    assert "a new random one" in foresee(tmp_path, "").warnings[0]
    found = foresee(tmp_path, "--system-id=you")
    assert "'you' (/etc/default/openvswitch-switch, line 2)" in found.warnings[0]
    assert found.argv[-1] == "--system-id=me"
    assert not foresee(tmp_path, "--system-id=me").warnings


def test_other_external_ids(tmp_path: Path) -> None:
    identity(tmp_path)
    found = foresee(tmp_path, "'--external-id=hostname=h --external-id=a=b --external-id=hostname=x'")
    assert [text.split(" to ")[0] for text in found.warnings] == [
        f"each start of {UNIT} sets external_ids:a",
        f"each start of {UNIT} sets external_ids:hostname",
    ]
    assert found.argv == (CTL, *WORDS, "--external-id=hostname=h")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ('"$OVS_CTL_OPTS --no-mlockall"', "'$OVS_CTL_OPTS'"),
        ('"--no-mlockall surplus"', "'surplus'"),
        ("-x", "the option -x"),
        ("--external-id=a", "no key=value"),
        ("--version", "--version"),
    ],
)
def test_what_ovs_ctl_cannot_take_would_leave_the_host_without_a_database(
    tmp_path: Path, options: str, why: str
) -> None:
    found = foresee(tmp_path, options)
    assert len(found.refusals) == 1
    assert why in found.refusals[0]
    assert "/etc/default/openvswitch-switch, line 2" in found.refusals[0]
    assert ("nothing in it is expanded" in found.refusals[0]) == ("$" in options)
    assert found.argv == ()


def test_an_option_that_ovs_ctl_does_not_know_is_only_reported_by_it(tmp_path: Path) -> None:
    identity(tmp_path)
    found = foresee(tmp_path, "'--what --what=ever --no-what'")
    assert (found.refusals, found.warnings) == ((), ())


def test_the_rpms_unit_may_have_an_empty_word_before_its_command(tmp_path: Path) -> None:
    identity(tmp_path)
    unit = f"{CTL} --no-ovs-vswitchd --system-id=random ${{OVS_USER_OPT}} start"
    assert foresee(tmp_path, "", unit=unit).refusals == ()
    (refusal,) = foresee(tmp_path, "", unit=f"{unit} ${{OVS_USER_OPT}}").refusals
    assert "'' is another" in refusal


def test_a_start_of_the_other_daemon_changes_nothing(tmp_path: Path) -> None:
    identity(tmp_path, "other\n")
    unit = f"{CTL} --no-ovsdb-server --system-id=random start"
    assert foresee(tmp_path, "--delete-bridges", unit=unit) == Foresight()
    assert foresee(tmp_path, "-x", unit=unit).refusals


def test_what_the_unit_runs_beside_its_start_is_left_out_if_it_changes_something(tmp_path: Path) -> None:
    identity(tmp_path)
    unit = (
        " ".join((CTL, *WORDS))
        + " $OVS_CTL_OPTS\nExecStartPre=-/bin/mkdir /run/x\nExecStartPost=/usr/bin/ovs-vsctl del-br br0"
        "\nExecStartPost=/bin/sh -c 'sleep 1; ovs-vsctl set bridge br1 a=b'\nExecStartPost=+/bin/chmod 770 /run/$X\n#"
    )
    found = foresee(tmp_path, "--no-mlockall", unit=unit)
    assert [text.split(":")[0] for text in found.warnings] == [
        f"each start runs '/usr/bin/ovs-vsctl del-br br0' (/etc/systemd/system/{UNIT}, line 5)",
        f"each start runs '/bin/sh -c sleep 1; ovs-vsctl set bridge br1 a=b' (/etc/systemd/system/{UNIT}, line 6)",
    ]
    assert found.argv == (CTL, *WORDS, "--no-mlockall")
    assert found.lines == ("ExecStartPost=", 'ExecStartPost=+"/bin/chmod" "770" "/run/$$X"')


def test_the_unit_starts_with_the_changed_words_alone(tmp_path: Path) -> None:
    identity(tmp_path)
    assert foresee(tmp_path, "--no-mlockall").lines == ()
    words = " ".join(f'"{word}"' for word in (CTL, *WORDS))
    assert foresee(tmp_path, "--delete-bridges").lines == ("ExecStart=", f"ExecStart={words}")


def test_other_programs_are_not_known(tmp_path: Path) -> None:
    assert foresee(tmp_path, "-x", unit="/opt/start-it") == Foresight()
    assert starts.foresee(None, KNOWN) == Foresight()


def test_several_services_together() -> None:
    """Each can stand in the way; what is left out is that of ovsdb-server's."""
    one, two = Foresight(("a",), ("b",), ("x",)), Foresight(("a", "c"), ("d",), ("y",))
    assert starts.together([one, two]) == Foresight(("a", "c"), ("b",), ("x",))


@pytest.mark.parametrize(
    ("stop", "refused"),
    [
        (f"{CTL} stop", True),
        (f"{CTL} --no-ovsdb-server stop", True),
        (f"{CTL} --no-ovs-vswitchd stop", False),
        ("/bin/kill $MAINPID", False),
    ],
)
def test_a_unit_whose_stop_ends_the_other_daemon_is_not_restarted(
    tmp_path: Path, stop: str, refused: bool
) -> None:
    identity(tmp_path)
    unit = f"{' '.join((CTL, *WORDS))}\nExecStop={stop}\nExecReload=/bin/true"
    found = foresee(tmp_path, '""', unit=unit)
    assert bool(found.refusals) == refused
    assert all("stopping it ends ovs-vswitchd" in text for text in found.refusals)
