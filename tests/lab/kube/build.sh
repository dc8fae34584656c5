#!/usr/bin/env bash
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Builds Kubernetes from Debian's source package, without a network: runs in a root file system with Debian's Go,
# in /build, where the source package is, and leaves the programs in /build/out.
#   $1 the version that they are to tell
set -euxo pipefail
export PATH=/usr/lib/go-1.19/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/build GOPATH=/build/go GO111MODULE=off CGO_ENABLED=0
cd /build
dpkg-source --extract --no-check ./*.dsc tree
mkdir -p go/src/k8s.io
ln -s /build/tree go/src/k8s.io/kubernetes
cd go/src/k8s.io/kubernetes
make generated_files
told=
for package in k8s.io/kubernetes/vendor/k8s.io/component-base/version k8s.io/component-base/version; do
  told="$told -X $package.gitVersion=v$1"
done
go build -p 2 -trimpath -tags providerless,dockerless -ldflags "-s -w$told" -o /build/out/ \
  ./cmd/kube-apiserver ./cmd/kube-controller-manager ./cmd/kube-scheduler ./cmd/kubelet
gcc -Os -static -DVERSION=lab -o /build/out/pause build/pause/linux/pause.c
