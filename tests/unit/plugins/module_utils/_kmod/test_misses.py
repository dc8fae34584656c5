# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel asks about packets that it does not know, and what it is answered."""

from __future__ import annotations

import errno
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import misses
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import Refusal, joined

PORT = {3: struct.pack("=I", 5)}


def asked(key: dict[int, bytes], command: int = 1) -> bytes:
    return bytes([command, 1, 0, 0]) + struct.pack("=i", 9) + joined({1: b"packet__", 2: joined(key)})


def test_a_miss_as_the_kernel_tells_it() -> None:
    assert misses.parsed(asked(PORT)) == misses.Miss(9, 5, b"packet__", joined(PORT))


@pytest.mark.parametrize(
    ("key", "command"),
    [
        (PORT, 2),  # what an action sends to ovs-vswitchd
        ({**PORT, 16: b"tunnel__"}, 1),
        ({**PORT, 20: struct.pack("=I", 1)}, 1),  # recirculated
        ({**PORT, 15: struct.pack("=I", 1)}, 1),  # with a mark
    ],
)
def test_what_is_not_the_first_look_at_a_packet_of_a_port_waits(key: dict[int, bytes], command: int) -> None:
    assert misses.parsed(asked(key, command)) is None


class Socket:
    """The kernel's questions, one after the other; then silence."""

    address = 77

    def __init__(self, questions: list[bytes]) -> None:
        self.questions = questions

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *__: object) -> None:
        pass

    def told(self, _seconds: float) -> t.Iterator[tuple[int, bytes]]:
        if not self.questions:
            raise TimeoutError
        yield 30, self.questions.pop(0)


def test_everything_asked_before_the_end_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    socket = Socket([asked({3: struct.pack("=I", port)}) for port in (1, 2, 3, 4, 5)])
    done: list[t.Any] = []

    class Kernel:
        def __init__(self, _socket: t.Any) -> None:
            pass

        def forward(self, *words: t.Any) -> list[Refusal]:
            done.append(words[0:2] + words[3:])
            # Of the port 5 at all, of the others once the number is that of the module of now.
            return [] if "forgotten" in done and words[3] != [5] else [Refusal(0, errno.ENOENT, "")]

        def forget(self) -> None:
            done.append("forgotten")

    def answer(port: int, _packet: bytes) -> t.Sequence[int] | None:
        if port == 3:
            raise HotUpgradeError("nobody answers", "")
        return {1: [7, 8], 2: None, 4: [], 5: [5]}[port]

    monkeypatch.setattr(misses, "Netlink", lambda _protocol: socket)
    monkeypatch.setattr(misses, "Kernel", Kernel)
    monkeypatch.setattr(misses, "prefer", lambda _number: None)
    found = misses.Misses(answer)
    found.start()
    found.stop()
    assert found.address == 77
    sent, refused = (9, b"packet__", [7, 8]), (9, b"packet__", [5])
    assert done == [sent, "forgotten", sent, "forgotten", refused, "forgotten", refused]
    assert (found.forwarded, found.dropped, found.left) == (1, 1, 3)


def test_whoever_goes_on_asking_does_not_keep_it_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of new flows, and somebody who is slow, or answers nonsense."""

    class Flood(Socket):
        def told(self, _seconds: float) -> t.Iterator[tuple[int, bytes]]:
            yield 30, asked(PORT)

    def answer(_port: int, _packet: bytes) -> t.Sequence[int]:
        raise ValueError("\u00b2 is a digit, and no number")

    monkeypatch.setattr(misses, "Netlink", lambda _protocol: Flood([]))
    monkeypatch.setattr(misses, "_LAST_WORDS", 0.0)
    monkeypatch.setattr(misses, "prefer", lambda _number: None)
    found = misses.Misses(answer)
    found.start()
    found.stop()
    assert not found._thread.is_alive()
    assert found.forwarded == found.dropped == 0
