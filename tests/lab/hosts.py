# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running lab: its hosts, its network namespace, its inventory, and how all of it ends.

Everything of a lab lives in one network namespace (``ovslab-<name>``), one state folder and the processes
that ``lab.json`` lists, so that one command ends it, also after an interrupted run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from tests.lab import images
from tests.lab.images import LabError, run, say

MANAGEMENT = "10.111.0"
DATA = "10.112.0"
FIRST_ADDRESS = 11


@dataclasses.dataclass(frozen=True)
class Host:
    """One host; ``pid`` and ``started`` (clock ticks since boot) name its first process for good."""

    name: str
    index: int
    pid: int = 0
    started: int = 0

    @property
    def address(self) -> str:
        return f"{MANAGEMENT}.{FIRST_ADDRESS + self.index}"

    @property
    def data_address(self) -> str:
        return f"{DATA}.{FIRST_ADDRESS + self.index}"


@dataclasses.dataclass(frozen=True)
class Lab:
    """A lab by its name; ``ovs`` is the upstream version its hosts start with, None: not installed."""

    name: str
    backend: str
    ovs: str | None
    hosts: tuple[Host, ...]

    @property
    def folder(self) -> Path:
        return folder(self.name)

    @property
    def netns(self) -> str:
        return f"ovslab-{self.name}"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    def host(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f"no host {name} in lab {self.name}; there are {', '.join(h.name for h in self.hosts)}"
        )

    def save(self) -> None:
        work = self.folder / "lab.json.new"
        work.write_text(json.dumps(dataclasses.asdict(self), indent=2))
        work.rename(self.folder / "lab.json")

    def with_host(self, changed: Host) -> Lab:
        hosts = tuple(changed if host.name == changed.name else host for host in self.hosts)
        return dataclasses.replace(self, hosts=hosts)


def folder(name: str) -> Path:
    """The state folder of the lab of that name."""
    return images.cache_dir() / "running" / name


def load(name: str) -> Lab | None:
    """The lab of that name, or None if it is not up."""
    path = folder(name) / "lab.json"
    if not path.exists():
        return None
    data = json.loads(path.read_text())
    return Lab(**{**data, "hosts": tuple(Host(**host) for host in data["hosts"])})


def require(name: str) -> Lab:
    lab = load(name)
    if lab is None:
        raise LabError(f"lab {name} is not up; 'make lab-up' or 'tests/tools/lab --name {name} up' starts it")
    return lab


@contextlib.contextmanager
def exclusive(name: str) -> t.Iterator[None]:
    """One command at a time works on a lab."""
    path = images.cache_dir() / "running"
    path.mkdir(exist_ok=True)
    with (path / f".{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command is working on lab {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- network ----------------------------------------------------------------------------------------


def make_network(lab: Lab) -> None:
    """The lab's namespace with two bridges: mgmt (SSH) and data (traffic between hosts)."""
    run("ip", "netns", "add", lab.netns)
    run("ip", "-n", lab.netns, "link", "set", "lo", "up")
    for bridge, prefix in (("mgmt", MANAGEMENT), ("data", DATA)):
        run("ip", "-n", lab.netns, "link", "add", "name", bridge, "type", "bridge")
        run("ip", "-n", lab.netns, "address", "add", f"{prefix}.1/24", "dev", bridge)
        run("ip", "-n", lab.netns, "link", "set", bridge, "up")


def tap(lab: Lab, host: Host, kind: str) -> str:
    """A tap of the host on the mgmt or the data bridge, made if need be; returns its name."""
    name = f"{kind}{host.index}"
    if f"{name}:" not in run("ip", "-n", lab.netns, "-o", "link", "show"):
        run("ip", "netns", "exec", lab.netns, "ip", "tuntap", "add", name, "mode", "tap")
        run("ip", "-n", lab.netns, "link", "set", name, "master", kind, "up")
    return name


# --- processes --------------------------------------------------------------------------------------


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22); 0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def alive(host: Host) -> bool:
    return host.pid > 0 and start_time(host.pid) == host.started != 0 and not _zombie(host.pid)


def spawn(lab: Lab, host: Host, argv: t.Sequence[str], env: dict[str, str] | None = None) -> Lab:
    """Start a host's first process in the lab's namespace; everything below it dies with it."""
    log = (lab.folder / host.name / "console.log").open("ab")
    process = subprocess.Popen(
        ["ip", "netns", "exec", lab.netns, "unshare", "--pid", "--fork", "--kill-child", *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )
    changed = lab.with_host(dataclasses.replace(host, pid=process.pid, started=start_time(process.pid)))
    changed.save()
    return changed


def end(pids: t.Iterable[int], seconds: float = 5.0) -> None:
    """SIGKILL these processes and wait until they are gone."""
    left = set(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        for pid in list(left):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if start_time(pid) == 0 or _zombie(pid):
                left.discard(pid)
        time.sleep(0.02)
    if left:
        raise LabError(f"processes {sorted(left)} do not end")


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for_end(host: Host, seconds: float) -> None:
    """Until a host has powered itself off; LabError after so many seconds."""
    deadline = time.monotonic() + seconds
    while alive(host):
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} does not power off within {seconds:g} s")
        time.sleep(0.1)  # its first process is not our child when another program has started it


def power_off(lab: Lab, host: Host) -> None:
    """As if somebody pulled the plug: no shutdown, nothing is flushed by the host."""
    if alive(host):
        end([host.pid])


def down(name: str) -> None:
    """End a lab and remove all of it; harmless if there is none or only half of one."""
    lab = load(name)
    if lab is not None:
        end(host.pid for host in lab.hosts if alive(host))
    netns = f"ovslab-{name}"
    if Path(f"/run/netns/{netns}").exists():
        pids = run("ip", "netns", "pids", netns).split()
        end(int(pid) for pid in pids)
        run("ip", "netns", "delete", netns)
    _unmount_below(folder(name))
    _remove_cgroups(name)
    shutil.rmtree(folder(name), ignore_errors=True)


def cgroup(name: str) -> str:
    """The control group, in every hierarchy, of a lab of that name, if its hosts need one."""
    return f"ovslab-{name}"


def _remove_cgroups(name: str) -> None:
    for top in Path("/sys/fs/cgroup").glob(f"*/{cgroup(name)}"):
        for path, __, __ in os.walk(top, topdown=False):
            _remove_cgroup(path)


def _remove_cgroup(path: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            os.rmdir(path)
        except OSError as error:  # the last process has ended, and the kernel has not noticed everywhere yet
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise LabError(f"the control group {path} cannot be removed: {error.strerror}") from error
            time.sleep(0.02)
        else:
            return


def _unmount_below(path: Path) -> None:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{path}/")), reverse=True):
        run("umount", "--lazy", point)


def names() -> list[str]:
    """Every lab that left a trace: a state folder or a namespace."""
    found = {path.name for path in (images.cache_dir() / "running").glob("*") if path.is_dir()}
    found |= {path.name[len("ovslab-") :] for path in Path("/run/netns").glob("ovslab-*")}
    return sorted(found)


# --- SSH and the inventory --------------------------------------------------------------------------


def ssh_options(lab: Lab) -> list[str]:
    """What reaches the lab's hosts from the machine's own namespace: the lab's is entered by the proxy command."""
    options = {
        "ProxyCommand": f"ip netns exec {lab.netns} nc %h %p",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "ConnectTimeout": "10",
        # nc does not pass on that the other end has closed.
        "ServerAliveInterval": "10",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def ssh_argv(lab: Lab, host: Host, *command: str) -> list[str]:
    """The ssh command for a host of a lab."""
    login = ["-o", "BatchMode=yes", "-i", str(images.ssh_key()), f"root@{host.address}"]
    return ["ssh", *ssh_options(lab), *login, *command]


def ssh(lab: Lab, host: Host, *command: str, feed: str | None = None) -> str:
    """Run a command on a host and return its output."""
    done = subprocess.run(
        ssh_argv(lab, host, *command), input=feed, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise LabError(
            f"{host.name}: {' '.join(command)[:80]} failed with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def script(lab: Lab, host: Host, text: str) -> str:
    """Run a shell script on a host and return what it printed; it ends at the first failure."""
    return ssh(lab, host, "bash", "-euo", "pipefail", feed=text)


def put(lab: Lab, host: Host, files: t.Sequence[Path], folder: str) -> None:
    """Copy files into a folder of a host, which is made; the folder may be a shell expression."""
    packed = subprocess.run(["tar", "-C", str(files[0].parent), "-cf", "-", *(file.name for file in files)],
                            check=True, capture_output=True)  # fmt: skip
    argv = ssh_argv(lab, host, f'mkdir -p "{folder}" && tar -C "{folder}" --no-same-owner -xf -')
    subprocess.run(argv, input=packed.stdout, check=True)


def wait_for_ssh(lab: Lab, host: Host, seconds: float = 180.0) -> None:
    """Until the host answers a command over SSH; LabError with the console's end if it does not."""
    deadline = time.monotonic() + seconds
    last = ""
    while time.monotonic() < deadline:
        probe = subprocess.run(
            ssh_argv(lab, host, "true"), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if probe.returncode == 0:
            return
        last = probe.stderr.strip()
        if not alive(require(lab.name).host(host.name)):
            break
        time.sleep(0.3)
    console = (lab.folder / host.name / "console.log").read_bytes()[-1500:].decode(errors="replace")
    raise LabError(
        f"{host.name} did not answer over SSH ({last or 'its process ended'}); its console's end:\n{console}"
    )


def write_inventory(lab: Lab) -> None:
    """An Ansible inventory (JSON, which is YAML) with the group ovs_hosts."""
    common = " ".join(_quoted(word) for word in ssh_options(lab))
    data = {
        "ovs_hosts": {
            "hosts": {
                host.name: {"ansible_host": host.address, "lab_data_address": host.data_address}
                for host in lab.hosts
            },
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(images.ssh_key()),
                "ansible_ssh_common_args": common,
                "ansible_ssh_pipelining": True,
                # Two labs use the same addresses in different namespaces: they must not share connections.
                "ansible_control_path_dir": str(lab.folder / "cp"),
                "ansible_python_interpreter": "/usr/bin/python3",
            },
        }
    }
    lab.inventory.write_text(json.dumps(data, indent=2) + "\n")


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word else word
