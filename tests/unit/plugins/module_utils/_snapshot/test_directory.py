# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import os
import typing as t
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import read_chunks
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory as snapshots
from tests.harness.waiting import wait_until

NAME = "br $(x)/'\""


def flow(number: int) -> bytes:
    match = wire.delete_flows(wire.OF15, 0)[48:]
    return wire.flow_statistics(wire.flow_mod(wire.OF15, 0, 1, number, number, 0, 0, 0, 0, match))


SETTINGS = b"".join(
    [
        wire.nicira(wire.OF15, wire.NX_TLV_REPLY, 1, bytes(16) + bytes.fromhex("ffff100400000000")),
        wire.message(wire.OF15, wire.GET_CONFIG_REPLY, 1, b"\0\1\0\0"),
    ]
)


def write(path: Path, flows: int = 3) -> snapshots.Snapshot:
    """A snapshot with one bridge."""
    with snapshots.Writer(str(path), flows) as writer:
        with writer.file("bridge-0001.of") as file:
            file.write(SETTINGS)
            for number in range(flows):
                file.write(flow(number))
        bridge = snapshots.SavedBridge(
            NAME,
            None,
            "netdev",
            "OpenFlow15",
            "OpenFlow10",
            {"p": 1},
            {"flows": flows},
            [],
            file.name,
            len(SETTINGS),
            [],
            [],
        )
        return writer.finish({"bridges": [vars(bridge)], "host": "h", "versions": {}})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written, path = write(tmp_path / "s"), tmp_path / "s"
    read = snapshots.read(str(path))
    assert read.manifest == written.manifest
    state = read.states[NAME]
    assert state.settings.tlvs == (wire.Tlv(0xFFFF, 0x10, 4, 0),)
    assert state.settings.fragments == 1
    for __ in range(2):
        assert list(state.replies()) == [flow(0), flow(1), flow(2)]
    assert path.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in path.iterdir()} == {0o600}
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "s"
    if not path.exists():
        write(path)
    victim = data.draw(st.sampled_from(sorted(path.iterdir())))
    whole = victim.read_bytes()
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    victim.write_bytes(damaged)
    try:
        with pytest.raises(Refused) as refusal:
            snapshots.read(str(path))
        assert str(path) in str(refusal.value)
        with pytest.raises(Refused):
            stream(snapshots.read(str(path), at_once=False))
    finally:
        victim.write_bytes(whole)
    snapshots.read(str(path))
    stream(snapshots.read(str(path), at_once=False))


def stream(snapshot: snapshots.Snapshot) -> None:
    """Read all states to their ends, as staging does."""
    for state in snapshot.states.values():
        for __ in state.objects():
            pass


def test_a_file_that_changes_after_it_was_read_is_named_at_the_end_of_the_stream(tmp_path: Path) -> None:
    write(tmp_path / "s")
    state = snapshots.read(str(tmp_path / "s")).states[NAME]
    file = tmp_path / "s/bridge-0001.of"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    objects = state.objects()
    assert [wire.header(data).xid for data in itertools.islice(objects, 3)] == [1, 2, 3]
    for check in (lambda: list(objects), state.check):
        with pytest.raises(Refused, match=r"bridge-0001.of is damaged: its SHA-256"):
            check()


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    write(tmp_path / "s")
    file = tmp_path / "s/bridge-0001.of"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(Refused, match=rf"bridge-0001.of is damaged: it has {keep} bytes instead of"):
        snapshots.read(str(tmp_path / "s"))


def edit(path: Path, change: t.Callable[[dict[str, t.Any]], None]) -> None:
    """Change the manifest and sign it again, as a wrong program would."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    manifest["sha256"] = snapshots._manifest_sum(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "has format 2: this version of the collection reads format 1"),
        (lambda m: m.update(format="1"), "has format '1'"),
        (lambda m: m.pop("format"), "is not the manifest of a snapshot"),
        (lambda m: m.pop("bridges"), "is incomplete: 'bridges'"),
        (lambda m: m["bridges"][0].update(more=1), "is incomplete"),
        (lambda m: m["files"].pop("bridge-0001.of"), "is incomplete: 'bridge-0001.of'"),
        (
            lambda m: m["files"].update({"../../etc/passwd": {"size": 1, "sha256": ""}}),
            "names a file outside of the snapshot",
        ),
        (lambda m: m["files"].update({"gone": {"size": 1, "sha256": ""}}), "gone cannot be read"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    tmp_path: Path, change: t.Callable[[dict[str, t.Any]], None], message: str
) -> None:
    write(tmp_path / "s")
    edit(tmp_path / "s", change)
    with pytest.raises(Refused) as refusal:
        snapshots.read(str(tmp_path / "s"))
    assert message in str(refusal.value)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "s")
    file = tmp_path / "s/bridge-0001.of"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="cannot be read"):
        snapshots.read(str(tmp_path / "s"))


def test_nothing_but_a_snapshot_is_replaced_or_deleted(tmp_path: Path) -> None:
    foreign = tmp_path / "s"
    foreign.mkdir(mode=0o700)
    (foreign / "precious").touch()
    for action in (snapshots.remove, snapshots.read, lambda path: snapshots.Writer(path, 1)):
        with pytest.raises(Refused, match=r"is no snapshot: it has no manifest.json"):
            action(str(foreign))
    assert (foreign / "precious").exists()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Refused, match="is no directory"):
        snapshots.remove(str(file))
    with pytest.raises(Refused, match="there is no snapshot"):
        snapshots.read(str(tmp_path / "nothing"))


def test_a_directory_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    write(tmp_path / "s")
    (tmp_path / "s").chmod(0o770)
    with pytest.raises(Refused, match="others can write to it"):
        snapshots.read(str(tmp_path / "s"))


def test_a_failed_snapshot_leaves_the_older_one_in_place(tmp_path: Path) -> None:
    older = write(tmp_path / "s")
    with (
        pytest.raises(ZeroDivisionError),
        snapshots.Writer(str(tmp_path / "s"), 1) as writer,
        writer.file("x"),
    ):
        raise ZeroDivisionError
    assert snapshots.read(str(tmp_path / "s")).manifest == older.manifest
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    newer = write(tmp_path / "s", 1)
    assert snapshots.read(str(tmp_path / "s")).manifest == newer.manifest
    wait_until(lambda: [entry.name for entry in tmp_path.iterdir()] == ["s"])


def test_what_a_killed_process_did_not_delete_is_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_delete_beside", lambda path: None)
    for flows in (1, 2):
        write(tmp_path / "s", flows)
    assert len(list(tmp_path.iterdir())) == 2
    with snapshots.Writer(str(tmp_path / "s"), 1):
        assert len(list(tmp_path.iterdir())) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_leftovers_of_the_dead_are_removed_and_work_of_the_living_is_not(tmp_path: Path) -> None:
    (tmp_path / ".s.dead.partial").mkdir()
    (tmp_path / ".other.dead.partial").mkdir()
    with snapshots.Writer(str(tmp_path / "s"), 1):
        living = {entry.name for entry in tmp_path.iterdir()} - {".other.dead.partial"}
        assert len(living) == 1
        with snapshots.Writer(str(tmp_path / "s"), 1):
            assert living < {entry.name for entry in tmp_path.iterdir()}
    assert [entry.name for entry in tmp_path.iterdir()] == [".other.dead.partial"]


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="not enough room"):
        snapshots.Writer(str(tmp_path / "s"), 1 << 60)

    def full(*__: t.Any) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots.File, "write", full)
    with pytest.raises(HotUpgradeError, match="the disk of .* is full"):
        write(tmp_path / "s", 500)
    assert os.listdir(tmp_path) == []


def test_a_file_that_ends_within_a_message_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(flow(1) + flow(2)[:-1])
    with file.open("rb") as opened, pytest.raises(HotUpgradeError, match="cut off"):
        list(read_chunks(opened))
