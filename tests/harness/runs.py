# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator runs: a module of the collection, its playbook, the installation of a version of Open vSwitch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

from tests.lab import hosts, images
from tests.lab.images import REPOSITORY, LabError

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
            [*argv, *options],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            result: dict[str, t.Any] = json.loads((Path(tree) / host.name).read_text())
        except FileNotFoundError as error:
            raise LabError(f"{name} has no result:\n{done.stdout}{done.stderr}") from error
        return {**result, "failed": done.returncode != 0}


def playbook_argv(
    inventories: t.Sequence[Path],
    variables: t.Mapping[str, t.Any],
    *options: str,
    playbook: str = "ovsops.hot_upgrade.hot_upgrade",
) -> list[str]:
    """The command line of ansible-playbook, with the ansible-core and the Python of these tests; see ``environment``."""
    named = [word for path in inventories for word in ("-i", str(path))]
    return [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        *named,
        *options,
        "-e",
        json.dumps(variables),
        playbook,
    ]


def environment(**more: str) -> dict[str, str]:
    """Ansible finds the collection as it is in the tree."""
    return {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "build/collections"), **more}


def prefixed(version: str | None, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The playbook's variables, from names without their prefix ``hot_upgrade_``; ``version`` is an upstream one."""
    named = {f"hot_upgrade_{name}": value for name, value in variables.items()}
    return {**named, "hot_upgrade_version": images.package_version(version)} if version else named


def play(argv: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``playbook_argv``; what Ansible says is in ``stdout``, its errors, too."""
    return subprocess.run(
        argv,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def playbook(
    lab: hosts.Lab,
    version: str | None,
    check: bool = False,
    forks: int = 5,
    name: str = "hot_upgrade",
    limit: str = "all",
    **variables: t.Any,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the collection on the lab's hosts; ``variables`` without their prefix ``hot_upgrade_``."""
    options = [*(["--check"] if check else []), f"--forks={forks}", f"--limit={limit}"]
    argv = playbook_argv(
        [lab.inventory], prefixed(version, variables), *options, playbook=f"ovsops.hot_upgrade.{name}"
    )
    return play(argv)


def install(version: str) -> list[str]:
    """apt-get with the exact packages of an upstream version, as a person would type it."""
    names = [f"{name}={images.package_version(version)}" for name in images.OVS_PACKAGES]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"]
    return [*environment, "apt-get", "-qq", "-y", "--allow-downgrades", "install", *names]
