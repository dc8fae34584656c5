# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whether the module is to be reloaded, and what stands in the way: facts in, plan out, nothing touched."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.kernel_modules import Module, Support
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.module_image import Image

# ``coming`` looks ahead: packages are about to replace the file on the disk, and the loaded one is kept before.
CURRENT, FORCED, COMING = "current", "forced", "coming"
REPORT, REFUSE = "report", "refuse"

# What scripts/sign-file ends a module with.
_SIGNED = b"~Module signature appended~\n"


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds an internal port, or what is on one, and does not find its successor.

    It does so by a packet socket, or by the file of a macvtap.
    """

    port: str
    process: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a plan rests on.

    ``image`` is the module on the disk, ``fault`` why there is none; ``old`` the file of the loaded one; ``kernel`` as in
    uname -r; ``signatures`` what asks for signed modules, ``closed`` whether the kernel takes none any more; ``missing`` modules
    that it needs and that are not to be had;
    ``drivers`` whether the userspace that runs and the one on the disk can drive it, by what they are called; ``foreign``
    who else uses the module, in words; ``holders`` who holds internal ports, ``managers`` who configures which, by port;
    ``lost`` what nobody brings back, in words; ``without`` the kernel's modules that the bypass takes and that are not found.
    """

    module: Module
    image: Image | None
    fault: str
    old: Image | None
    kernel: str
    signatures: str | None = None
    closed: bool = False
    missing: tuple[str, ...] = ()
    drivers: t.Mapping[str, Support] = dataclasses.field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()
    managers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    lost: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """``needed`` tells whether there is something to do, ``reasons`` what stands in its way; ``why`` is it in one sentence."""

    needed: bool
    why: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def decide(facts: Facts, state: str, held: str) -> Plan:
    """The plan for ``state`` (``current``, ``forced`` or ``coming``), with ``held`` ports refused or reported."""
    needed, why = _need(facts, state)
    reasons = tuple(_reasons(facts, state, held)) if needed else ()
    return Plan(needed, why, reasons, tuple(_warnings(facts, held)) if needed else ())


def _need(facts: Facts, state: str) -> tuple[bool, str]:
    module = facts.module
    if not module.loaded:
        return False, f"the module {module.name} is not loaded: the one on the disk is taken when it is"
    if state == FORCED:
        return True, "it was asked for"
    if module.builtin:
        return False, f"{module.name} is part of the kernel: another one comes with another kernel"
    mine = module.build_id or module.srcversion
    if state == COMING and mine is not None:
        return True, f"the packages may bring another module {module.name} than the loaded one ({mine})"
    if module.reload_needed is None:
        return False, (
            f"nothing tells whether the loaded module {module.name} is the one on the disk: it has neither build-id nor "
            "srcversion; state=forced reloads it anyway"
        )
    if not module.reload_needed:
        return (
            False,
            f"the loaded module {module.name} is the one on the disk ({mine})",
        )
    return True, (
        f"the loaded module {module.name} is {mine}, that on the disk "
        f"{module.disk_build_id or module.disk_srcversion}"
    )


def _reasons(facts: Facts, state: str, held: str) -> t.Iterator[str]:
    if facts.module.builtin:
        yield f"{facts.module.name} is part of the kernel and cannot be reloaded: boot the kernel that has the new one"
        return
    if facts.closed:
        yield "the kernel takes and gives up no modules until it is booted again (kernel.modules_disabled is 1)"
    if state != COMING:
        yield from _of_the_file(facts)
    if facts.old is None and not (state == COMING and _can_be_kept(facts.module)):
        yield (
            "no file of the loaded module is kept, so that nothing could be loaded again if the new one fails: keep it with "
            "state=kept before the package is installed, or install the old package's file again for that"
        )
    for who, support in facts.drivers.items():
        if support.supported is False:
            yield f"{who} cannot drive it: {support.reason}"
    for user in facts.foreign:
        yield f"{user}: it would lose its packets with this module"
    if held == REFUSE:
        for holder in facts.holders:
            yield f"{holder.process} holds the port {holder.port} and would not find its successor: stop it before"


def _of_the_file(facts: Facts) -> t.Iterator[str]:
    if facts.image is None:
        yield f"there is no module to load: {facts.fault}"
    else:
        yield from _unfit(facts, facts.image)


def _can_be_kept(module: Module) -> bool:
    """Whether ``images.keep`` would find the file of the loaded one on the disk."""
    return module.disk_path is not None and not module.reload_needed


def _unfit(facts: Facts, image: Image) -> t.Iterator[str]:
    magic = image.info.get("vermagic", "")
    if magic.split(" ")[0] != facts.kernel:
        yield f"{facts.module.disk_path} is for Linux {magic.split(' ')[0] or 'of no version'}, and {facts.kernel} runs"
    elif facts.old is not None and facts.old.info.get("vermagic") != magic:
        yield (
            f"{facts.module.disk_path} is built for another configuration of this kernel: '{magic.strip()}' instead of "
            f"'{facts.old.info.get('vermagic', '').strip()}'"
        )
    if facts.signatures and not image.content.endswith(_SIGNED):
        yield f"{facts.module.disk_path} is not signed, and {facts.signatures} asks for that"
    for name in facts.missing:
        yield f"{facts.module.disk_path} needs the module {name}, which is not there"


def _warnings(facts: Facts, held: str) -> t.Iterator[str]:
    if held == REPORT:
        for holder in facts.holders:
            yield f"{holder.process} holds the port {holder.port} and does not find its successor: restart it afterwards"
    for port, who in facts.managers.items():
        yield f"{who} configures the port {port}, and sees it go and come: what it sets then is left to it"
    for what in facts.lost:
        yield f"it does not come back: {what}"
    for who, support in facts.drivers.items():
        if support.supported is None:
            yield f"whether {who} can drive it is not known: {support.reason}"
