#!/bin/sh
# Filesystems of a disk of their own: takes their names. /dev/vda is a small disk.
. /machines/check.sh
. /machines/promises.sh

disk=/dev/vda

# Makes the filesystem and mounts it at /mnt.
make() { # NAME
    dd if=/dev/zero of=$disk bs=1M count=2 2>/dev/null
    case $1 in
        vfat) modprobe -a vfat nls_utf8 nls_cp437 nls_ascii; mkfs.vfat $disk && mount -t vfat -o iocharset=utf8 $disk /mnt ;;
        exfat) modprobe exfat; mkfs.exfat $disk && mount -t exfat $disk /mnt ;;
        f2fs) modprobe -a f2fs crc32_generic; mkfs.f2fs -f $disk && mount -t f2fs $disk /mnt ;;
        ext4-casefold)
            mkfs.ext4 -q -F -O casefold -E encoding=utf8 $disk && mount -t ext4 $disk /mnt &&
                mkdir /mnt/d && chattr +F /mnt/d
            ;;
        ext4) mkfs.ext4 -q -F $disk && mount -t ext4 $disk /mnt ;;
        xfs) modprobe xfs; mkfs.xfs -q -f $disk && mount -t xfs $disk /mnt ;;
        btrfs) modprobe btrfs; mkfs.btrfs -q -f $disk && mount -t btrfs $disk /mnt ;;
        overlayfs)
            mkfs.ext4 -q -F $disk && mkdir -p /srv/disk && mount -t ext4 $disk /srv/disk &&
                mkdir -p /srv/disk/lower/d /srv/disk/upper /srv/disk/work &&
                mount -t overlay -o lowerdir=/srv/disk/lower,upperdir=/srv/disk/upper,workdir=/srv/disk/work overlay /mnt
            ;;
    esac >&2
}

modprobe -a ext4 overlay
for name in "$@"; do
    make "$name" || exit
    mkdir -p /mnt/d
    cd /mnt/d || exit
    case $name in vfat | exfat) locks=stay ;; *) locks=go ;; esac
    case $name,$(uname -r) in overlayfs,6.1.*) unnamed=no ;; *) unnamed=yes ;; esac
    begin "$name"
    [ -n "${only-}" ] || full /mnt
    promises
    cd / || exit
    umount /mnt || exit
    umount /srv/disk 2>/dev/null
done
exit 0
