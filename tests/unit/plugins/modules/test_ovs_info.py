# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ovsops.hot_upgrade.plugins.modules import ovs_info


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def run(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        ovs_info.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_every_value_is_documented_and_every_documented_value_is_there(
    capsys: pytest.CaptureFixture[str], serve: t.Any, database: t.Any, tmp_path: Path
) -> None:
    database.add("Interface", "i", name="p1")
    database.add("Port", "p", name="p1", interfaces=["uuid", "i"])
    database.add("Bridge", "b", name="br 0", ports=["uuid", "p"])
    database.external_ids["ovn-remote"] = "tcp:192.0.2.1:6642"
    serve(database)
    result = run(capsys, rundir=str(tmp_path))
    documented = yaml.safe_load(ovs_info.RETURN)
    assert set(result) - {"changed", "invocation"} == set(documented)
    assert result["changed"] is False
    daemon = documented["daemons"]["contains"]["ovs-vswitchd"]["contains"]
    assert set(result["daemons"]["ovs-vswitchd"]) == set(daemon)
    (bridge,) = result["bridges"]
    assert set(bridge) == set(documented["bridges"]["contains"])
    sample = documented["bridges"]["sample"][0]
    assert set(bridge["interfaces"][0]) == set(sample["interfaces"][0])
    assert set(bridge["ports"][0]) == set(sample["ports"][0])
    assert set(result["ovn"]) == set(documented["ovn"]["contains"])
    assert set(result["totals"]) == set(documented["totals"]["sample"])
    assert set(result["kernel_modules"][0]) == set(documented["kernel_modules"]["contains"])
