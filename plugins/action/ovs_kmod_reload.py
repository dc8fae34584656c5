# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``ovs_kmod_reload``: as of a hand-over, since the connection may cross the datapath that goes away."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.action import ovs_handover


class ActionModule(ovs_handover.ActionModule):
    """See the module's documentation."""

    module = "ovsops.hot_upgrade.ovs_kmod_reload"
    begins = ("current", "forced")
