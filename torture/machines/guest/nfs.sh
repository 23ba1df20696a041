#!/bin/sh
# NFS: takes versions, or a version and an option of mount or exports, as in 3,nolock; or 4.2,restarted for a server that
# is restarted, 4.2,quota for one on which ann may have no more. The server exports the disk /dev/vda; /mnt/one is one
# client, /mnt/two another one, which has a network namespace and a name of its own.
. /machines/check.sh
. /machines/promises.sh

locks=stay
modprobe -a ext4 quota_v2 nfsd nfs nfsv3 nfsv4 veth
mkfs.ext4 -q -F -O quota /dev/vda >&2
mount -t ext4 -o usrquota /dev/vda /srv || exit
mkdir -p /mnt/one /mnt/two /proc/fs/nfsd /var/lib/nfs/rpc_pipefs /run/rpcbind /run/sendsigs.omit.d \
    /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
# A client may reclaim its locks for so long after the start.
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
rpcbind -w || exit
rpc.statd --no-notify || exit
rpc.mountd || exit
rpc.nfsd 4 || exit

ip netns add two
ip link add one type veth peer name two netns two
ip address add 192.168.77.1/24 dev one
ip link set one up
ip netns exec two ip address add 192.168.77.2/24 dev two
ip netns exec two ip link set two up
ip netns exec two ip link set lo up

# Asks the server to forget its clients and to begin anew, as after a reboot.
restart() {
    rpc.nfsd 0 && exportfs -f && rpc.nfsd 4
}

# A client waits for a server that is away, and goes on.
restarted() {
    fresh
    echo old >f
    mkfifo /tmp/input
    atomwrite f </tmp/input 2>/tmp/said &
    run=$!
    exec 7>/tmp/input
    echo new >&7
    restart
    exec 7>&-
    wait $run
    status=$?
    check replaces 'the server is restarted' 0 'cat /tmp/said' "equal status $status 0 && both f new"
    atomwrite --lock n -- sh -c 'echo held >/tmp/held; cat /tmp/input' &
    while [ ! -e /tmp/held ]; do sleep 0.1; done
    restart
    at_work=yes
    check lock 'the lock holds while the server is restarted' 125 'cd "$other" && atomwrite --lock=0 n -- echo stolen' 'absent n'
    echo released >/tmp/input
    wait
    rm -f /tmp/input /tmp/held
    at_work=
    check lock 'the holder commits after that' 0 ':' 'soon both n released'
}

for what in "$@"; do
    version=${what%%,*}
    options=
    case $what in
        *,root_squash) echo '/srv *(rw,root_squash,insecure,no_subtree_check,sync,fsid=1)' >/etc/exports ;;
        *)
            echo '/srv *(rw,no_root_squash,insecure,no_subtree_check,sync,fsid=1)' >/etc/exports
            options=${what#"$version"}
            options=${options%,restarted}
            options=${options%,quota}
            ;;
    esac
    exportfs -ra || exit
    mkdir "/srv/$what"
    chmod 777 "/srv/$what" /srv
    mount -t nfs -o "vers=$version$options" 127.0.0.1:/srv /mnt/one || exit
    case $version in
        # The helpers of its locks live in one namespace only: the second client is a second mount of the same kernel.
        3) mount -t nfs -o "vers=3,nosharecache$options" 127.0.0.1:/srv /mnt/two || exit ;;
        *)
            nsenter --net=/run/netns/two unshare --uts sh -c "echo two >/proc/sys/kernel/hostname &&
                mount -t nfs -o vers=$version,nosharecache$options 192.168.77.1:/srv /mnt/two" || exit
            ;;
    esac
    grep /mnt/ /proc/mounts >&2
    cd "/mnt/one/$what" || exit
    begin "NFS $(echo "$what" | sed 's/,/, /')" "/mnt/two/$what" "/srv/$what" "/srv/$what"
    case $what in
        *,restarted)
            restarted
            finish
            ;;
        *,quota)
            setquota -u ann 1000 1000 0 0 /srv
            chown ann:ann .
            as_ann sh -c '. /machines/check.sh
                . /machines/promises.sh
                begin "$1" "$2" "$3" "$3"
                full "$PWD"
                finish' sh "$filesystem" "$other_top" "$server_top" || exit
            ;;
        *)
            [ -n "${only-}" ] || full /srv
            promises
            ;;
    esac
    cd / || exit
    umount /mnt/one /mnt/two || exit
done
exit 0
