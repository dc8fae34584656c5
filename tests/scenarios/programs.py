# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a lab host while something else is done."""

from __future__ import annotations

import contextlib
import json
import typing as t

from tests.lab.images import REPOSITORY
from tests.scenarios.scene import Json, Scene, until


def background(command: str, pidfile: str) -> str:
    """Shell that starts ``command`` for longer than the session."""
    return f"setsid {command} </dev/null >/run/background.log 2>&1 & echo $! >{pidfile}\n"


class Program:
    """One of tests/lab that writes its log, JSON, to the path ``log`` when it is told to end."""

    def __init__(self, name: str) -> None:
        self._text = (REPOSITORY / f"tests/lab/{name}.py").read_text()
        self._place, self._pidfile, self.log = f"/srv/{name}.py", f"/run/{name}.pid", f"/run/{name}.json"

    @contextlib.contextmanager
    def running(
        self, scene: Scene, *words: object, within: str = "", begun: str = "", patience: int = 30
    ) -> t.Iterator[Json]:
        """Run it with these ``words`` on host 1; its log is in what this yields, afterwards.

        ``within`` is what its command begins with, ``begun`` a script that waits until it is ready; it may take so many seconds
        to end.
        """
        command = f"{within} python3 {self._place} {' '.join(map(str, words))}"
        scene.sh(
            f"cat > {self._place} <<'PROGRAM'\n{self._text}\nPROGRAM\nrm -f {self.log}*\n"
            + background(command, self._pidfile)
            + begun
        )
        log: Json = {}
        try:
            yield log
        finally:
            ended = until(f"[ -e {self.log} ]", patience, otherwise="cat /run/background.log >&2")
            scene.sh(f"kill $(cat {self._pidfile})\n{ended}")
            log.update(json.loads(scene.sh(f"cat {self.log}")))
