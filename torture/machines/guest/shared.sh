#!/bin/sh
# A directory of the host: takes 9p or virtiofs. There is one client: two mounts share neither locks nor caches, and on 9p a
# reader of a file that the other mount has replaced can wait for ever.
. /machines/check.sh
. /machines/promises.sh

locks=stay
case $1 in
    9p)
        modprobe -a 9p 9pnet_virtio
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 one /mnt
        ;;
    virtiofs)
        modprobe -a virtiofs
        mount -t virtiofs one /mnt
        ;;
esac || exit
mkdir -p /mnt/d
cd /mnt/d || exit
begin "$1"
promises
exit 0
