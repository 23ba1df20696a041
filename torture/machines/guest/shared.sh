#!/bin/sh
# A directory of the host: takes 9p or virtiofs. The second client is a second mount of the same directory.
. /machines/check.sh
. /machines/promises.sh

locks=stay
mkdir -p /mnt/one /mnt/two
case $1 in
    9p)
        modprobe -a 9p 9pnet_virtio
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 one /mnt/one &&
            mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 two /mnt/two
        ;;
    virtiofs)
        modprobe -a virtiofs
        mount -t virtiofs one /mnt/one && mount -t virtiofs one /mnt/two
        ;;
esac || exit
mkdir -p /mnt/one/d
cd /mnt/one/d || exit
begin "$1" /mnt/two/d
promises
exit 0
