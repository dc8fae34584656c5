# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The look at a host that the plan of a reload rests on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    bypass,
    dumps,
    images,
    memberships,
    namespaces,
    nftables,
    preserve,
    shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.kernel import OURS, Kernel
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.plan import Facts, Holder
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules, module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import GENERIC, Netlink
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import comm

_NAME = kernel_modules.DATAPATH
_WITH_A_FILE = ("macvtap", "ipvtap")
# Of the namespace in which this thread works: /proc/net is that of the whole process.
_PACKET_SOCKETS = "proc/thread-self/net/packet"
_GROUPS = ("proc/thread-self/net/igmp", "proc/thread-self/net/igmp6")


@dataclasses.dataclass(frozen=True)
class Beside:
    """What else there is in a namespace in which devices go; ``packet_sockets`` as the kernel shows them.

    ``hooks`` are those of nftables, ``programs`` those of eBPF in filters of tc, by device, and ``groups`` the multicast groups
    that other programs have joined there.
    """

    packet_sockets: str = ""
    hooks: tuple[nftables.Hook, ...] = ()
    programs: t.Mapping[int, t.Sequence[str]] = dataclasses.field(default_factory=dict)
    groups: t.Mapping[int, t.Sequence[str]] = dataclasses.field(default_factory=dict)


Going = preserve.Going[Beside]


def read_facts(versions: t.Mapping[str, str | None], root: str = "/", runner: Runner = run) -> Facts:
    """What is there.  ``versions`` are those of the userspace that may drive the module, by what they are called."""
    found = kernel_modules.modules(root, runner)
    module = found[0]
    kernel = os.uname().release
    image, fault = _image(module)
    ports = _ports() if module.loaded and not module.builtin else {}
    ports_of_ours = ports.get("", {}).get(OURS, ())
    ours = _internal(ports_of_ours)
    going = _going(ports_of_ours, root, runner)
    return Facts(
        module=module,
        image=image,
        fault=fault,
        old=images.of_loaded(module) if module.loaded else None,
        kernel=kernel,
        signatures=signatures(root),
        closed=closed(root),
        missing=tuple(missing(image, root, runner)) if image else (),
        drivers={who: kernel_modules.support(version, kernel, found) for who, version in versions.items()},
        foreign=tuple(foreign(module, ports, root)),
        holders=tuple(holders(going, root)),
        managers=managers(ours, root),
        lost=tuple(unrestorable(going)),
        without=tuple(without(runner)),
    )


def _image(module: kernel_modules.Module) -> tuple[module_image.Image | None, str]:
    if module.disk_path is None:
        return (
            None,
            "modinfo finds no file of it for this kernel: install the package of its modules, then depmod -a",
        )
    try:
        return module_image.read(module.disk_path), ""
    except HotUpgradeError as error:
        return None, str(error)


def signatures(root: str) -> str | None:
    """What makes the kernel load signed modules only, None if nothing does (kernel/module/signing.c)."""
    if _text(root, "sys/module/module/parameters/sig_enforce") == "Y":
        return "the kernel's module.sig_enforce"
    lockdown = _text(root, "sys/kernel/security/lockdown")
    if "[integrity]" in lockdown or "[confidentiality]" in lockdown:
        return "the kernel's lockdown"
    return None


def without(runner: Runner) -> t.Iterator[str]:
    """The modules that the bypass takes and that modprobe(8) does not find; none where there is no modprobe."""
    with contextlib.suppress(HotUpgradeError):
        for name in bypass.MODULES:
            if runner(["modprobe", "--dry-run", "--quiet", "--", name]).rc != 0:
                yield name


def closed(root: str) -> bool:
    """Whether the kernel takes no modules any more (kernel.modules_disabled, which only a boot sets back)."""
    return _text(root, "proc/sys/kernel/modules_disabled") == "1"


def missing(image: module_image.Image, root: str, runner: Runner) -> t.Iterator[str]:
    """The modules that ``image`` needs, and that are neither loaded nor built in nor on the disk."""
    for name in filter(None, image.info.get("depends", "").split(",")):
        if not os.path.isdir(os.path.join(root, "sys/module", name.replace("-", "_"))):
            with contextlib.suppress(HotUpgradeError):
                if runner(["modinfo", "--field", "filename", "--", name]).rc == 0:
                    continue
            yield name


def _ports() -> dict[str, dict[str, t.Sequence[Vport]]]:
    """The ports of each datapath, by the namespace in which it is, in words, and by its name."""
    found: dict[str, dict[str, t.Sequence[Vport]]] = {}
    for place, namespace in enumerate(namespaces.every()):
        try:
            with namespaces.within(namespace), Netlink(GENERIC) as socket:
                kernel = Kernel(socket)
                where = f"the network namespace {namespace.inode}" if place else ""
                found[where] = {each.name: kernel.ports_of(each) for each in kernel.datapaths()}
        finally:
            os.close(namespace.descriptor)
    return found


def foreign(
    module: kernel_modules.Module, ports: t.Mapping[str, t.Mapping[str, t.Sequence[Vport]]], root: str = "/"
) -> t.Iterator[str]:
    """Who uses the module besides the datapath of ovs-vswitchd, in words. Each port of a datapath counts as one user of it."""
    for where, datapaths in ports.items():
        for name in datapaths:
            if where or name != OURS:
                yield f"there is a datapath {name}{f' in {where}' if where else ''} that is not ovs-vswitchd's"
    folder = os.path.join(root, "sys/module", module.name, "holders")
    others = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in others:
        if not name.startswith(kernel_modules.VPORT):
            yield f"the module {name} uses {module.name}"
    known = sum(len(each) for datapaths in ports.values() for each in datapaths.values()) + len(others)
    if module.users is not None and module.users > known:
        yield f"{module.users - known} users of {module.name} are not known: a datapath in a namespace that nothing names"


def _internal(ports: t.Iterable[Vport]) -> dict[int, str]:
    """The names of the internal ports in our namespace, by their ifindex."""
    return {port.index: port.name for port in ports if port.kind == INTERNAL and port.netns is None}


def managers(internal: t.Mapping[int, str], root: str = "/") -> dict[str, str]:
    """Who configures which port: they tell that in files below /run, by ifindex."""
    told = (
        ("systemd-networkd", "run/systemd/netif/links", "ADMIN_STATE=configured"),
        ("NetworkManager", "run/NetworkManager/devices", "managed=true"),
    )
    return {
        name: who
        for index, name in internal.items()
        for who, folder, line in told
        if line in _text(root, f"{folder}/{index}").splitlines()
    }


def _going(ports: t.Sequence[Vport], root: str, runner: Runner) -> list[Going]:
    """What goes with ``ports``, with what else is known of it where it is."""

    def beside(space: namespaces.Space, going: t.Container[int]) -> Beside:
        programs = shaping.untold(dumps.filters(space.route, going))
        igmp, igmp6 = (_text(root, path) for path in _GROUPS)
        groups = memberships.joined(igmp, igmp6)
        return Beside(_text(root, _PACKET_SOCKETS), nftables.hooks(runner), programs, groups)

    with contextlib.suppress(HotUpgradeError):  # whoever captures them says so
        return preserve.going(ports, beside)
    return []


def unrestorable(going: t.Iterable[Going]) -> t.Iterator[str]:
    """What the kernel does not tell, or what no request makes again."""
    for here in going:
        for link in here.devices:
            if link.filtered:
                yield f"the XDP program of {link.name}"
            for name in here.beside.programs.get(link.index, ()):
                yield f"the program {name} (eBPF) in a filter of {link.name}: whoever has set it has to do so again"
            if groups := here.beside.groups.get(link.index):
                joined = f"the membership in {', '.join(groups)} at {link.name} (multicast)"
                yield f"{joined}: restart the programs that have joined, unless they watch devices"
            if link.kind == "macsec":
                yield f"the keys of {link.name}: the kernel does not tell them (macsec)"
        names = {link.name for link in here.devices}
        for hook in here.beside.hooks:
            if names & set(hook.devices):
                at = ", ".join(sorted(names & set(hook.devices)))
                yield f"{hook.what} at {at}: load its rules again afterwards"
        for link in here.lost:
            yield f"the device {link.name}: the kernel deletes it with the port that it is on ({link.kind})"


def holders(going: t.Iterable[Going], root: str = "/") -> t.Iterator[Holder]:
    """The processes with a packet socket on one of the devices ``going`` (packet(7)), or with the file of a macvtap open.

    They may be in any namespace; the number of a socket's file is the same in all.
    """
    held: dict[str, str] = {}
    for here in going:
        names = {link.index: link.name for link in here.devices}
        held.update(
            {f"/dev/tap{link.index}": link.name for link in here.devices if link.kind in _WITH_A_FILE}
        )
        for fields in map(str.split, here.beside.packet_sockets.splitlines()[1:]):
            if len(fields) >= 9 and int(fields[4]) in names:
                held[f"socket:[{fields[8]}]"] = names[int(fields[4])]
    for pid in filter(str.isdigit, os.listdir(os.path.join(root, "proc"))) if held else ():
        folder = os.path.join(root, "proc", pid, "fd")
        with contextlib.suppress(OSError):
            found = {_link(os.path.join(folder, name)) for name in os.listdir(folder)} & held.keys()
            for name in sorted({held[each] for each in found}):
                yield Holder(name, f"{comm(int(pid), root)} (process {pid})")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
