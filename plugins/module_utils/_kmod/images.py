# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The file of the module that is loaded: kept before a package replaces it, since the kernel does not give it back."""

from __future__ import annotations

import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.kernel_modules import Module

DIRECTORY = "/var/lib/ovsops/modules"


def keep(module: Module, directory: str = DIRECTORY) -> str | None:
    """Keep the file of the loaded ``module``, and of no earlier one; returns its path, None when it is kept already.

    Raises ``Refused`` when the file on the disk is another one's.
    """
    path = os.path.join(directory, _name(module))
    if kept(module, directory) is not None:
        return None
    if not module.loaded or module.disk_path is None:
        raise Refused(
            f"there is no file of the module {module.name} to keep",
            "it is not loaded"
            if not module.loaded
            else "it is built into the kernel, or its file is not there",
            "Look at 'modinfo openvswitch' and lsmod",
        )
    if module.reload_needed:
        raise Refused(
            f"the file of the loaded module {module.name} cannot be kept",
            f"{module.disk_path} is another one already",
            "Keep it before the package of the new one is installed; a reload now has no way back to the old one",
        )
    image = module_image.read(module.disk_path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for name in os.listdir(directory):
        if name.startswith(f"{module.name}-"):
            os.unlink(os.path.join(directory, name))
    write_durable(path, image.content)
    return path


def kept(module: Module, directory: str = DIRECTORY) -> str | None:
    """Where the file of the loaded ``module`` is kept, None where it is not, or where that is another module's."""
    path = os.path.join(directory, _name(module))
    try:
        image = module_image.read(path)
    except HotUpgradeError:
        return None
    return path if module.build_id is None or image.build_id == module.build_id else None


def of_loaded(module: Module, directory: str = DIRECTORY) -> module_image.Image | None:
    """The file of the loaded ``module``: the kept one, or that on the disk where it is the same; else None."""
    path = kept(module, directory)
    if path is not None:
        return module_image.read(path)
    if module.disk_path is not None and module.reload_needed is False:
        return module_image.read(module.disk_path)
    return None


def _name(module: Module) -> str:
    """By what tells modules apart; without it, by the boot in which it was loaded."""
    return f"{module.name}-{module.build_id or module.srcversion or boot_id()}.ko"
