#!/bin/sh
# An ID-mapped mount: /srv is ext4 as it is, /mnt the same with a map. Root tries all in it, and then a user.
. /machines/check.sh
. /machines/promises.sh

# Mounts a filesystem again, where the disk's IDs 10000 to 11999 are 0 to 1999. Debian 12's mount(8) cannot do that.
map() { # MOUNT, DIRECTORY
    unshare --user sleep infinity &
    while [ "$(readlink /proc/$!/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
    echo 10000 0 2000 >/proc/$!/uid_map
    echo 10000 0 2000 >/proc/$!/gid_map
    LC_ALL=C perl -e '
        my ($mount, $directory, $empty) = (@ARGV[1, 2], "");
        open(my $namespace, "<", "/proc/$ARGV[0]/ns/user") or die "no user namespace: $!\n";
        # open_tree(AT_FDCWD, mount, OPEN_TREE_CLONE)
        my $tree = syscall(428, -100, $mount, 1);
        # struct mount_attr: MOUNT_ATTR_IDMAP, and the namespace with the map
        my $attributes = pack("QQQQ", 0x100000, 0, 0, fileno($namespace));
        # mount_setattr(tree, "", AT_EMPTY_PATH), move_mount(tree, "", AT_FDCWD, directory, MOVE_MOUNT_F_EMPTY_PATH)
        syscall(442, $tree, $empty, 0x1000, $attributes, 32) == 0 or die "mount_setattr: $!\n";
        syscall(429, $tree, $empty, -100, $directory, 4) == 0 or die "move_mount: $!\n";
    ' $! "$1" "$2"
    status=$?
    kill $!
    return $status
}

# The owner and the group that a file has on the disk.
owned() { # FILE UID:GID
    equal "owner of $1 on the disk" "$(stat -c %u:%g "/srv/$user/$number/$1")" "$2"
}

ids() {
    fresh
    check looks 'a new file on the disk' 0 'echo old | atomwrite f' "is f old && owned f $id:$id"
    check looks 'an old file on the disk' 0 'echo new | atomwrite -b f' "is f new && owned f $id:$id && owned f~ $id:$id"
    check looks 'many files on the disk' 0 'atomwrite -t . /tmp/sources/t1 /tmp/sources/t2' "owned t1 $id:$id && owned t2 $id:$id"
    for option in '-o 5000' '-g 5000' '-o 1000:5000'; do
        check looks "$option, which the map has not" 1 "echo no | atomwrite $option f" "is f new && owned f $id:$id"
    done
    [ "$user" = root ] || return
    check looks '-o on the disk' 0 'echo ann | atomwrite -o 1000:1000 f' 'is f ann && owned f 11000:11000'
    check looks 'the owner is kept on the disk' 0 'echo kept | atomwrite --keep=all f' 'is f kept && owned f 11000:11000'
    chown 5000:5000 "/srv/$user/$number/f"
    check looks 'an owner that the map has not' 1 'echo no | atomwrite f' 'is f kept && owned f 5000:5000'
    check looks 'an owner that the map has not, --force' 1 'echo no | atomwrite --force f' 'is f kept && owned f 5000:5000'
    check looks 'an owner that the map has not, --inplace' 1 'echo no | atomwrite --inplace f' 'is f kept && owned f 5000:5000'
}

user=${1-}
case $user in
    root) id=10000 ;;
    user) id=11000 ;;
    *)
        modprobe ext4
        mkfs.ext4 -q -F /dev/vda >&2
        mount -t ext4 /dev/vda /srv || exit
        mkdir /srv/root /srv/user
        chown 10000:10000 /srv/root
        chown 11000:11000 /srv/user
        map /srv /mnt || exit
        "$0" root || exit
        # The user cannot write to what root has left there.
        rm -rf /tmp/*
        as_ann "$0" user
        exit
        ;;
esac
cd "/mnt/$user" || exit
begin "ext4, ID-mapped, $user"
ids
promises
exit 0
