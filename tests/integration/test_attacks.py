# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks by whoever the run directory belongs to (``--ovs-user``), and by any other user of the host.

The attacker is ``nobody``, to whom the run directory is given; what he must not get is root.  See docs/security.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

NOBODY = 65534
DAEMONS = ("ovs-vswitchd", "ovsdb-server")

# What a program of the attacker does when root runs it, and what it does else.
_TRAP = """#!/bin/sh
[ "$(id -u)" != 0 ] || id >>/pwned
echo "ovs-vswitchd (Open vSwitch) 9.9.9"
exec sleep 600
"""

# Serves a socket: argv = path, kind.  Each kind is a way not to end.
_SERVER = r"""
import itertools, os, socket, struct, sys, threading, time
path, kind = sys.argv[1:]
for left in (path,):
    if os.path.lexists(left):
        os.unlink(left)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(0)
os.chmod(path, 0o777)
print("ready", flush=True)

def hello(length=16):
    return struct.pack("!BBHIHHI", 6, 0, length, 1, 1, 8, 0x7e)

def part(xid):
    return struct.pack("!BBHIHHI", 6, 19, 16, xid, 1, 1, 0)

ENDLESS = {
    "an endless array": (b'{"id":1,"error":null,"result":[', b"0," * 30000),
    "an endless string": (b'{"id":1,"error":null,"result":"', b"x" * 60000),
    "endless probes": (b"", b'{"method":"echo","params":[],"id":"x"}' * 1000),
    "a bomb of brackets": (b"[" * 60000, b"[" * 60000),
    "a long number": (b'{"id":1,"result":' + b"9" * 3000000 + b"}", b" "),
    "endless parts": (hello(), b"".join(part(xid) for xid in range(0x40000000, 0x40000008)) * 400),
    "giant lengths": (hello(65535), b"\xff" * 60000),
    "zero lengths": (hello(), struct.pack("!BBHIHHI", 6, 19, 16, 0x40000000, 1, 0, 0) + bytes(8) * 6000),
}

def serve(connection):
    try:
        if kind == "silence":
            time.sleep(600)
        if kind == "a drip":
            for byte in itertools.cycle(b'{"id":1,"result":"' + b"x" * 1000):
                connection.send(bytes([byte]))
                time.sleep(0.2)
        first, more = ENDLESS[kind]
        connection.sendall(first)
        while True:
            connection.sendall(more)
    except OSError:
        pass

clients = []
while kind == "a full backlog":
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    clients.append(client)
    if client.connect_ex(path):
        time.sleep(600)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

ANY = ["silence", "a full backlog", "a drip"]
JSON = [
    *ANY,
    "an endless array",
    "an endless string",
    "endless probes",
    "a bomb of brackets",
    "a long number",
]
OPENFLOW = [*ANY, "endless parts", "giant lengths", "zero lengths"]


@pytest.fixture
def given(ovs: Ovs) -> Ovs:
    """A host whose run directory is the attacker's; its own daemons have ended, their files are there."""
    ovs.bridge("br0")
    for name in DAEMONS:
        with contextlib.suppress(ProcessLookupError):
            os.kill(ovs.pid(name), 9)
    os.chown(ovs.rundir, NOBODY, NOBODY)
    Path(ovs.path("/tmp")).chmod(0o1777)
    return ovs


@contextlib.contextmanager
def attacker(ovs: Ovs, *argv: str, **environment: str) -> t.Iterator[subprocess.Popen[str]]:
    """A process of the attacker inside the host; yields when it has said something."""
    words = [f"{key}={value}" for key, value in environment.items()]
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    command = ovs.host.enter(*as_nobody, "env", *words, *argv)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def put(ovs: Ovs, path: str, content: str, mode: int = 0o755) -> str:
    """A file of the attacker's."""
    file = Path(ovs.path(path))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    file.chmod(mode)
    os.chown(file, NOBODY, NOBODY)
    return path


def info(ovs: Ovs, **parameters: t.Any) -> dict[str, t.Any]:
    answer = ovs.module("ovs_info", **parameters)
    assert not answer.get("failed"), answer
    return answer


def pwned(ovs: Ovs) -> bool:
    return Path(ovs.path("/pwned")).exists()


@pytest.mark.parametrize("place", ["/tmp/ovs-vswitchd", "/run/openvswitch/ovs-vswitchd"])
def test_a_program_that_the_pidfile_leads_to_is_not_run(given: Ovs, place: str) -> None:
    put(given, place, _TRAP)
    with attacker(given, place) as process:
        put(given, "/run/openvswitch/ovs-vswitchd.pid", f"{process.pid}\n")
        found = info(given)["daemons"]["ovs-vswitchd"]
    assert not pwned(given)
    assert found["running"] is False
    assert "runs /" in found["doubt"]
    assert found["disk_version"] != "9.9.9"


def test_nothing_is_run_in_a_root_directory_of_the_attacker(given: Ovs) -> None:
    """A user namespace gives everybody a mount namespace, with any file under any name."""
    put(given, "/tmp/trap", _TRAP)
    code = "mount -t tmpfs x /usr/sbin && cp /tmp/trap /usr/sbin/ovs-vswitchd && echo ready && exec sleep 600"
    with attacker(given, "unshare", "--map-root-user", "--mount", "sh", "-c", code) as process:
        put(given, "/run/openvswitch/ovs-vswitchd.pid", f"{process.pid}\n")
        found = info(given)["daemons"]["ovs-vswitchd"]
    assert not pwned(given)
    assert found["running"] is False or found["supervisor"]["kind"] == "container"
    assert found["disk_version"] != "9.9.9"


@pytest.mark.parametrize("kind", ["link", "pipe", "endless", "another process"])
def test_a_hostile_pidfile(given: Ovs, kind: str) -> None:
    pidfile = Path(given.path("/run/openvswitch/ovs-vswitchd.pid"))
    pidfile.unlink(missing_ok=True)
    if kind == "link":
        pidfile.symlink_to("/etc/shadow")
    elif kind == "pipe":
        os.mkfifo(pidfile)
    elif kind == "endless":
        pidfile.write_text("1\n" * 1_000_000)
    else:
        pidfile.write_text("1\n")
    found = info(given)["daemons"]["ovs-vswitchd"]
    assert found["running"] is False
    assert found["doubt"]
    assert "root:" not in json.dumps(found)


@contextlib.contextmanager
def hostile(ovs: Ovs, kind: str, *names: str) -> t.Iterator[None]:
    """Servers of the attacker in the place of these sockets."""
    put(ovs, "/tmp/server.py", _SERVER)
    with contextlib.ExitStack() as stack:
        for name in names:
            path = f"/run/openvswitch/{name}"
            stack.enter_context(attacker(ovs, "python3", "-u", "/tmp/server.py", path, kind))
        yield


@pytest.mark.parametrize("kind", JSON)
def test_a_hostile_database_costs_a_bounded_time(given: Ovs, kind: str) -> None:
    with hostile(given, kind, "db.sock"):
        begin = time.monotonic()
        assert info(given, timeout=2)["database_error"]
        refused = given.module("ovs_restore_wait", state="enabled", timeout=2)
        assert refused["failed"]
        assert "Traceback" not in str(refused)
        # Both have 2 s for their one question; far more would be a wait without end.
        assert time.monotonic() - begin < 60


@pytest.mark.parametrize("kind", JSON)
def test_a_hostile_control_socket_costs_a_bounded_time(ovs: Ovs, kind: str) -> None:
    ovs.bridge("br0")
    os.chown(ovs.rundir, NOBODY, NOBODY)
    with hostile(ovs, kind, *(f"{name}.{ovs.pid(name)}.ctl" for name in DAEMONS)):
        begin = time.monotonic()
        daemons = info(ovs, timeout=2)["daemons"]
        assert [daemons[name]["running_version"] for name in DAEMONS] == [None, None]
        assert time.monotonic() - begin < 60


@pytest.mark.parametrize("kind", OPENFLOW)
def test_a_hostile_switch_costs_a_bounded_time(ovs: Ovs, kind: str) -> None:
    ovs.bridge("br0")
    os.chown(ovs.rundir, NOBODY, NOBODY)
    with hostile(ovs, kind, "br0.mgmt"):
        begin = time.monotonic()
        (bridge,) = info(ovs, timeout=2)["bridges"]
        assert bridge["counts_error"]
        assert time.monotonic() - begin < 60


def test_a_process_with_the_name_of_a_daemon_is_none(ovs: Ovs) -> None:
    put(ovs, "/tmp/ovs-vswitchd", _TRAP)
    with attacker(ovs, "/tmp/ovs-vswitchd", OVS_RUNDIR="/run/openvswitch-abcdef"):
        code = (
            "from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer\n"
            "print(newcomer.processes_of('/run/openvswitch-abcdef'))"
        )
        assert ovs.python(code) == "[]\n"
