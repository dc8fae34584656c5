# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import upcall_dispatch as dispatch


@given(st.dictionaries(st.integers(1, 20), st.binary(max_size=9)))
def test_attributes_are_read_as_they_are_written(attributes: dict[int, bytes]) -> None:
    message = dispatch.message(30, 3, b"\0\0\0\0", attributes)
    assert len(message) % 4 == 0
    assert dispatch.attributes_of(message, 4) == attributes


@given(st.binary(max_size=64))
def test_nonsense_is_an_error_or_nothing(answer: bytes) -> None:
    with contextlib.suppress(HotUpgradeError):
        dispatch.attributes_of(answer, 4)


def test_a_refusal_has_its_name_and_an_acknowledgement_is_none() -> None:
    error = dispatch._NLMSGHDR.pack(20, 2, 0, 1, 0)
    assert dispatch.attributes_of(error + b"\0\0\0\0", 4) == {}
    with pytest.raises(HotUpgradeError, match="EPERM"):
        dispatch.attributes_of(error + b"\xff\xff\xff\xff", 4)
