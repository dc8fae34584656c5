# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import json
import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import record
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.modules import ovs_handover, ovs_handover_info


def test_every_value_is_documented_as_that_of_the_hand_over_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(ovs_handover_info, "records", functools.partial(record.records, root=str(tmp_path)))
    transactions.create({"plan": {}, "confirm_timeout": 60}, str(tmp_path))
    with patch_module_args({}), pytest.raises(SystemExit):
        ovs_handover_info.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    documented = yaml.safe_load(ovs_handover_info.RETURN)
    assert set(result) - {"changed", "invocation"} == set(documented)
    assert result["changed"] is False
    assert set(result["transactions"][0]) == set(documented["transactions"]["contains"])
    assert set(result["transactions"][0]) <= set(yaml.safe_load(ovs_handover.RETURN))
