#!/bin/sh
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The first process of a native host, already in namespaces of its own: stands on a root file system of the lab
# (read-only, shared), starts what starts at boot, says "ready" and reaps.
#   $1 folder for what the host writes   $2 the root; several are given with colons, the upper one first
#   $3 the collection's tree   $4 host name
#   $5 the lab's network namespace, '' for no network   $6 host number   $7 management and $8 data address
set -eu
folder=$1 lower=$2 collection=$3 name=$4 lab=$5
root=$folder/root
mkdir -p "$folder/upper" "$folder/work" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" ovsops-native "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
# Each boot has a name of its own, as on a machine.
cat proc/sys/kernel/random/uuid > run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/net dev/pts dev/shm
for node in null zero full random urandom tty net/tun; do
  : > "dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p run/sshd srv/collections/ansible_collections/ovsops/hot_upgrade .old
mount --bind -o ro "$collection" srv/collections/ansible_collections/ovsops/hot_upgrade
# A container runtime makes overlays, which cannot be made over this one.
if [ -d "$folder/containerd" ]; then
  mkdir -p var/lib/containerd
  mount --bind "$folder/containerd" var/lib/containerd
fi
# The machine's kernel modules are not the lab's: loading one succeeds and does nothing.
for tool in modprobe rmmod insmod; do
  rm -f "usr/sbin/$tool"
  printf '#!/bin/sh\nexit 0\n' > "usr/sbin/$tool"
  chmod 755 "usr/sbin/$tool"
done
echo "$name" > etc/hostname
printf '127.0.0.1 localhost %s\n' "$name" > etc/hosts
hostname "$name"
ip link set lo up
if [ -n "$lab" ]; then
  for link in "mgmt $7" "data $8"; do
    bridge=${link% *}
    # The kernel removes the link of a powered-off host with its namespace, but only some time later.
    nsenter "--net=/run/netns/$lab" ip link delete "$bridge$6" 2> /dev/null || :
    # 1 is this process in its pid namespace.
    nsenter "--net=/run/netns/$lab" ip link add "$bridge$6" type veth peer name "$bridge" netns 1
    nsenter "--net=/run/netns/$lab" ip link set "$bridge$6" master "$bridge" up
    ip address add "${link#* }/24" dev "$bridge"
    ip link set "$bridge" up
  done
fi
pivot_root . .old
umount -l /.old
rmdir /.old
if [ -n "$lab" ]; then
  /usr/sbin/sshd
  if [ -x /etc/init.d/openvswitch-switch ]; then
    service openvswitch-switch start
  fi
  if [ -x /usr/local/sbin/kube-node ]; then
    kube-node start
  fi
fi
echo ready
exec > /dev/null 2>&1
# dash's wait reaps every orphan that ends meanwhile.
while :; do
  sleep 86400 &
  wait
done
