# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A kernel module taken out of the kernel and put into it by this very process: init_module(2), delete_module(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError

# By number (include/uapi/asm-generic/unistd.h and those of each architecture): the C library has no names for them.
_GENERIC = (105, 106)
_NUMBERS = {
    "x86_64": (175, 176),
    "i686": (128, 129),
    "armv7l": (128, 129),
    "ppc64le": (128, 129),
    "ppc64": (128, 129),
    "s390x": (128, 129),
}
# Whoever has let go of a module may have done so a moment later only.
_TRIES, _PAUSE = 400, 0.0005
# So often another one may have come first.
_OTHERS = 5


class Calls(t.Protocol):
    """The kernel's part; each returns the number of the error, 0 for none."""

    def insert(self, image: bytes) -> int:
        """Load the module ``image``."""

    def remove(self, name: bytes) -> int:
        """Unload the module ``name``, at once or not at all."""

    def live(self, name: str) -> bool:
        """Whether a module ``name`` is loaded and works: the one call that returns no number."""


class System:
    """This machine's."""

    def __init__(self) -> None:
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._insert, self._remove = _NUMBERS.get(platform.machine(), _GENERIC)

    def insert(self, image: bytes) -> int:
        """See ``Calls``."""
        size = ctypes.c_ulong(len(image))
        return self._done(self._call(self._insert, ctypes.c_char_p(image), size, ctypes.c_char_p(b"")))

    def remove(self, name: bytes) -> int:
        """See ``Calls``."""
        return self._done(self._call(self._remove, ctypes.c_char_p(name), ctypes.c_uint(os.O_NONBLOCK)))

    def live(self, name: str) -> bool:
        """See ``Calls``."""
        try:
            with open(f"/sys/module/{name}/initstate", encoding="ascii") as file:
                return file.read().strip() == "live"
        except OSError:
            return False

    def _done(self, result: int) -> int:
        return 0 if result == 0 else ctypes.get_errno()


def remove(calls: Calls, name: str) -> None:
    """Take the module out; one that is not there is fine.  Raises ``HotUpgradeError`` when somebody holds it."""
    for __ in range(_TRIES):
        number = calls.remove(name.encode())
        if number in (0, errno.ENOENT):
            return
        if number not in (errno.EAGAIN, errno.EBUSY):
            break
        time.sleep(_PAUSE)
    raise HotUpgradeError(
        f"the kernel keeps the module {name}",
        os.strerror(number),
        f"Look at lsmod and /sys/module/{name}/holders for who uses it, and at dmesg",
    )


def put(calls: Calls, name: str, image: bytes) -> None:
    """Put the module in, and no other one: whoever asks for a datapath has the kernel load the file on the disk.

    Raises ``HotUpgradeError`` with the kernel's reason.
    """
    number = calls.insert(image)
    for __ in range(_OTHERS):
        if number != errno.EEXIST:
            break
        remove(calls, name)
        number = calls.insert(image)
    _require(number, name)


def insert(calls: Calls, name: str, image: bytes) -> None:
    """Put the module in; one that is there is fine.  Raises ``HotUpgradeError`` with the kernel's reason.

    A kernel that takes no modules any more (kernel.modules_disabled) says so before it says that one is there.
    """
    if calls.live(name):
        return
    number = calls.insert(image)
    if number != errno.EEXIST:
        _require(number, name)


def try_out(calls: Calls, name: str, image: bytes) -> None:
    """Have the kernel judge ``image`` while a module of that name is there, so that it is not loaded.

    It looks at its own settings, signature and key, security modules and version first, and then says that there is one
    (load_module in kernel/module/main.c).  Raises ``HotUpgradeError`` with the kernel's reason.
    """
    number = calls.insert(image)
    if number != errno.EEXIST:
        _require(number, name)


def _require(number: int, name: str) -> None:
    if number:
        raise HotUpgradeError(
            f"the kernel does not take the module {name}",
            os.strerror(number),
            "dmesg says what is wrong with it",
        )
