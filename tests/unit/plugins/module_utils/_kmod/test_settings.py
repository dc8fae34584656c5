# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of devices: what is read, and what not."""

from __future__ import annotations

import contextlib
import errno
import pathlib

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    namespaces,
    settings,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.settings import Setting

OTHER = namespaces.Namespace(4, 200, -1)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes anywhere."""
    monkeypatch.setattr(namespaces, "within", lambda _namespace: contextlib.nullcontext())


def test_a_device_cannot_have_the_settings_of_all_others_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_of", lambda device: [("ipv4/conf", "forwarding", device.encode())])
    names = [("dev5", "all"), ("default", "in2"), ("dev6", "in1")]
    found = settings.changed(OTHER, names, ours=False)
    assert found == [(), (), (Setting("ipv4/conf/in1/forwarding", b"dev6"),)]


def test_the_secret_is_set_before_the_mode_that_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a device that goes while its settings are read, as those of containers do, has none."""

    def listed(place: str) -> list[str]:
        if "ipv6/conf" not in place:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return ["addr_gen_mode", "mtu", "stable_secret"]

    monkeypatch.setattr(settings.os, "listdir", listed)
    monkeypatch.setattr(settings, "_read", lambda _path: b"1\n")
    assert [each[1] for each in settings._of("in1")] == ["stable_secret", "addr_gen_mode", "mtu"]


def test_settings_below_sys_are_those_of_our_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "dev5"
    (folder / "queues/rx-0").mkdir(parents=True)
    (folder / "gro_flush_timeout").write_text("20000\n")
    (folder / "queues/rx-0/rps_cpus").write_text("00000000,00000000\n")
    (folder / "queues/rx-0/rps_flow_cnt").write_text("4096\n")
    monkeypatch.setattr(settings, "_FOLDER", str(tmp_path))
    monkeypatch.setattr(settings, "_of", lambda _device: [])
    assert settings.changed(OTHER, [("dev5", "in5")], ours=True) == [
        (
            Setting(f"{tmp_path}/in5/gro_flush_timeout", b"20000\n"),
            Setting(f"{tmp_path}/in5/queues/rx-0/rps_flow_cnt", b"4096\n"),
        )
    ]
    assert settings.changed(OTHER, [("dev5", "in5")], ours=False) == [()]


def test_labels_are_not_taken_unless_somebody_has_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"dev5": b"1\n", "dev6": b"0\n"}
    monkeypatch.setattr(
        settings, "_of", lambda name: [("mpls/conf", "input", told[name])] if name in told else []
    )
    found = settings.changed(OTHER, [("dev5", "dev5"), ("dev6", "dev6")], ours=False)
    assert found == [(Setting("mpls/conf/dev5/input", b"1\n"),), ()]
