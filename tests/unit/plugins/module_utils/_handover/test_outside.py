# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import server_of


def test_a_socket_tells_who_serves_it(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert server_of(path) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert server_of(path) is None  # nobody listens yet
        server.listen()
        assert server_of(path) == os.getpid()
