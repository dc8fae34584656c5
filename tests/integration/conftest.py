# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Open vSwitch for tests, each in namespaces of its own: root, and the lab's cached images, are needed.

``start_ovs``  a function: ``start_ovs(version=DEFAULT, running=True) -> Ovs``. Each call starts one more
               isolated host without network; all end with the test. Versions: 2.15.0, 3.1.0, 3.5.0, 4.0.0,
               None (not installed). Any one is built on first use (about a minute, then cached).
               DEFAULT is OVS_VERSION in the environment, or 3.5.0.
``ovs``        one running Ovs of the default version.
``shared_ovs`` the same, one for all tests of a file, which leave it as they found it.

``Ovs`` (see below): ``rundir`` and ``path()`` reach its sockets and files from the test's own process, pids
are those this machine sees; ``run``/``vsctl``/``ofctl``/``appctl`` run a command inside; ``python`` runs
Python code inside, with the collection importable; ``module`` runs one of our modules inside and returns its
JSON; ``bridge`` adds a bridge; ``endpoints`` attaches two network namespaces with traffic between them.
The datapath is the userspace one: nothing here needs or touches the machine's kernel modules.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

import ansible
import pytest

from tests.lab import images
from tests.lab.nativehost import NativeHost

DEFAULT = os.environ.get("OVS_VERSION", "3.5.0")
# Where they are inside a host.
COLLECTIONS = "/srv/collections"
ANSIBLE = "/srv/ansible"
_RUN_MODULE = """
import json, runpy, sys
from ansible.module_utils.testing import patch_module_args

with patch_module_args(json.loads(sys.argv[2])):
    module = "ansible_collections.ovsops.hot_upgrade.plugins.modules." + sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Two namespaces inside the host, and from outside; ``address`` is the receiver's."""

    sender: str
    receiver: str
    address: str
    sender_path: str
    receiver_path: str


@dataclasses.dataclass(frozen=True)
class Ovs:
    """One Open vSwitch in a native host of its own."""

    version: str | None
    host: NativeHost

    @property
    def rundir(self) -> str:
        """Its run directory, usable from the test's process: ``<rundir>/db.sock``, ``<rundir>/br0.mgmt`` …"""
        return self.path("/run/openvswitch")

    def path(self, inside: str) -> str:
        """The path by which the test's process reaches the file ``inside``."""
        return self.host.path(inside)

    def service(self, action: str) -> str:
        """The init script: start, stop, restart, status."""
        return self.run("service", "openvswitch-switch", action)

    def run(self, *argv: str, feed: str = "") -> str:
        """What ``argv`` prints, run inside; NativeError if it fails."""
        return self.host.run(*argv, feed=feed).stdout

    def vsctl(self, *argv: str) -> str:
        return self.run("ovs-vsctl", "--timeout=10", *argv)

    def ofctl(self, *argv: str, version: str = "OpenFlow15", feed: str = "") -> str:
        return self.run("ovs-ofctl", "-O", version, *argv, feed=feed)

    def appctl(self, *argv: str) -> str:
        return self.run("ovs-appctl", *argv)

    def pid(self, daemon: str = "ovs-vswitchd") -> int:
        """The pid of ovs-vswitchd or ovsdb-server."""
        return int(Path(self.path(f"/run/openvswitch/{daemon}.pid")).read_text())

    def python(self, code: str, *argv: str) -> str:
        """What Python code prints, run inside by the host's own Python, with the collection importable."""
        done = self.host.run("python3", "-c", code, *argv, env={"PYTHONPATH": COLLECTIONS})
        return done.stdout

    def bridge(self, name: str, *settings: str, datapath_type: str = "netdev") -> str:
        """Add a bridge of the userspace datapath, with more column settings; return its name."""
        self.vsctl(
            "--", "add-br", name, "--", "set", "bridge", name, f"datapath_type={datapath_type}", *settings
        )
        return name

    def endpoints(self, bridge: str, sender: str = "h1", receiver: str = "h2") -> Endpoints:
        """Attach two namespaces (10.0.0.1 and .2, known to each other without ARP) as ports of ``bridge``."""
        for number, name in ((1, sender), (2, receiver)):
            self.run("ip", "netns", "add", name)
            self.run("ip", "link", "add", f"p-{name}", "type", "veth", "peer", "name", "e0", "netns", name)
            self.run("ip", "-n", name, "link", "set", "e0", "address", f"02:00:00:00:00:0{number}", "up")
            self.run("ip", "-n", name, "address", "add", f"10.0.0.{number}/24", "dev", "e0")
            self.run("ip", "-n", name, "neighbour", "add", f"10.0.0.{3 - number}", "dev", "e0",
                     "lladdr", f"02:00:00:00:00:0{3 - number}")  # fmt: skip
            self.run("ip", "netns", "exec", name, "ethtool", "-K", "e0", "tx", "off")
            self.run("ip", "link", "set", f"p-{name}", "up")
            self.vsctl("add-port", bridge, f"p-{name}")
        paths = (self.path(f"/run/netns/{name}") for name in (sender, receiver))
        return Endpoints(sender, receiver, "10.0.0.2", *paths)

    def module(
        self, name: str, /, check_mode: bool = False, as_user: str = "root", **parameters: t.Any
    ) -> dict[str, t.Any]:
        """What module ovsops.hot_upgrade.<name> reports, run inside as Ansible would run it on a host."""
        self._bring_ansible()
        arguments = {**parameters, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        environment = {"PYTHONPATH": f"{COLLECTIONS}:{ANSIBLE}"}
        user = () if as_user == "root" else ("runuser", "-u", as_user, "--")
        done = self.host.run(
            *user, "python3", "-c", _RUN_MODULE, name, json.dumps(arguments), check=False, env=environment
        )
        try:
            return t.cast("dict[str, t.Any]", json.loads(done.stdout))
        except json.JSONDecodeError as error:
            raise AssertionError(f"{name} reported no JSON: {done.stdout}{done.stderr}") from error

    def _bring_ansible(self) -> None:
        """Copy what a module imports of ansible-core into the host."""
        target = Path(self.path(ANSIBLE)) / "ansible"
        if not target.exists():
            source = Path(ansible.__file__).parent
            shutil.copytree(source / "module_utils", target / "module_utils")
            shutil.copy(source / "release.py", target)
            (target / "__init__.py").touch()


StartOvs = t.Callable[..., Ovs]


@contextlib.contextmanager
def starting() -> t.Iterator[StartOvs]:
    """A function that starts isolated Open vSwitches; all end with the context."""
    if os.geteuid() != 0:
        raise RuntimeError("the integration tests need root: they make namespaces and mount file systems")
    started: list[NativeHost] = []

    def start(version: str | None = DEFAULT, running: bool = True) -> Ovs:
        folder = Path(tempfile.mkdtemp(prefix="ovsops-it-"))
        host = NativeHost.start(f"it{len(started) + 1}", images.root(version), folder)
        started.append(host)
        ovs = Ovs(version, host)
        if running and version is not None:
            ovs.service("start")
        return ovs

    try:
        yield start
    finally:
        for host in started:
            host.stop()


@pytest.fixture
def start_ovs() -> t.Iterator[StartOvs]:
    """Start isolated Open vSwitches; they end with the test."""
    with starting() as start:
        yield start


@pytest.fixture(scope="module")
def shared_ovs() -> t.Iterator[Ovs]:
    """One running Open vSwitch for all tests of a file; they leave it as they found it."""
    with starting() as start:
        yield start()


@pytest.fixture
def ovs(start_ovs: StartOvs) -> Ovs:
    """One running Open vSwitch."""
    return start_ovs()
