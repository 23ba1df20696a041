#!/bin/sh
# Power cuts. "make FILESYSTEM DISK:PROGRAM:NUMBER..." makes one on every disk. "write ..." mounts them, says what each has,
# and writes until the power goes: to each disk with a program of its own, so that no program's flush saves another's file.
# The numbers begin after NUMBER.
#
#   HAS <tab> disk <tab> what there is      WROTE <tab> disk <tab> number
modprobe -a ext4 xfs btrfs f2fs crc32_generic

# What DEST has: a number if it is whole.
content() { # FILE
    [ -e "$1" ] || { echo missing; return; }
    lines=$(sort -u "$1" | head -n 2)
    size=$(stat -c %s "$1")
    case $size,$lines in
        36000,????????) printf '%s' "$lines" | sed 's/^0*\(.\)/\1/' ;;
        0,) echo empty ;;
        *) echo "torn: $size bytes, $(tr '\0' Z <"$1" | sort | uniq -c | head -n 3 | tr -s ' \n' ' ')" ;;
    esac
}

author() { # DISK PROGRAM NUMBER
    cd "/mnt/$1" || exit
    number=$3
    while :; do
        number=$((number + 1))
        yes "$(printf '%08d' $number)" | head -n 4000 >"/tmp/$1"
        case $2 in
            atomwrite) atomwrite o <"/tmp/$1" ;;
            sponge) sponge o <"/tmp/$1" ;;
            mv) cat "/tmp/$1" >t && mv t o ;;
            redirect) cat "/tmp/$1" >o ;;
        esac || exit
        printf 'WROTE\t%s\t%s\n' "$1" $number
    done
}

what=$1
filesystem=$2
shift 2
case $what in
    make)
        for disk in "$@"; do
            case $filesystem in
                ext4) mkfs.ext4 -q -F "/dev/${disk%%:*}" ;;
                xfs) mkfs.xfs -q -f "/dev/${disk%%:*}" ;;
                btrfs) mkfs.btrfs -q -f "/dev/${disk%%:*}" ;;
                f2fs) mkfs.f2fs -f "/dev/${disk%%:*}" ;;
            esac >&2 || exit
        done
        sync
        ;;
    write)
        for pair in "$@"; do
            disk=${pair%%:*}
            mkdir -p "/mnt/$disk"
            mount -t "$filesystem" "/dev/$disk" "/mnt/$disk" || exit
            printf 'HAS\t%s\t%s\n' "$disk" "$(content "/mnt/$disk/o")"
        done
        echo WRITING
        for pair in "$@"; do
            rest=${pair#*:}
            author "${pair%%:*}" "${rest%:*}" "${rest#*:}" &
        done
        wait
        ;;
esac
