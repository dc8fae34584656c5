# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The transaction's own copy of the code: whatever is to be done with a transaction later, is done by what began it.

The collection may be another one by then, with another format.  ``lib/run.py ROLE TRANSACTION`` runs it, see ``program.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import sync_directory
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import doubt_of_directory
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import pulse
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import LIB
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import (
    Operation,
    require_format,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    HUNG,
    Busy,
    Json,
    Transaction,
)

PACKAGE = "ansible_collections.ovsops.hot_upgrade.plugins.module_utils"

# How long a role may take that shows no heartbeat, in seconds: as long as its lease is renewed.
LONGEST = 3600.0
INTERVAL = 0.05

_PROGRAM = """import sys
sys.path.insert(0, __file__.rpartition("/")[0])
from {operation} import OPERATION
from {package}._transaction.program import main
main(OPERATION, sys.argv[1:])
"""


def argv(transaction: Transaction, role: str) -> list[str]:
    """What runs ``role`` by the copy, whatever the environment and the working directory of the caller are.

    The standard library is all that it needs, so nothing that is installed beside it takes part in a start (-S).
    """
    return [sys.executable, "-I", "-S", _run(transaction), role, transaction.path]


def make(transaction: Transaction, operation: Operation[t.Any]) -> None:
    """Copy the code that this process runs, wherever it was loaded from (AnsiballZ imports from a zip file).

    On the disk when this returns: the guard of the next boot runs it after a power loss.
    """
    lib = transaction.file(LIB)
    os.makedirs(lib, 0o700, exist_ok=True)
    directories = {lib}
    for name, source in sorted(_sources().items()):
        *packages, short = name.split(".")
        for depth in range(1, len(packages) + 1):
            directory = os.path.join(lib, *packages[:depth])
            if directory not in directories:
                os.makedirs(directory, 0o700, exist_ok=True)
                _write(os.path.join(directory, "__init__.py"), b"")
                directories.add(directory)
        _write(os.path.join(lib, *packages, f"{short}.py"), source)
    _write(_run(transaction), _PROGRAM.format(operation=operation.module, package=PACKAGE).encode())
    for directory in (*directories, transaction.path):
        sync_directory(directory)


def ask(transaction: Transaction, role: str, present: Operation[t.Any]) -> None:
    """Have the copy do ``role`` and wait until it has.  Raises ``HotUpgradeError`` as the copy does, ``Busy`` when it is at work.

    One that hangs is ended.  One without a copy gets that of the ``present`` operation, if it reads its request.
    """
    _require_copy(transaction, present)
    with _memory("answer") as answer, _memory("words") as words:
        # In files: a daemon that it starts would keep a pipe open.  In a session of its own: it does not end with the caller.
        child = subprocess.Popen(
            argv(transaction, role),
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=words,
            start_new_session=True,
        )
        _wait(child, transaction, role)
        _raise(transaction, role, _read(answer), _read(words))


def answer(action: t.Callable[[], None]) -> Json:
    """What the copy tells ``ask``."""
    try:
        action()
    except HotUpgradeError as error:
        return {"error": [error.what, error.why, error.hint], "busy": isinstance(error, Busy)}
    return {}


def _raise(transaction: Transaction, role: str, text: str, words: str) -> None:
    try:
        told: Json = json.loads(text)
    except ValueError:
        last = words.strip().rpartition("\n")[2]
        raise HotUpgradeError(
            f"the code of transaction {transaction.id} has failed at {role}",
            last or "it ended without a word",
            "Look at its journal and at journalctl -u 'ovsops-*'; what nobody confirms the host takes back by itself",
        ) from None
    if told.get("busy"):
        raise Busy(transaction)
    if "error" in told:
        raise HotUpgradeError(*told["error"])


def _require_copy(transaction: Transaction, present: Operation[t.Any]) -> None:
    """Raise ``Refused`` unless there is a copy that only root can have put there."""
    if not os.path.exists(_run(transaction)):
        try:
            require_format(transaction.request, present.name, present.format)
        except HotUpgradeError as error:
            raise Refused(
                f"transaction {transaction.id} has lost its copy of the code", error.why, error.hint
            ) from error
        make(transaction, present)
    doubt = doubt_of_directory(transaction.file(LIB))
    if doubt:
        raise Refused(
            f"the code of transaction {transaction.id} is not run as root",
            doubt,
            "Make that directory root's alone, if what is in it is what was there before",
        )


def _wait(child: subprocess.Popen[bytes], transaction: Transaction, role: str) -> None:
    started = time.monotonic()
    while child.poll() is None:
        if _silent(child.pid, transaction, time.monotonic() - started):
            child.kill()
            child.wait()
            raise HotUpgradeError(
                f"{role} of transaction {transaction.id} has made no progress and was ended",
                hint="Look at its journal; the next run goes on with it",
            )
        time.sleep(INTERVAL)


def _silent(pid: int, transaction: Transaction, runs: float) -> bool:
    """Whether the process is taken for one that hangs: whoever works on a transaction has a heartbeat, all else a limit."""
    found = pulse.last(transaction.id)
    if found is not None and found.process.pid == pid:
        return found.age > HUNG
    return runs > LONGEST


def _sources() -> dict[str, bytes]:
    """The engine's modules that this process has imported, by their full names."""
    found = {}
    for name, module in sys.modules.items():
        loader = getattr(module, "__loader__", None)
        # The connected side is not copied, and packages are empty.
        if (
            name.startswith(f"{PACKAGE}._")
            and name != f"{PACKAGE}._ansible"
            and not hasattr(module, "__path__")
        ):
            source = t.cast("t.Any", loader).get_source(name)
            # Ansible's own loader of collections, which ansible-test has, returns bytes.
            found[name] = source if isinstance(source, bytes) else source.encode()
    return found


def _run(transaction: Transaction) -> str:
    return transaction.file(LIB, "run.py")


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _memory(name: str) -> t.BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _read(file: t.BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
