#!/bin/sh
# Quotas: ann may have no more. Takes a filesystem and whose quota it is.
. /machines/check.sh
. /machines/promises.sh

disk=/dev/vda
modprobe -a ext4 xfs quota_v2

while [ $# -gt 0 ]; do
    case $1,$2 in
        ext4,user)
            mkfs.ext4 -q -F -O quota $disk && mount -t ext4 -o usrquota $disk /mnt && mkdir -p /mnt/p/d &&
                setquota -u ann 1000 1000 0 0 /mnt
            ;;
        xfs,user)
            mkfs.xfs -q -f $disk && mount -t xfs -o uquota $disk /mnt && mkdir -p /mnt/p/d &&
                xfs_quota -x -c 'limit -u bsoft=1000k bhard=1000k 1000' /mnt
            ;;
        xfs,project)
            mkfs.xfs -q -f $disk && mount -t xfs -o pquota $disk /mnt && mkdir -p /mnt/p/d &&
                xfs_quota -x -c 'project -s -p /mnt/p 1' -c 'limit -p bsoft=1000k bhard=1000k 1' /mnt
            ;;
    esac >&2 || exit
    chown -R ann:ann /mnt/p
    # shellcheck disable=SC2016 # the inner shell expands it
    as_ann sh -c '. /machines/check.sh
        . /machines/promises.sh
        cd /mnt/p/d || exit
        begin "$1"
        full /mnt/p
        finish' sh "$1, $2 quota" || exit
    umount /mnt || exit
    shift 2
done
exit 0
