# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three network namespaces, with sockets that note what is sent, and what was captured there."""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    links,
    namespaces,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured, Move
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    NESTED,
    Netlink,
    Refusal,
    attribute,
)


class Route:
    """A socket that notes what is sent, and refuses what it is told to, by place."""

    namespace = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refused: list[list[Refusal]] = []

    def close(self) -> None:
        """As ``Netlink`` does."""

    def transact(self, prepared: t.Sequence[bytes]) -> list[Refusal]:
        self.sent += prepared
        return self.refused.pop(0) if self.refused else []


def space(inode: int, number: int | None) -> namespaces.Space:
    return namespaces.Space(
        namespaces.Namespace(4, inode, -1), number, t.cast(Netlink, Route()), t.cast(Netlink, Route())
    )


SPACES = (space(100, None), space(200, 0), space(300, 1))


def link(index: int, kind: str = "", below: int = 0, netns: int | None = None) -> links.Link:
    body = struct.pack("=BxHiII", 0, 0, index, 1, 0) + attribute(3, b"dev%d\0" % index)
    body += numbered(5, below) if below else b""
    body += numbered(37, netns) if netns is not None else b""
    body += attribute(18 | NESTED, attribute(1, kind.encode() + b"\0")) if kind else b""
    return links.parse(body)


def request(stage: Stage, device: int, what: str, *places: int) -> Request:
    return Request(stage, device, what, what.encode().ljust(24, b"."), places)


def captured(*batches: Batch, moves: tuple[Move, ...] = ()) -> Captured:
    names = {(0, 5): "br0", (1, 13): "in4"}
    return Captured(SPACES, {1: 5}, names, (1,), moves, batches)


def with_route(found: Captured, place: int, route: Route) -> Captured:
    spaces = list(found.spaces)
    spaces[place] = dataclasses.replace(spaces[place], route=t.cast(Netlink, route))
    return dataclasses.replace(found, spaces=tuple(spaces))
