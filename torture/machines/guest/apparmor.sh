#!/bin/sh
# AppArmor: takes kinds of profiles that confine atomwrite and what it runs.
. /machines/check.sh
. /machines/promises.sh

modprobe ext4
mount -t securityfs securityfs /sys/kernel/security
mkfs.ext4 -q -F /dev/vda >&2
mount -t ext4 /dev/vda /mnt || exit

for kind in "$@"; do
    flags=attach_disconnected
    rights=rwklmix
    case $kind in
        plain) flags= ;;
        mediate_deleted) flags=attach_disconnected,mediate_deleted ;;
        without-k) rights=rwlmix ;;
    esac
    cat >/tmp/profile <<PROFILE
profile atomwrite /usr/bin/atomwrite ${flags:+flags=($flags)} {
    /** $rights,
    capability,
    signal,
}
PROFILE
    apparmor_parser --replace --skip-cache /tmp/profile >&2 || exit
    mkdir "/mnt/$kind"
    cd "/mnt/$kind" || exit
    begin "AppArmor, $kind"
    fresh
    check replaces 'under the profile' 0 'atomwrite f -- cat /proc/self/attr/current' 'is f "atomwrite (enforce)"'
    replaces
    if [ "$kind" = without-k ]; then
        check lock '--lock without the right to lock' 125 'atomwrite --lock n -- echo 0' 'absent n'
    else
        lock
    fi
    backup
    many
    finish
done
exit 0
