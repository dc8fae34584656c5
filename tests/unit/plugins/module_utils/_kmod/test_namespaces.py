# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which namespaces there are, whatever lies beside their names."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import namespaces
from tests.unit.plugins.module_utils._kmod.spaces import Route


def test_a_namespace_of_our_own_is_left_again() -> None:
    home = os.stat("/proc/thread-self/ns/net")
    with namespaces.private():
        assert os.stat("/proc/thread-self/ns/net").st_ino != home.st_ino
        assert [name for __, name in socket.if_nameindex()] == ["lo"]
    assert os.stat("/proc/thread-self/ns/net").st_ino == home.st_ino


def test_a_name_without_a_namespace_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted ``ip netns`` leaves a file; others may put anything there."""
    (tmp_path / "stale").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "uts").symlink_to("/proc/self/ns/uts")
    monkeypatch.setattr(namespaces, "_MOUNTS", (f"{tmp_path}/*",))
    found = namespaces.every()
    own = os.stat(namespaces.OWN)
    assert (found[0].device, found[0].inode) == (own.st_dev, own.st_ino)
    assert not {(each.device, each.inode) for each in found} & {
        (seen.st_dev, seen.st_ino) for seen in map(os.stat, tmp_path.iterdir())
    }
    for each in found:
        with namespaces.within(each):
            pass
        os.close(each.descriptor)


def test_as_many_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user of a host may make more than a login has files; that one is left out must not go unnoticed."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
        for each in namespaces.every():
            os.close(each.descriptor)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def no_more(*__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(namespaces.os, "open", no_more)
    with pytest.raises(HotUpgradeError, match="cannot all be looked at: Too many open files"):
        namespaces.every()


def test_more_namespaces_than_there_are_files_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and nothing stays open: whoever looked goes on to what else is to be known."""
    opened = [os.open("/dev/null", os.O_RDONLY) for __ in range(3)]
    some = [namespaces.Namespace(4, place, each) for place, each in enumerate(opened)]
    sockets = [Route() for __ in range(3)]

    def socket(_protocol: int) -> Route:
        if not sockets:
            raise OSError(errno.EMFILE, "Too many open files")
        return sockets.pop()

    monkeypatch.setattr(namespaces.netlink, "Netlink", socket)
    monkeypatch.setattr(namespaces, "every", lambda: some)
    monkeypatch.setattr(namespaces, "number", lambda *_: 1)
    monkeypatch.setattr(namespaces, "within", lambda _namespace: contextlib.nullcontext())
    with pytest.raises(HotUpgradeError, match="cannot all be looked at"):
        namespaces.spaces()
    for each in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(each)
