# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The settings of devices below /proc/sys/net and /sys/class/net: what is other than a new device has it, and giving it back."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import namespaces

_SETTINGS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh", "mpls/conf")
_OF_MPLS = {("mpls/conf", "input"): b"0\n"}
# Settings below /sys, where a mount of it shows the devices of one namespace alone: by whoever has mounted it, ours.
_FOLDER = "/sys/class/net"
_OF_SYSFS = ("gro_flush_timeout", "napi_defer_hard_irqs", "queues/rx-0/rps_cpus", "queues/rx-0/rps_flow_cnt")
# Names that mean other settings than a device's: one of that name has none.
_ALL = ("all", "default")
# The kernel keeps these itself.
_TOLD_ONLY = ("mc_forwarding",)
# Has the kernel make other addresses, whatever addr_gen_mode says (addrconf_sysctl_stable_secret in net/ipv6/addrconf.c).
_FIRST = "stable_secret"
# A device that comes up gets that of the link (addrconf_notify).
_WHEN_UP = ("ipv6/conf", "mtu")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of the kernel that is not what a new device gets; ``path`` below /proc/sys/net, or from the root on."""

    path: str
    value: bytes

    @property
    def when_up(self) -> bool:
        """Whether it holds only if it is set when the device is up."""
        return (os.path.dirname(os.path.dirname(self.path)), os.path.basename(self.path)) == _WHEN_UP


def changed(
    namespace: namespaces.Namespace, names: t.Iterable[tuple[str, str]], ours: bool
) -> list[tuple[Setting, ...]]:
    """What is set other than a new device has it, for each of ``names``: what a device is called now, and will be then.

    ``ours`` tells whether it is our own namespace: elsewhere /sys is not looked at.
    The defaults of neighbours are in the first namespace alone; where they are not to be seen, all is given back.
    """
    usual = _usual()
    with namespaces.within(namespace):
        usual = {**usual, **_usual()}
        return [
            () if {now, then} & set(_ALL) else tuple(_changed(now, then, usual, ours)) for now, then in names
        ]


def _changed(
    now: str, then: str, usual: t.Mapping[tuple[str, str], bytes], ours: bool
) -> t.Iterator[Setting]:
    for folder, key, value in _of(now):
        if value != usual.get((folder, key)):
            yield Setting(f"{folder}/{then}/{key}", value)
    for key in _OF_SYSFS if ours else ():
        found = _read(f"{_FOLDER}/{now}/{key}") or b""
        if found.strip(b"0,\n"):
            yield Setting(f"{_FOLDER}/{then}/{key}", found)


def write(setting: Setting) -> list[str]:
    """Give it back, in the namespace that this thread works in; returns what was refused, in words."""
    try:
        descriptor = os.open(os.path.join("/proc/sys/net", setting.path), os.O_WRONLY)
        try:
            os.write(descriptor, setting.value)
        finally:
            os.close(descriptor)
    except OSError as error:
        return [f"{setting.path}: {error.strerror}"]
    return []


def _usual() -> dict[tuple[str, str], bytes]:
    """The settings that a new device gets here, by folder and name; those of MPLS have no default to be read."""
    return {**_OF_MPLS, **{(folder, key): value for folder, key, value in _of("default")}}


def _of(device: str) -> t.Iterator[tuple[str, str, bytes]]:
    beat()
    for folder in _SETTINGS:
        place = f"/proc/sys/net/{folder}/{device}"
        for key in _listed(place):
            value = None if key in _TOLD_ONLY else _read(f"{place}/{key}")
            if value is not None:
                yield folder, key, value


def _listed(place: str) -> list[str]:
    try:
        return sorted(os.listdir(place), key=_FIRST.__ne__)
    except OSError:  # no device has such settings, or this one has just gone with its container
        return []


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:  # not every setting can be read
        return None
