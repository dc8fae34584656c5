# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The whole content of a running database as a file, as ``ovsdb-client backup`` writes it (ovsdb(5), standalone database).

A record is ``OVSDB JSON LENGTH SHA1``, then so many bytes of JSON; the first one is the schema, the second one adds every row.
"""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_content import (
    allows,
    normal,
    rows,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

Json = dict[str, t.Any]


def backup(remote: str, timeout: float) -> str:
    """The content of the database at ``remote`` as of one moment; what no file holds (ephemeral columns) is left out."""
    with Ovsdb(remote, timeout) as database:
        return text(database)


def text(database: Ovsdb) -> str:
    """See ``backup``."""
    content: Json = {table: found for table, found in rows(database).items() if found}
    about = {"_date": int(time.time() * 1000), "_comment": "produced by ovsops.hot_upgrade"}
    return _record(database.schema) + _record({**content, **about})


def fitted(content: str, schema: Json) -> str:
    """A file's ``content`` without the values that ``schema`` does not allow: ``ovsdb-tool convert`` refuses those."""
    own, tables = (json.loads(line) for line in content.splitlines()[1::2])
    known = {table: definition["columns"] for table, definition in schema["tables"].items()}
    for table in tables.keys() & known.keys():
        tables[table] = {
            uuid: {
                name: value
                for name, value in row.items()
                if name not in known[table] or allows(known[table][name], normal(value))
            }
            for uuid, row in tables[table].items()
        }
    return _record(own) + _record(tables)


def _record(document: Json) -> str:
    line = json.dumps(document, separators=(",", ":"), ensure_ascii=True) + "\n"
    checksum = hashlib.sha1(line.encode(), usedforsecurity=False).hexdigest()
    return f"OVSDB JSON {len(line)} {checksum}\n{line}"
