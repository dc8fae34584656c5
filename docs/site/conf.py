# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the web site of what ``tests/tools/site`` has put together."""

project = "ovsops.hot_upgrade"
copyright = "ovsops contributors"  # the name that Sphinx reads
html_title = "Hot upgrades of Open vSwitch"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Headings are what links of the pages point at, as on GitHub.
myst_heading_anchors = 4
# Examples are shell, YAML or what a program prints, and say which only where it matters.
highlight_language = "none"
pygments_style = "ansible"

html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
html_copy_source = False
html_use_index = False

nitpicky = True
# Pages of Ansible's own documentation, at which what antsibull-docs writes points.
nitpick_ignore_regex = [
    ("std:ref", "(action_plugins|ansible_configuration_settings|callback_plugins|common_return_values)"),
    ("std:ref", r"ansible_collections\.ansible\.builtin\..*"),
]
