# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Everything a developer runs. Works on a fresh Debian 12 or 13 as root with git and make installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

in_tools := tests/tools/in-env tools
lab := $(in_tools) tests/tools/lab
linked := build/collections/ansible_collections/ovsops/hot_upgrade
scenarios := $(notdir $(patsubst %/molecule.yml,%,$(wildcard extensions/molecule/*/molecule.yml)))
# In the order of their names: pytest-xdist would have the files with few tests come last, which take longest.
beside_each_other := --numprocesses 2 --dist loadfile --no-loadscope-reorder
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/build/collections

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

##@ The two commands of the README

.PHONY: demo test
demo: lab-tools ## Upgrade two lab hosts from OVS 3.5.0 to 4.0.0 under traffic and print what was lost
	@$(in_tools) python tests/demo.py

test: ## The whole quality gate: every step below up to molecule, with a summary
	@tests/tools/gate setup lint docs site sanity units build integration molecule $(more)

##@ Steps of the gate

.PHONY: setup lint docs site sanity units build integration molecule
setup: lab-tools ## Install what the tools and the lab need: Debian packages and Python environments
	@tests/tools/in-env site true
	@tests/tools/in-env galaxy true
	@! tests/tools/in-env --have ansible-2.21 || tests/tools/in-env ansible-2.21 true

.PHONY: lab-tools
lab-tools: $(linked)
	@tests/tools/apt-install requirements/apt-packages.txt tests/lab/apt-packages.txt
	@$(in_tools) true

lint: ruff mypy yamllint reuse ansible-lint ## All of the next five

.PHONY: ruff mypy yamllint reuse ansible-lint
ruff: ## Python style and formatting
	$(in_tools) ruff check --quiet .
	$(in_tools) ruff format --check --quiet .

mypy: $(linked) ## Types of the engine, the plugins and the tests, strict
	$(in_tools) mypy -p ansible_collections.ovsops.hot_upgrade.plugins.module_utils -p ansible_collections.ovsops.hot_upgrade.plugins.action \
		-p ansible_collections.ovsops.hot_upgrade.plugins.callback -p ansible_collections.ovsops.hot_upgrade.plugins.filter \
		-p ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils
# Tests replace what a module has imported, and so name it by that module.
	$(in_tools) mypy --implicit-reexport --cache-dir build/.mypy_cache/tests tests

yamllint: ## YAML style
	$(in_tools) yamllint --strict .

reuse: ## A licence for every file (REUSE)
	$(in_tools) reuse lint --lines

ansible-lint: $(linked) ## Roles and playbooks, production profile
	$(in_tools) ansible-lint --strict --nocolor -q

docs: $(linked) ## Check the documentation of the collection, the page of refusals and the changelog fragments
	$(in_tools) antsibull-docs lint-collection-docs --plugin-docs .
	$(in_tools) antsibull-changelog lint
	$(in_tools) python tests/tools/refusals.py --check docs/refusals.md

site: $(linked) ## The documentation as a web site, in build/site/html; a dead link is an error
	tests/tools/in-env site tests/tools/site build/site

sanity: ## ansible-test sanity, oldest and newest supported ansible-core
	tests/tools/on-each-core sanity

units: ## ansible-test units on the oldest, Debian's and the newest managed-node Python
	tests/tools/on-each-core units

build: ## Build the collection's tarball into build/dist, check and install it
	$(in_tools) tests/tools/check-tarball build/dist

integration: $(linked) ## The engine against real daemons in network namespaces
	$(in_tools) python -m pytest $(beside_each_other) tests/integration

molecule: $(linked) ## The molecule scenarios, on lab hosts (one: make molecule scenarios=NAME)
	cd extensions && for scenario in $(scenarios); do \
	    ../$(in_tools) molecule test --scenario-name "$$scenario"; done

##@ While developing

.PHONY: check-fast fmt refusals pins
check-fast: ruff mypy ## ruff, mypy and the unit tests, in seconds
	$(in_tools) python -m pytest --quiet tests/unit

fmt: ## Format and sort imports
	$(in_tools) ruff format .
	$(in_tools) ruff check --fix .

refusals: ## Write the page of refusals anew, from the messages of the code
	$(in_tools) python tests/tools/refusals.py docs/refusals.md

pins: ## Renew the pinned requirements from the .in files beside them
	tests/tools/pins

.PHONY: release
release: $(linked) ## Make a version of the tree, with its changelog (version=1.0.0); commits and publishes nothing
	@$(in_tools) tests/tools/release "$(version)"
	@$(MAKE) docs build

##@ Lab and measurements

.PHONY: lab-up lab-down lab-clean
lab-up: lab-tools ## Start a lab (hosts=2 from=3.5.0 backend=uml); prints its inventory
	@$(lab) up --backend $(or $(backend),uml) --hosts $(or $(hosts),2) --from $(or $(from),3.5.0) --populate

lab-down: ## End the lab
	@$(lab) down

lab-clean: ## End every lab, also after an interrupted run
	@$(lab) clean

.PHONY: test-rollouts test-kube test-kube-short test-scenarios test-faults
.PHONY: bench-adoption bench-fleet bench-interruption bench-kmod bench-kube bench-ports bench-snapshot
test-rollouts: lab-tools ## Rollouts that are interrupted, judged, confirmed by hand and taken back, on native hosts
	@$(in_tools) python -m pytest $(beside_each_other) tests/rollouts

test-kube: lab-tools ## Open vSwitch in pods, on a real cluster (KUBE_LAB=NAME: on one that is up already; options="…")
	@$(in_tools) python -m pytest --verbose tests/kube $(options)

test-kube-short: ## Those of them that CI has time for
	@$(MAKE) test-kube options="-m 'not slow'"

test-scenarios: lab-tools ## Hand-overs as operators meet them, on lab hosts (options="NAME …", "--list", "--numprocesses=2 --dist=worksteal")
	@$(in_tools) python tests/scenarios/run.py $(options)

test-faults: lab-tools ## A fault at every step of every strategy, its rollback and confirmation (options="--phase …")
	@$(in_tools) python tests/faults/matrix.py $(options)

bench-adoption: lab-tools ## When a DaemonSet adopts a surge pod, on a cluster that is up (options="--name kube")
	@$(in_tools) python tests/bench/adoption.py $(options)

bench-kube: lab-tools ## A pod replaced under traffic, by deletion, by a restart and by us, on a cluster that is up (options="--name kube")
	@$(in_tools) python tests/bench/kube.py $(options)

bench-fleet: lab-tools ## What many hosts cost the controller, and a model for a thousand (options="--sizes 1,5 …")
	@$(in_tools) python tests/bench/fleet.py $(options)

bench-interruption: lab-tools ## What each way to upgrade costs the traffic (options="--sizes 1000 …")
	@$(in_tools) python tests/bench/interruption.py $(options)

bench-kmod: lab-tools ## A reload of the kernel module beside upstream's (options="--ports 1,50 …")
	@$(in_tools) python tests/bench/kmod.py $(options)

bench-ports: lab-tools ## What the number of ports costs the traffic (options="--ports 10,100 …")
	@$(in_tools) python tests/bench/ports.py $(options)

bench-snapshot: lab-tools ## Snapshot and restore beside ovs-save (options="…")
	@$(in_tools) python tests/bench/snapshot.py $(options)

.PHONY: clean
clean: lab-clean ## End the labs and remove what was built in the tree (caches outside it stay)
	rm -rf build/dist build/gate build/site build/tools build/ansible-2.21 build/.mypy_cache build/.pytest_cache build/.ruff_cache

# The tree under the name that Ansible and Python import it by.
$(linked):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@
