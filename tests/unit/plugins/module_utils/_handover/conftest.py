# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose outside is scripted: real parts on a clock that does not sleep, a database and switches that note what is done."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import create

Done = list[str]


class Spy:
    """Whatever is called is noted in ``done`` and gives its answer, by name: a value, a function, or None."""

    def __init__(self, done: Done, name: str, **answers: t.Any) -> None:
        self.done, self.name, self.answers = done, name, answers

    def __getattr__(self, method: str) -> t.Any:
        if method.startswith("__"):
            raise AttributeError(method)

        def call(*words: t.Any, **named: t.Any) -> t.Any:
            self.done.append(f"{self.name}: {method}")
            answer = self.answers.get(method)
            if isinstance(answer, Exception):
                raise answer
            return answer(*words, **named) if callable(answer) else answer

        return call

    def __enter__(self) -> Spy:
        return self

    def __exit__(self, *__: object) -> None:
        self.done.append(f"{self.name}: left")


class Clock:
    """Its time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += max(seconds, 1e-3)


class Session(Spy):
    """The database; ovs-vswitchd applies it at the look of the number ``looks``, by default the first one."""

    looks = 1
    flag = False
    schema_version = "8.3.0"
    configured: t.ClassVar[list[t.Any]] = []

    def bridges(self) -> list[t.Any]:
        return self.configured

    def flow_restore_wait(self) -> bool:
        return self.flag

    def set_flow_restore_wait(self, enabled: bool) -> None:
        self.flag = enabled
        self.done.append(f"database: flag {'up' if enabled else 'down'}")

    def transact(self, *operations: t.Any) -> t.Any:
        if operations[0]["op"] == "mutate":
            return [{}, {"rows": [{"next_cfg": 7}]}]
        self.looks -= 1
        return [{"rows": [{"cur_cfg": 7 if self.looks <= 0 else 6}]}]


class World:
    """``done`` is what was done to the host, in order; ``host`` is made of real parts when it is first asked for."""

    def __init__(self, place: Path, make_request: t.Callable[..., Request]) -> None:
        self.done: Done = []
        self.clock = Clock()
        self.place, self._make_request = place, make_request
        self.session = Session(self.done, "database", select=lambda *__: [])
        living: t.Any = Spy(
            self.done, "living", now=lambda _name, saved: saved, descriptors=lambda _names: []
        )
        living.base, living.unfollowed, living.flows, living.follows = {}, {}, 0, True
        self.living = living
        self.owners = {name: self.owner(name) for name in (VSWITCHD, OVSDB_SERVER)}
        self.switches: dict[str, t.Any] = {}
        self.servers: dict[str, list[int | None]] = {}
        self.running: dict[tuple[str, str], Process] = {}
        self.children: list[subprocess.Popen[bytes]] = []
        self.wish: dict[str, t.Any] = {}
        self.in_the_way: list[int] = []
        self.rundir = str(place / "run")
        Path(self.rundir).mkdir()
        self._host: Host | None = None

    def spy(self, name: str, **answers: t.Any) -> t.Any:
        """Something that notes what is done to it."""
        return Spy(self.done, name, **answers)

    def owner(self, name: str) -> t.Any:
        """One that starts a daemon, and finds nothing wrong."""

        def restart(
            old: Instance, binaries: str | None, ending: t.Callable[[], None] = lambda: None
        ) -> t.Any:
            ending()
            self.done[-1] += f" with {binaries or 'the installed program'}"
            job: t.Any = Spy(self.done, f"job of {name}", failed=False)
            job.refused = []
            return job

        found: t.Any = Spy(self.done, f"owner of {name}", restart=restart, adopt=lambda _new: ["a limit"])
        found.revives = False
        like = types.SimpleNamespace(nice=0, uid=os.geteuid(), gid=os.getegid())
        found.heritage = types.SimpleNamespace(like=like, places={})
        return found

    def daemon(self, name: str = VSWITCHD, place: str | None = None) -> Process:
        """Start a process that passes for a daemon."""
        child = subprocess.Popen(["/bin/sleep", "600"])
        self.children.append(child)
        found = identify(child.pid)
        assert found is not None
        self.running[place or self.rundir, name] = found
        return found

    @property
    def host(self) -> Host:
        if self._host is None:
            self._host = self._make()
        return self._host

    def _make(self) -> Host:
        first = Instance(self.running.get((self.rundir, VSWITCHD), Process(1, 2)), ("ovs-vswitchd",), {})
        owners = dict.fromkeys((VSWITCHD, OVSDB_SERVER), {"program": "/usr/sbin/it", "unit": None})
        # Instances are read from the request without what is doubted of them.
        wish = {"rundir": self.rundir, "vswitchd": first, "supervisors": owners, **self.wish}
        transaction = create(self._make_request(**wish).json(), str(self.place / "transactions"))
        return Host(transaction, t.cast("t.Any", self.living), self._outside())

    def _outside(self) -> Outside:
        return Outside(
            clock=self.clock,
            clear_the_way=lambda: self.in_the_way,
            run=t.cast("t.Any", Spy(self.done, "command")),
            open_database=lambda _remote, _timeout: t.cast("t.Any", self.session),
            open_switch=self._open_switch,
            server_of=self._server_of,
            running=self._running,
            owner=lambda name, *__: self.owners[name],
        )

    def _open_switch(self, path: str) -> t.Any:
        name = Path(path).stem
        if name not in self.switches:
            raise Unreachable(f"nobody serves {path}")
        self.done.append(f"connect to {name}")
        return self.switches[name]

    def _server_of(self, path: str) -> int | None:
        """Look by look; the last one stays."""
        left = self.servers[Path(path).stem]
        return left.pop(0) if len(left) > 1 else left[0]

    def _running(self, rundir: str, name: str) -> Instance:
        if (rundir, name) not in self.running:
            raise Unreachable(f"{name} does not run")
        process = self.running[rundir, name]
        if identify(process.pid) != process:
            raise Unreachable(f"{name} has ended")
        return Instance(process, (name,), {})


@pytest.fixture
def world(tmp_path: Path, make_request: t.Callable[..., Request]) -> t.Iterator[World]:
    found = World(tmp_path, make_request)
    yield found
    for child in found.children:
        child.kill()
        child.wait()


@dataclasses.dataclass
class Kept:
    """Enough of a snapshot: its bridges have a state that is their name."""

    names: t.Sequence[str]
    flows: int = 0

    @property
    def bridges(self) -> list[t.Any]:
        return []

    def state(self, name: str) -> str:
        return f"state of {name}"


@pytest.fixture
def kept() -> type[Kept]:
    return Kept
