# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The schema of the database that the packages on disk bring."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import open_regular
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import real_file

# More than a schema has of bytes.
_MOST = 16 << 20
SCHEMA_FILES = (
    "usr/share/openvswitch/vswitch.ovsschema",
    "usr/local/share/openvswitch/vswitch.ovsschema",
)


def schema_file(root: str = "/") -> str | None:
    """The schema that the packages below ``root`` bring, None where there is none."""
    if root != "/":  # its links are to be followed as those see them who have it for their root
        found = (real_file(f"/{name}", root) for name in SCHEMA_FILES)
        return next((path for path in found if path is not None and os.path.exists(path)), None)
    paths = (os.path.join(root, name) for name in SCHEMA_FILES)
    return next((path for path in paths if os.path.exists(path)), None)


def read_schema(path: str) -> dict[str, t.Any]:
    """The schema in the file ``path``; raises ``OSError`` where it is none, and ``ValueError`` where it holds none.

    Whoever is root in a container may have put a pipe there since it was found, or a file without end.
    """
    # Of a container the links were followed from its own root on, and must not be from ours.
    with open_regular(path if path.startswith("/proc/") else os.path.realpath(path)) as file:
        return t.cast("dict[str, t.Any]", json.loads(file.read(_MOST)))


def disk_schema_version(root: str = "/") -> str | None:
    """The version of the schema that the packages on disk bring, None when there is none that can be read."""
    path = schema_file(root)
    try:
        return str(read_schema(path)["version"]) if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
