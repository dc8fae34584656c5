# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The surge pod that is made of a template; its wrapper is run."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import MARK, REVISION, Revision
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import (
    MOUNT,
    WAIT,
    adoption,
    surge_pod,
    tolerations,
)
from tests.unit.plugins.module_utils._kube.fake import daemonset


def test_it_is_the_templates_pod_with_labels_of_its_own() -> None:
    given = daemonset()
    before = copy.deepcopy(given)
    made = surge_pod(given, "n1", "openvswitch", "h1")
    assert given == before
    about, spec = made["metadata"], made["spec"]
    assert about["labels"] == {MARK: "ovs-ovn"}
    assert about["annotations"] == {"site": "here", REVISION: "h1"}
    assert (about["generateName"], about["namespace"], spec["nodeName"]) == ("ovs-ovn-", "kube-system", "n1")
    container, other = spec["containers"]
    assert container["command"] == ["/bin/sh", "-c", WAIT, "surge"]
    assert container["args"] == ["/kube-ovn/start-ovs.sh", "--x"]
    assert {"name": "ovsops-surge", "mountPath": MOUNT} in container["volumeMounts"]
    assert {"name": "ovsops-surge", "emptyDir": {}} in spec["volumes"]
    assert other == given["spec"]["template"]["spec"]["containers"][1]


def test_the_entry_point_of_an_image_has_to_be_named() -> None:
    given = daemonset()
    del given["spec"]["template"]["spec"]["containers"][0]["command"]
    with pytest.raises(Refused, match="names no command"):
        surge_pod(given, "n1", "openvswitch", "h1")
    made = surge_pod(given, "n1", "openvswitch", "h1", ["/start"])
    assert made["spec"]["containers"][0]["args"] == ["/start", "--x"]


def test_one_for_a_rehearsal_has_its_image_wherever_the_template_has_the_daemons() -> None:
    given = daemonset()
    daemons, other = given["spec"]["template"]["spec"]["containers"]
    given["spec"]["template"]["spec"]["initContainers"] = [{"name": "init", "image": daemons["image"]}]
    made = surge_pod(given, "n1", "openvswitch", "", image="new:1")
    images = {
        each["name"]: each["image"]
        for part in ("containers", "initContainers")
        for each in made["spec"][part]
    }
    assert images == {daemons["name"]: "new:1", "init": "new:1", other["name"]: other["image"]}
    assert made["metadata"]["annotations"][REVISION] == ""


def test_the_controllers_tolerations_are_added_once() -> None:
    names = {each["key"].rpartition("/")[2] for each in tolerations({})}
    assert names == {
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    }
    more = tolerations({"hostNetwork": True, "tolerations": tolerations({})})
    assert len(more) == 7
    assert more[-1]["key"] == "node.kubernetes.io/network-unavailable"


def test_adoption_gives_the_labels_of_the_revision_it_was_made_from() -> None:
    assert adoption(Revision("h1", 1, {"app": "ovs"})) == {
        "metadata": {"labels": {"app": "ovs", "controller-revision-hash": "h1"}}
    }


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The wrapper, in a process group of its own: what it waits by outlives it."""
    script = WAIT.replace(MOUNT, str(folder))
    argv = ["/bin/sh", "-c", script, "surge", "/bin/echo", "the DaemonSet's", "own program"]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(argv, stdout=said, start_new_session=True)


def test_the_wrapper_waits_at_each_start_until_the_daemons_have_moved(tmp_path: Path) -> None:
    for __ in range(2):
        waiting = start(tmp_path)
        try:
            # It has a child when it has come to where it waits.
            while not Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children").read_text():
                assert waiting.poll() is None
            waiting.terminate()
            # Before it has said what it does then, the signal itself ends it.
            assert waiting.wait(60) in (0, -signal.SIGTERM)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(waiting.pid, signal.SIGKILL)
        assert (tmp_path / "said").read_text() == ""
    (tmp_path / "moved").touch()
    assert start(tmp_path).wait(60) == 0
    assert (tmp_path / "said").read_text() == "the DaemonSet's own program\n"
