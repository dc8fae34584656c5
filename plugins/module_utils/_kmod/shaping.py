# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Queueing disciplines, classes, filters and actions of tc(8), as they are told and as they are set.

Formats: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h and tc_act/*.h.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import (
    INGRESS,
    TRAFFIC,
    Dumps,
    actions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    NEWACTION,
    REPLACE,
    Request,
    Stage,
    Told,
    place_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    EXCLUSIVE,
    NESTED,
    attribute,
    each_attribute,
    message,
)

_NEWQDISC, _NEWTCLASS, _NEWTFILTER = 36, 40, 44

KIND, OPTIONS, _STAB, CHAIN, _BLOCKS = 1, 2, 8, 11, (13, 14)
# What a dump tells and a request must not: whether a device has the filter, and the version of htb in other units.
FLAGS = {"flower": 22, "u32": 11, "matchall": 3, "bpf": 9}
_FLAGS_TO_SET = 0x1 | 0x2 | 0x10  # skip_hw, skip_sw, verbose
_HTB_INIT, _HTB_VERSION_SHIFT = 2, 16
_SFQ, _SFQ_USUAL = struct.Struct("=IiIII"), 128  # struct tc_sfq_qopt; SFQ_DEFAULT_FLOWS
# Target, interval and threshold in microseconds.
_CODEL_TIMES = {"fq_codel": (1, 3, 7), "codel": (1, 3, 5)}
# The handle of a hash table that u32 makes by itself, with its first filter (gen_new_htid in net/sched/cls_u32.c).
_U32_OWN_TABLE, _U32_OWN = 0x800FFFFF, 0x80000000
_ROOT = 0xFFFFFFFF
# TCA_BPF_OPS, TCA_BPF_NAME.
_BPF_OPS, _BPF_NAME = 5, 7
OF_A_BLOCK = -1  # what a filter has for a device that is in a block (TCM_IFINDEX_MAGIC_BLOCK)
# Where a filter has its actions (TCA_FLOWER_ACT, …), and what is in each of them.
ACTIONS = {"flower": 3, "u32": 7, "matchall": 2, "bpf": 1, "basic": 3, "fw": 4}
ACT_KIND, ACT_OPTIONS, _ACT_KEPT = 1, 2, (1, 2, 6, 7, 8)
# TCA_MIRRED_PARMS, and where struct tc_mirred has the number of the action and the device.
MIRRED, MIRRED_PARMS, MIRRED_DEVICE = "mirred", 2, 24
# TCA_POLICE_{TBF,RATE,PEAKRATE}; where struct tc_police has both rates, and a rate (struct tc_ratespec) its own number.
_POLICE, _POLICE_TBF, _POLICE_TABLES = "police", 1, {2: 20, 3: 32}
_RATE_NUMBER = 8
_RATE_TABLE, _CELL_LOG = (
    bytes(1024),
    3,
)  # TC_RTAB_SIZE; nobody reads it (qdisc_get_rtab in net/sched/sch_api.c)


def shaping(dumps: Dumps, gone: t.Mapping[int, int]) -> t.Iterator[Request]:
    """The queueing disciplines that somebody has set on the devices ``gone``, with their classes and filters.

    Only those that were set have a handle. Filters of a block that devices share are told once for each.
    """
    qdiscs = [body for body in dumps.qdiscs if _index(body) in gone and TRAFFIC.unpack_from(body)[2]]
    for index in dict.fromkeys(_index(body) for body in qdiscs):
        classes = [body for body in dumps.classes if _index(body) == index]
        yield from _tree([body for body in qdiscs if _index(body) == index], classes)
    wanted = _filters(dumps, qdiscs, gone)
    for body in wanted:
        yield _traffic(Stage.FILTER, _NEWTFILTER, body)
    theirs = {(kind, number) for body in wanted for kind, number in _numbers(body)}
    yield from _mirrored(dumps.mirrored, gone, theirs)


def untold(filters: t.Iterable[bytes]) -> dict[int, list[str]]:
    """The names of programs of eBPF in filters, by device: the kernel tells the instructions of classic BPF alone."""
    found: dict[int, list[str]] = {}
    for body in filters:
        told = Told(body, TRAFFIC.size)
        options = told.inside(OPTIONS)
        if told.text(KIND) == "bpf" and options.kinds() and _BPF_OPS not in options:
            found.setdefault(_index(body), []).append(options.text(_BPF_NAME) or "without a name")
    return found


def _index(body: bytes) -> int:
    return int(TRAFFIC.unpack_from(body)[1])


def _filters(dumps: Dumps, qdiscs: t.Iterable[bytes], gone: t.Container[int]) -> list[bytes]:
    """Those of the devices ``gone``, and of the blocks that they share with others."""
    told = [Told(body, TRAFFIC.size) for body in qdiscs]
    blocks = {number for each in told for kind in _BLOCKS if (number := each.number(kind)) is not None}

    def wanted(body: bytes) -> bool:
        __, index, __, parent, __ = TRAFFIC.unpack_from(body)
        return index in gone or index == OF_A_BLOCK and parent in blocks

    return [body for body in dict.fromkeys(dumps.filters) if wanted(body) and not comes_by_itself(body)]


def _numbers(body: bytes) -> t.Iterator[tuple[str, int]]:
    """The kind and number of each action of a filter."""
    for action in actions_of(Told(body, TRAFFIC.size)):
        parameters = action.inside(ACT_OPTIONS).value(MIRRED_PARMS)
        if action.text(ACT_KIND) == MIRRED and len(parameters) >= 4:
            yield MIRRED, struct.unpack_from("=I", parameters)[0]


def actions_of(told: Told) -> list[Told]:
    """The actions of a filter, of those kinds that are known to have some."""
    place = ACTIONS.get(told.text(KIND))
    listed = told.inside(OPTIONS).value(place) if place is not None else b""
    return [Told(value) for __, value in each_attribute(listed)]


def _mirrored(
    bodies: t.Iterable[bytes], gone: t.Mapping[int, int], theirs: t.Container[tuple[str, int]]
) -> t.Iterator[Request]:
    """Actions of filters that stay, and that have lost their device (mirred_device_event in net/sched/act_mirred.c)."""
    for told in (action for body in bodies for action in actions(body)):
        parameters = told.inside(ACT_OPTIONS).value(MIRRED_PARMS)
        if len(parameters) < MIRRED_DEVICE + 4:
            continue
        (number,), (device,) = (struct.unpack_from("=I", parameters, at) for at in (0, MIRRED_DEVICE))
        if device in gone and (MIRRED, number) not in theirs:
            action = attribute(1 | NESTED, told.only(*_ACT_KEPT))
            data = message(NEWACTION, bytes(4) + attribute(1 | NESTED, action), CREATE | REPLACE)
            place = place_of(data, 16 + 4, 1, 1, ACT_OPTIONS, MIRRED_PARMS) + MIRRED_DEVICE
            yield Request(Stage.ACTION, device, f"the action {MIRRED} {number} to it", data, (place,))


def _tree(qdiscs: t.Sequence[bytes], classes: t.Sequence[bytes]) -> t.Iterator[Request]:
    """From the root on: a class needs its parent, and a discipline its class, so all are of the stage of classes."""
    left = [(_NEWQDISC, body) for body in qdiscs] + [(_NEWTCLASS, body) for body in classes]
    there = {_ROOT, INGRESS}
    while left:
        ready = [each for each in left if _parent(*each) in there] or left
        for kind, body in ready:
            yield _traffic(Stage.CLASS, kind, body)
            there.add(TRAFFIC.unpack_from(body)[2])
        done = set(ready)
        left = [each for each in left if each not in done]


def _parent(kind: int, body: bytes) -> int:
    """Of a class that is told to be at the root: its discipline, whose number its own begins with."""
    __, __, handle, parent, __ = TRAFFIC.unpack_from(body)
    return int(handle & 0xFFFF0000 if kind == _NEWTCLASS and parent == _ROOT else parent)


def _traffic(stage: Stage, kind: int, body: bytes) -> Request:
    __, index, handle, parent, __ = TRAFFIC.unpack_from(body)
    told = Told(body, TRAFFIC.size)
    kept = body[: TRAFFIC.size] + told.only(KIND, CHAIN, _STAB, *_BLOCKS) + _settable(kind, told)
    what = shown(told, handle, parent)
    return Request(stage, index, what, message(kind, kept, CREATE | EXCLUSIVE))


def shown(told: Told, handle: int, parent: int) -> str:
    """A queueing discipline, class or filter for people."""
    return f"the {told.text(KIND)} {_handle(handle)} at {_handle(parent)}"


def comes_by_itself(body: bytes) -> bool:
    """The announcement of a priority, which has no handle, and the first hash table of u32."""
    handle = TRAFFIC.unpack_from(body)[2]
    u32 = Told(body, TRAFFIC.size).text(KIND) == "u32"
    return not handle or (u32 and handle & _U32_OWN_TABLE == _U32_OWN)


def _settable(kind: int, told: Told) -> bytes:
    """The options as a request takes them: some are told differently (htb_dump in net/sched/sch_htb.c, tc_flags_valid)."""
    name = told.text(KIND)
    if kind == _NEWQDISC and name == "htb":
        return _changed(told, _HTB_INIT, lambda version: version >> _HTB_VERSION_SHIFT)
    if kind == _NEWQDISC and name == "sfq" and OPTIONS in told:
        return attribute(OPTIONS, _with_usual_flows(told.value(OPTIONS)))
    if kind == _NEWQDISC and name in _CODEL_TIMES:
        return _as_taken(told.inside(OPTIONS), _CODEL_TIMES[name])
    if kind == _NEWTFILTER:
        options = told.inside(OPTIONS)
        own, place = FLAGS.get(name, 0), ACTIONS.get(name, 0)
        changed = options.without(own, place)
        if own in options:
            changed += attribute(own, struct.pack("=I", (options.number(own) or 0) & _FLAGS_TO_SET))
        if place in options:
            changed += attribute(place | NESTED, _settable_actions(options.value(place)))
        return attribute(OPTIONS, changed)
    return told.only(OPTIONS)


def _with_usual_flows(options: bytes) -> bytes:
    """The usual number of flows of sfq is more than it takes: it has that without one, and without a limit (sfq_change)."""
    quantum, perturb, limit, divisor, flows = _SFQ.unpack_from(options)
    if flows == _SFQ_USUAL:
        limit = flows = 0
    return _SFQ.pack(quantum, perturb, limit, divisor, flows) + options[_SFQ.size :]


def _as_taken(told: Told, times: t.Iterable[int]) -> bytes:
    """Times of CoDel are rounded down when they are taken and when they are told: the next one is the same (net/codel.h)."""
    found = told.without(*times)
    for kind in times:
        if kind in told:
            found += attribute(kind, struct.pack("=I", (told.number(kind) or 0) + 1))
    return attribute(OPTIONS, found)


def _settable_actions(listed: bytes) -> bytes:
    found = b""
    for order, value in each_attribute(listed):
        action = Told(value)
        kept = action.only(*_ACT_KEPT)
        if action.text(ACT_KIND) == _POLICE:
            options = attribute(ACT_OPTIONS | NESTED, _police(action.inside(ACT_OPTIONS)))
            kept = action.only(*(each for each in _ACT_KEPT if each != ACT_OPTIONS)) + options
        found += attribute(order | NESTED, kept)
    return found


def _police(told: Told) -> bytes:
    """A rate is taken with a table only that is not told (tcf_police_init in net/sched/act_police.c)."""
    whole, tables = bytearray(told.value(_POLICE_TBF)), b""
    for kind, place in _POLICE_TABLES.items():
        if any(whole[place + _RATE_NUMBER : place + _RATE_NUMBER + 4]):
            whole[place] = _CELL_LOG
            tables += attribute(kind, _RATE_TABLE)
    return told.without(_POLICE_TBF) + attribute(_POLICE_TBF, bytes(whole)) + tables


def _changed(told: Told, number: int, change: t.Callable[[int], int]) -> bytes:
    """The options with another number at the begin of one of them."""
    options = told.inside(OPTIONS)
    if number not in options:
        return told.only(OPTIONS)
    value = options.value(number)
    (first,) = struct.unpack_from("=I", value)
    changed = attribute(number, struct.pack("=I", change(first)) + value[4:])
    return attribute(OPTIONS, options.without(number) + changed)


def _handle(number: int) -> str:
    return f"{number >> 16:x}:{number & 0xFFFF:x}"
