# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does to a lab host: run a module of the collection, install a version of Open vSwitch."""

from __future__ import annotations

import json
import subprocess
import tempfile
import typing as t
from pathlib import Path

from tests.lab import hosts, images
from tests.lab.images import LabError

# The packages' scripts ask this program whether they may restart a service.
NO_RESTART = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"


def module(
    lab: hosts.Lab, host: hosts.Host, name: str, arguments: t.Mapping[str, t.Any], check: bool = False
) -> dict[str, t.Any]:
    """Run a module of the collection on a host and return its result, also that of a failure.

    ``failed`` is always in it; ansible-core 2.19 and newer leave it out of what they write down.
    """
    argv = ["ansible", host.name, "-i", str(lab.inventory), "-m", f"ovsops.hot_upgrade.{name}"]
    with tempfile.TemporaryDirectory(dir=lab.folder) as tree:
        options = [
            "--tree",
            tree,
            *(["-a", json.dumps(arguments)] if arguments else []),
            *(["--check"] if check else []),
        ]
        done = subprocess.run(
            [*argv, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        try:
            result: dict[str, t.Any] = json.loads((Path(tree) / host.name).read_text())
        except FileNotFoundError as error:
            raise LabError(f"{name} has no result:\n{done.stdout}{done.stderr}") from error
        return {**result, "failed": done.returncode != 0}


def playbook(
    lab: hosts.Lab, version: str, check: bool = False, forks: int = 5, **variables: t.Any
) -> subprocess.CompletedProcess[str]:
    """Run the collection's playbook on the lab's hosts; ``variables`` without their prefix ``hot_upgrade_``."""
    named = {f"hot_upgrade_{name}": value for name, value in variables.items()}
    named["hot_upgrade_version"] = images.package_version(version)
    return subprocess.run(
        [
            "ansible-playbook",
            *(["--check"] if check else []),
            f"--forks={forks}",
            "-i",
            str(lab.inventory),
            "-e",
            json.dumps(named),
            "ovsops.hot_upgrade.hot_upgrade",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def install(version: str) -> list[str]:
    """apt-get with the exact packages of an upstream version, as a person would type it."""
    names = [f"{name}={images.package_version(version)}" for name in images.OVS_PACKAGES]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
    return [*environment, "apt-get", "-qq", "-y", "--allow-downgrades", "install", *names]
