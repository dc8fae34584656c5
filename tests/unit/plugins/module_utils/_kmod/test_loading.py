# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module goes when nobody holds it any more, and comes with the kernel's own reason if it does not."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import loading


class Calls:
    """A kernel that answers with these numbers, the last for ever."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.asked, self.loaded = list(numbers), 0, False

    def live(self, name: str) -> bool:
        assert name == "openvswitch"
        return self.loaded

    def insert(self, image: bytes) -> int:
        return self._next()

    def remove(self, name: bytes) -> int:
        assert name == b"openvswitch"
        return self._next()

    def _next(self) -> int:
        self.asked += 1
        return self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]


def test_one_that_somebody_has_just_let_go_of() -> None:
    calls = Calls(errno.EAGAIN, errno.EBUSY, 0)
    loading.remove(calls, "openvswitch")
    assert calls.asked == 3


def test_one_that_is_not_there() -> None:
    loading.remove(Calls(errno.ENOENT), "openvswitch")


def test_one_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PAUSE", 0.0)
    with pytest.raises(
        HotUpgradeError, match="the kernel keeps the module openvswitch: Resource temporarily unavailable"
    ):
        loading.remove(Calls(errno.EAGAIN), "openvswitch")


def test_one_that_must_not_be_removed() -> None:
    calls = Calls(errno.EPERM)
    with pytest.raises(HotUpgradeError, match="not permitted"):
        loading.remove(calls, "openvswitch")
    assert calls.asked == 1


@pytest.mark.parametrize("number", [0, errno.EEXIST])
def test_loaded(number: int) -> None:
    loading.insert(Calls(number), "openvswitch", b"image")


def test_not_loaded() -> None:
    with pytest.raises(HotUpgradeError, match="does not take the module openvswitch: Exec format error"):
        loading.insert(Calls(errno.ENOEXEC), "openvswitch", b"image")


def test_one_that_is_there_is_not_put_into_a_kernel_that_takes_none() -> None:
    """kernel.modules_disabled is looked at first: the datapath has to come back on what is loaded."""
    calls = Calls(errno.EPERM)
    calls.loaded = True
    loading.insert(calls, "openvswitch", b"image")
    assert calls.asked == 0


def test_one_is_tried_out_while_another_one_is_there() -> None:
    loading.try_out(Calls(errno.EEXIST), "openvswitch", b"image")
    with pytest.raises(HotUpgradeError, match="does not take the module openvswitch: Key was rejected"):
        loading.try_out(Calls(errno.EKEYREJECTED), "openvswitch", b"image")


def test_whether_one_is_live_is_what_the_kernel_shows() -> None:
    assert not loading.System().live("ovsops_no_such_module")


def test_this_kernel_refuses_what_is_no_module() -> None:
    assert loading.System().insert(b"no module") in (errno.ENOEXEC, errno.EPERM, errno.ENOSYS)
    assert loading.System().remove(b"ovsops_no_such_module") in (errno.ENOENT, errno.EPERM, errno.ENOSYS)


def test_another_one_that_came_first_goes_again() -> None:
    """An unprivileged process that asks for a datapath has the kernel load the file on the disk."""
    calls = Calls(errno.EEXIST, 0, errno.EEXIST, 0, 0)
    loading.put(calls, "openvswitch", b"")
    assert calls.asked == 5
    with pytest.raises(HotUpgradeError, match="File exists"):
        loading.put(Calls(*[errno.EEXIST, 0] * 5, errno.EEXIST), "openvswitch", b"")
