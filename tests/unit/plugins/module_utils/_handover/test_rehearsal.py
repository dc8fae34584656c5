# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dry start, with scripts in the place of ovs-ctl; what is put back of a database that was converted or restarted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import rehearsal
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_content
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

Json = dict[str, t.Any]
RUNNING = (
    *(
        "ovsdb-server",
        "/etc/openvswitch/conf.db",
        "/etc/openvswitch/other.db",
        "-vfile:info",
        "--user",
        "ovs:ovs",
    ),
    *(
        "--remote=punix:/run/openvswitch/db.sock",
        "--remote",
        "ptcp:6640",
        "--private-key=db:Open_vSwitch,SSL,private_key",
    ),
    *("--no-chdir", "--log-file=/var/log/openvswitch/ovsdb-server.log", "--pidfile=/run/x.pid", "--detach"),
)


def host(tmp_path: Path, **start: t.Any) -> t.Any:
    written: Json = {}
    request = types.SimpleNamespace(
        rundir=str(tmp_path / "run"),
        remote="",
        timeout=1.0,
        start=Foresight(**start),
        supervisors={"ovsdb-server": {"unit": "ovsdb-server.service", "program": "/usr/sbin/ovsdb-server"}},
        server=types.SimpleNamespace(process=Process(os.getpid(), 1), argv=list(RUNNING)),
        convert=False,
    )
    return types.SimpleNamespace(
        request=request,
        database=types.SimpleNamespace(),
        scope=types.SimpleNamespace(
            kept="/kept",
            management=lambda name: name,
            beside=f"{tmp_path}/run-",
            seen=lambda name: str(tmp_path / name),
            container=None,
            inside=list,
        ),
        outside=Outside(open_switch=lambda _path: t.cast("t.Any", contextlib.nullcontext())),
        report=Report(),
        written=written,
        transaction=types.SimpleNamespace(
            id="20260101T000000Z-abcdef",
            write=written.__setitem__,
            read=written.get,
            file=lambda name: str(tmp_path / name),
        ),
    )


def test_a_daemon_without_a_known_service_is_started_as_it_was_in_a_place_of_its_own(tmp_path: Path) -> None:
    directory = f"{tmp_path}/run-abcdef-dry"
    assert rehearsal.command_line(host(tmp_path)) == [
        *("/usr/sbin/ovsdb-server", f"{directory}/conf.db", "-vfile:info", "--user", "ovs:ovs"),
        *("--private-key=db:Open_vSwitch,SSL,private_key", f"--remote=punix:{directory}/db.sock"),
        *(f"--pidfile={directory}/ovsdb-server.pid", "--no-chdir", "--detach"),
        *(f"--unixctl={directory}/ovsdb-server.ctl", f"--log-file={tmp_path}/dry/ovsdb-server.log"),
    ]
    # A unit's own user opens the log himself.
    assert f"--log-file={directory}/ovsdb-server.log" in rehearsal.command_line(host(tmp_path, user="ovs"))


def test_a_service_is_started_with_its_options_but_for_places(tmp_path: Path) -> None:
    options = "--ovsdb-server-options=--remote=ptcp:6640 -vfile:dbg --pidfile=/x"
    argv = ["ovs-ctl", "--db-sock=/run/openvswitch/db.sock", options, "start"]
    directory = f"{tmp_path}/run-abcdef-dry"
    assert rehearsal.command_line(host(tmp_path, argv=argv)) == [
        *("ovs-ctl", "--db-sock=/run/openvswitch/db.sock", "--ovsdb-server-options=-vfile:dbg", "start"),
        *(f"--db-file={directory}/conf.db", f"--db-sock={directory}/db.sock"),
    ]


@pytest.fixture(name="laid_out")
def _laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """Make a host whose dry start is ``script``; the directory is there, the database is not looked at."""

    def make(script: str) -> t.Any:
        program = tmp_path / "ovs-ctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        made = host(tmp_path, argv=[str(program), "start"], environment={"OVS_CTL_OPTS": "mine"})
        os.makedirs(rehearsal.place(made))
        return made

    monkeypatch.setattr(rehearsal, "TIMEOUT", 10.0)
    return make


def test_the_reason_of_a_failed_start_is_in_the_message(laid_out: t.Any) -> None:
    script = """
    echo "Starting ovsdb-server ... failed!"
    echo "2026|1|ovsdb_server|INFO|fine" >> $OVS_LOGDIR/ovsdb-server.log
    echo "2026|2|ovsdb_server|ERR|$OVS_DBDIR/conf.db: no such option $OVS_CTL_OPTS" >> $OVS_LOGDIR/ovsdb-server.log
    exit 3"""
    made = laid_out(script)
    with pytest.raises(HotUpgradeError) as raised:
        rehearsal._start(made)
    assert raised.value.what == "ovsdb-server.service would not start again"
    assert raised.value.why == (
        "status 3; Starting ovsdb-server ... failed!; 2026|2|ovsdb_server|ERR|DIR/conf.db: no such option mine"
    )


def test_a_start_that_hangs_ends_and_nothing_is_left_of_it(
    laid_out: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "TIMEOUT", 0.3)
    made = laid_out("setsid sleep 600 & sleep 600")
    with pytest.raises(HotUpgradeError, match="did not end within"):
        rehearsal._start(made)
    rehearsal.clear(made)
    assert not os.path.exists(rehearsal.place(made))
    assert rehearsal._kill(rehearsal.place(made), (0, os.getuid())) == 0


def test_only_processes_of_the_dry_start_are_ended(tmp_path: Path) -> None:
    made = host(tmp_path)
    with subprocess.Popen(
        ["sleep", "600"], env={"OVS_RUNDIR": "/run/openvswitch", "PATH": os.environ["PATH"]}
    ) as other:
        began = time.monotonic()
        rehearsal.clear(made)
        assert time.monotonic() - began < 5.0
        assert other.poll() is None
        other.kill()


def _difference(
    column: str | None, before: t.Any, after: t.Any, table: str = "Open_vSwitch"
) -> database_content.Difference:
    return database_content.Difference(table, "u", column, "", before, after)


class Contents:
    """Stands in for the database: what is read, one content after another, and the operations it was given."""

    def __init__(self, *contents: database_content.Content, versions: tuple[str, ...] = ("8.8.0",)) -> None:
        self.contents = list(contents)
        self.versions = list(versions)
        self.operations: list[Json] = []
        columns: Json = {"external_ids": {}, "bridges": {}}
        self.schema: Json = {"tables": {"Open_vSwitch": {"columns": columns}}}

    def __call__(self, *_words: t.Any) -> t.Any:
        return self

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *_words: t.Any) -> None: ...

    @property
    def schema_version(self) -> str:
        return self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]

    def transact(self, *operations: Json) -> None:
        self.operations += operations


def _switch(**columns: str) -> database_content.Content:
    return {"Open_vSwitch": {"u": {name: ("map", (("k", value),)) for name, value in columns.items()}}}


@pytest.fixture(name="database")
def _database(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Contents]:
    def use(made: t.Any, *contents: database_content.Content, **words: t.Any) -> Contents:
        database = Contents(*contents, **words)
        monkeypatch.setattr(rehearsal, "Ovsdb", database)
        made.database.open = lambda: database
        monkeypatch.setattr(rehearsal.database_content, "read", lambda session: session.contents.pop(0))
        return database

    return use


def test_only_what_the_start_was_foreseen_to_change_is_put_back(
    tmp_path: Path, database: t.Callable[..., Contents]
) -> None:
    """Whatever else has changed meanwhile, somebody else has changed."""
    made = host(tmp_path, argv=["ovs-ctl", "start"])
    made.database.restart_server = lambda _free_try: None
    made.written[rehearsal.FORESEEN] = [["Open_vSwitch", "u", "external_ids"]]
    used = database(
        made, _switch(external_ids="a", other_config="a"), _switch(external_ids="b", other_config="b")
    )
    rehearsal.restart_server(made)
    assert [each["row"] for each in used.operations] == [{"external_ids": ["map", [["k", "a"]]]}]
    assert "external_ids was {k=a} and is {k=b}" in made.report.not_carried[0]


def test_where_the_start_is_not_known_what_is_gone_comes_back_and_the_flows_with_it(
    tmp_path: Path, database: t.Callable[..., Contents], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    made = host(tmp_path)

    def read(_host: t.Any) -> dict[str, str]:
        done.append("read")
        return {"br0": "state"}

    monkeypatch.setattr(rehearsal, "_states", read)
    monkeypatch.setattr(rehearsal, "fill_up", lambda _switch, state: done.append(f"filled: {state}"))
    made.database.restart_server = lambda _free_try: done.append("restarted")
    made.database.wait_for_vswitchd = lambda: done.append("waited")
    after = {"Open_vSwitch": {"u": _switch(bridges="b")["Open_vSwitch"]["u"], "new": {}}}
    used = database(made, _switch(bridges="a"), after)
    with pytest.raises(HotUpgradeError, match=r"bridges was \{k=a\} and is \{k=b\}"):
        rehearsal.restart_server(made)
    assert [each["op"] for each in used.operations] == ["update"]  # what is new may be anybody's
    assert done == ["read", "restarted", "waited", "filled: state"]


def test_a_start_that_fails_in_earnest_says_what_its_log_says(
    tmp_path: Path, database: t.Callable[..., Contents]
) -> None:
    log = tmp_path / "ovsdb-server.log"
    log.write_text("1|ERR|long ago\n")
    made = host(tmp_path, argv=["ovs-ctl", "start"])
    made.request.server.argv.append(f"--log-file={log}")
    made.request.server.argv.remove("--log-file=/var/log/openvswitch/ovsdb-server.log")

    def fails(_free_try: bool) -> None:
        with log.open("a") as file:
            file.write("2|INFO|fine\n3|ERR|lock held by another\n")
        raise HotUpgradeError("it did not start", "status 1", "Look")

    made.database.restart_server = fails
    database(made, _switch())
    with pytest.raises(HotUpgradeError) as raised:
        rehearsal.restart_server(made)
    assert str(raised.value) == "it did not start: status 1; 3|ERR|lock held by another. Look"


@pytest.mark.parametrize(
    ("after", "refused"),
    [
        (_switch(external_ids="b"), False),
        ({"Open_vSwitch": {"u": {"external_ids": ("map", (("k", "a"),)), "bridges": ("set", ())}}}, True),
    ],
)
def test_a_start_that_changes_more_than_names_is_not_made(
    tmp_path: Path,
    database: t.Callable[..., Contents],
    monkeypatch: pytest.MonkeyPatch,
    after: database_content.Content,
    refused: bool,
) -> None:
    before = {
        "Open_vSwitch": {"u": {**_switch(external_ids="a")["Open_vSwitch"]["u"], "bridges": ("set", ("b",))}}
    }
    monkeypatch.setattr(rehearsal, "_lay_out", lambda _host: before)
    monkeypatch.setattr(rehearsal, "_start", lambda _host: "what it said")
    monkeypatch.setattr(rehearsal, "clear", lambda _host: None)
    made = host(tmp_path)
    database(made, after)
    if refused:
        with pytest.raises(HotUpgradeError, match=r"Open_vSwitch\.bridges was b and is \[\]; what it said"):
            rehearsal.rehearse(made)
    else:
        rehearsal.rehearse(made)
        assert made.written[rehearsal.FORESEEN] == [["Open_vSwitch", "u", "external_ids"]]


@pytest.mark.parametrize(("found", "times"), [("8.3.1", 1), ("8.8.0", 0)])
def test_what_a_conversion_has_dropped_comes_back_with_the_schema(
    tmp_path: Path, database: t.Callable[..., Contents], found: str, times: int
) -> None:
    lost = [_difference("external_ids", ("map", (("k", "a"),)), None)]
    made = host(tmp_path)
    made.written[rehearsal.DROPPED] = json.loads(json.dumps(database_content.as_json(lost)))
    made.database.ensure, made.database.convert = lambda: None, lambda _schema, _lost: ["told"]
    made.database.read_schema = lambda _path: {
        "version": "8.8.0",
        "tables": {"Open_vSwitch": {"columns": {}}},
    }
    used = database(made, _switch(external_ids="a"), versions=(found,))
    rehearsal.convert_back(made)
    assert len(used.operations) == times
    assert made.report.not_carried == ["told"]


@pytest.mark.parametrize(("now", "times"), [("", 1), ("b", 0)])
def test_what_was_taken_out_for_a_conversion_that_never_came_is_put_back(
    tmp_path: Path, database: t.Callable[..., Contents], now: str, times: int
) -> None:
    """Unless somebody else has set it since."""
    made = host(tmp_path)
    lost = [_difference("external_ids", ("map", (("k", "a"),)), None)]
    made.written[rehearsal.DROPPED] = database_content.as_json(lost)
    made.database.ensure, made.database.convert = lambda: None, lambda _schema, _lost: []
    made.database.read_schema = lambda _path: {"version": "8.8.0"}
    found = {"Open_vSwitch": {"u": {"external_ids": ("map", (("k", now),) if now else ())}}}
    used = database(made, found, versions=("8.8.0", "8.8.0"))
    rehearsal.convert_back(made)
    assert len(used.operations) == times


def test_what_a_conversion_drops_is_announced(tmp_path: Path, database: t.Callable[..., Contents]) -> None:
    schema = tmp_path / "schema"
    schema.write_text(json.dumps({"version": "8.3.1", "tables": {"Open_vSwitch": {"columns": {}}}}))
    made = host(tmp_path)
    made.database.convert = lambda _schema, _lost: ["schema 8.3.1 has no place for it"]
    made.database.read_schema = lambda path: json.loads(Path(path).read_text())
    database(made, _switch(external_ids="a"))
    rehearsal.convert(made, str(schema))
    assert made.report.not_carried == ["schema 8.3.1 has no place for it"]
    assert [each.place for each in database_content.of_json(made.written[rehearsal.DROPPED])] == [
        "Open_vSwitch.external_ids"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_script_of_another_user_is_not_run_by_the_dry_start(tmp_path: Path) -> None:
    """With --ovs-user, /etc/openvswitch belongs to that user, and ovs-ctl sources this file."""
    script, target = tmp_path / "install_uuid.conf", tmp_path / "copy"
    script.write_text("INSTALLATION_UUID=x")
    rehearsal._copy_small(str(script), str(target))
    assert target.read_text() == "INSTALLATION_UUID=x"
    target.unlink()
    os.chown(script, 65534, 65534)
    rehearsal._copy_small(str(script), str(target))
    assert not target.exists()


def test_a_link_or_a_pipe_is_not_copied_for_the_dry_start(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match="symbolic links|no regular file"):
            rehearsal._copy_small(str(tmp_path / name), str(tmp_path / "copy"))
