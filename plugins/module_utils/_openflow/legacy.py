# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Flows that a switch shows in OpenFlow 1.3 to 1.5 but does not take back in the same words.

* OpenFlow 1.1 and newer demand that a flow's match guarantees what its actions need (``dec_ttl`` needs an IP
  match), OpenFlow 1.0 does not, and Open vSwitch holds flows of both kinds side by side.  Refused as
  ``INCONSISTENT``; ``flow_mod10`` writes such a flow in OpenFlow 1.0 with Nicira extensions.
* A ``load`` of some bits of the VLAN id is shown by OpenFlow 1.5 as a set-field with a value that it does not
  accept.  Refused as ``BAD_VALUE``; ``flow_mod14`` writes such a flow in OpenFlow 1.4, which has the Nicira
  action that takes any value.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

INCONSISTENT, BAD_VALUE = "OFPBAC_MATCH_INCONSISTENT", "OFPBAC_BAD_SET_ARGUMENT"

_WRITE_ACTIONS, _APPLY_ACTIONS = 3, 4
_OUTPUT, _SET_TP_SRC, _SET_TP_DST, _PUSH_VLAN, _SET_FIELD, _COPY_FIELD, _VENDOR = 0, 9, 10, 17, 25, 28, 0xFFFF
_SET_NW_TTL = 23
_NX_MOVE, _NX_LOAD, _NX_LOAD2, _NX_CT, _NX_CLONE = 6, 7, 33, 35, 42
_HAS_MASK = 0x100
# Where the nested actions of these Nicira actions begin.
_NESTED = {_NX_CT: 24, _NX_CLONE: 16}
_NXM_IP_TTL = 0x00013A01
_OXM_IP_DSCP = 0x80001001
# Whole fields that OpenFlow 1.0 sets by actions of their own: OXM header -> action type.  (These actions do
# nothing to a packet that lacks the field, and are the only ones that need no match on it.)
_SETTERS = {
    0x80000C02: 1,  # VLAN id
    0x80000E01: 2,  # VLAN priority
    0x80000806: 4,  # Ethernet source
    0x80000606: 5,  # Ethernet destination
    0x80001604: 6,  # IPv4 source
    0x80001804: 7,  # IPv4 destination
    _OXM_IP_DSCP: 8,
}
_VLAN_SETTERS = (1, 2)
# Actions that have one number as argument, or none: type -> (Nicira subtype, layout of the argument).
_SIMPLE = {
    15: (25, "!4xB"),  # set_mpls_ttl
    16: (26, ""),  # dec_mpls_ttl
    19: (23, "!4xH"),  # push_mpls
    20: (24, "!4xH"),  # pop_mpls
    21: (4, "!4xI"),  # set_queue
    22: (40, "!4xI"),  # group
    24: (18, ""),  # dec_nw_ttl
}
_STRIP_VLAN, _POP_VLAN = struct.pack("!HH4x", 3, 8), 18


def flow_mod10(flow: bytes) -> bytes:
    """The same flow-mod in OpenFlow 1.0. Raises ``ProtocolError`` if OpenFlow 1.0 has no words for it."""
    fields = wire.flow_fields(flow)
    length = wire.u16(fields.match, 2, "match") - 4
    match = fields.match[4 : 4 + length]
    rest = wire.padded(match) + _actions_of(fields.rest)
    times = (fields.table, fields.priority, fields.cookie, fields.idle, fields.hard)
    return wire.nx_flow_mod(wire.header(flow).xid, *times, length, rest)


def flow_mod14(flow: bytes) -> bytes:
    """The same flow-mod in OpenFlow 1.4, its set-field and copy-field actions as Nicira actions."""
    begin = 48 + len(wire.flow_fields(flow).match)
    out = b""
    for start, end in wire.items_after_type(flow[begin:], "instruction"):
        instruction = flow[begin + start : begin + end]
        kind = wire.u16(instruction, 0, "instruction")
        if kind in (_APPLY_ACTIONS, _WRITE_ACTIONS):
            actions = _loads(instruction[8:])
            instruction = struct.pack("!HH4x", kind, 8 + len(actions)) + actions
        out += instruction
    return struct.pack("!BBH", wire.OF14, flow[1], begin + len(out)) + flow[4:begin] + out


def _loads(actions: bytes) -> bytes:
    out = []
    for start, end in wire.items_after_type(actions, "action"):
        action = actions[start:end]
        kind = wire.u16(action, 0, "action")
        if kind == _SET_FIELD:
            action = _load(action)
        elif kind == _COPY_FIELD:
            action = _action(kind, action)
        elif kind == _VENDOR:
            action = _vendor(action, _loads)
        out.append(action)
    return b"".join(out)


def _actions_of(instructions: bytes) -> bytes:
    out = b""
    for start, end in wire.items_after_type(instructions, "instruction"):
        (kind,) = struct.unpack_from("!H", instructions, start)
        if kind != _APPLY_ACTIONS:
            raise ProtocolError("OpenFlow 1.0 cannot express a flow", f"it has an instruction of type {kind}")
        out += _actions(instructions[start + 8 : end])
    return out


def _actions(actions: bytes) -> bytes:
    """Actions of OpenFlow 1.1 or newer as actions of OpenFlow 1.0."""
    out, pushed = [], False
    for start, end in wire.items_after_type(actions, "action"):
        action = actions[start:end]
        (kind,) = struct.unpack_from("!H", action)
        if kind == _PUSH_VLAN:
            # In OpenFlow 1.0 the action that sets a VLAN adds the tag that it needs.
            pushed = True
            continue
        out.append(_action(kind, action))
        if pushed and wire.u16(out[-1], 0, "action") not in _VLAN_SETTERS:
            break
        pushed = False
    if pushed:
        raise ProtocolError("OpenFlow 1.0 cannot express a flow", "it has push_vlan without a VLAN to set")
    return b"".join(out)


def _action(kind: int, action: bytes) -> bytes:
    if kind == _VENDOR:
        return _vendor(action, _actions)
    if kind in (_SET_TP_SRC, _SET_TP_DST):
        return action
    if kind == _POP_VLAN:
        return _STRIP_VLAN
    if kind == _OUTPUT:
        port, length = wire.unpack(struct.Struct("!4xIH"), action, 0, "output action")
        return struct.pack("!HHHH", 0, 8, port & 0xFFFF, length)
    if kind == _SET_FIELD:
        return _set(action)
    if kind == _SET_NW_TTL:
        return _nicira(_NX_LOAD2, struct.pack("!I", _NXM_IP_TTL) + action[4:5])
    if kind == _COPY_FIELD:
        bits, source_at, target_at = wire.unpack(struct.Struct("!4xHHH"), action, 0, "copy-field action")
        return _nicira(_NX_MOVE, struct.pack("!HHH", bits, source_at, target_at) + action[12:20])
    if kind in _SIMPLE:
        subtype, layout = _SIMPLE[kind]
        (value,) = wire.unpack(struct.Struct(layout), action, 0, "action") if layout else (0,)
        argument = struct.pack("!xxI" if layout.endswith("I") else "!" + (layout[-1:] or "B"), value)
        return _nicira(subtype, argument)
    raise ProtocolError("OpenFlow 1.0 cannot express a flow", f"it has an action of type {kind}")


def _set(action: bytes) -> bytes:
    """A set-field action as OpenFlow 1.0 has it: an action of its own for some fields, reg_load2 for the others."""
    (field,) = wire.unpack(struct.Struct("!4xI"), action, 0, "set-field action")
    if field not in _SETTERS:
        return _load(action)
    value = action[8 : 8 + _oxm_length(action)]
    if field == _OXM_IP_DSCP:
        value = bytes([value[0] << 2])
    if _SETTERS[field] == _VLAN_SETTERS[0]:
        value = bytes([value[0] & 0xF]) + value[1:]
    body = value + bytes(-(4 + len(value)) % 8)
    return struct.pack("!HH", _SETTERS[field], 4 + len(body)) + body


def _load(action: bytes) -> bytes:
    """A set-field action as the Nicira action reg_load if it sets a run of bits, else reg_load2."""
    (field,) = wire.unpack(struct.Struct("!4xI"), action, 0, "set-field action")
    length = _oxm_length(action)
    if not field & _HAS_MASK or length > 16:
        return _nicira(_NX_LOAD2, action[4 : 8 + length])
    half = length // 2
    value, mask = (int.from_bytes(action[at : at + half], "big") for at in (8, 8 + half))
    lowest = (mask & -mask).bit_length() - 1
    width = mask.bit_length() - lowest
    if mask >> lowest != (1 << width) - 1:
        return _nicira(_NX_LOAD2, action[4 : 8 + length])
    whole = (field & ~0x1FF) | half
    return _nicira(_NX_LOAD, struct.pack("!HIQ", lowest << 6 | (width - 1), whole, value >> lowest))


def _vendor(action: bytes, nested: t.Callable[[bytes], bytes]) -> bytes:
    """A Nicira action: the same in all versions, but for the actions in it, which ``nested`` rewrites."""
    vendor, subtype = wire.unpack(struct.Struct("!4xIH"), action, 0, "vendor action")
    if vendor != wire.NICIRA:
        raise ProtocolError("OpenFlow 1.0 cannot express a flow", f"it has an action of vendor {vendor:#x}")
    if subtype not in _NESTED:
        return action
    begin = _NESTED[subtype]
    return _nicira(subtype, action[10:begin] + nested(action[begin:]))


def _nicira(subtype: int, body: bytes) -> bytes:
    body = struct.pack("!IH", wire.NICIRA, subtype) + body
    body += bytes(-(4 + len(body)) % 8)
    return struct.pack("!HH", _VENDOR, 4 + len(body)) + body


def _oxm_length(action: bytes) -> int:
    """The length of the value (and mask) in a set-field action."""
    if len(action) < 8 or 8 + action[7] > len(action):
        raise ProtocolError("a set-field action is cut off", action.hex())
    return int(action[7])


# What the switch calls a refused flow -> the version that takes it, and how to write it there.
WORDS: dict[str, tuple[int, t.Callable[[bytes], bytes]]] = {
    INCONSISTENT: (wire.OF10, flow_mod10),
    BAD_VALUE: (wire.OF14, flow_mod14),
}
