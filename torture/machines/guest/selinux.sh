#!/bin/sh
# SELinux, enforcing Debian's policy: takes the types of atomwrite's file. bin_t leaves it in the domain of the first
# process, which may do all; from writer_exec_t, it gets into writer.cil's, which may not relabel.
. /machines/check.sh
. /machines/promises.sh

modprobe ext4
mount -t selinuxfs selinuxfs /sys/fs/selinux && load_policy && setenforce 1 || exit
mkfs.ext4 -q -F /dev/vda >&2
mount -t ext4 /dev/vda /mnt || exit
mkdir /mnt/bin
cp "$(command -v atomwrite)" "$(command -v touch)" /mnt/bin
chcon -R system_u:object_r:var_t:s0 /mnt || exit
PATH=/mnt/bin:$PATH

labelled() { # FILE TYPE
    equal "label of $1" "$(stat -c %C "$1")" "system_u:object_r:$2:s0"
}

# DEST gets another label than a new file in its directory.
old() {
    rm -f f f~
    echo old >f
    chcon system_u:object_r:shadow_t:s0 f
}

# Whether the program has said so.
warned() { # TEXT
    case $said in
        *"$1"*) ;;
        *)
            echo "it has not said '$1'"
            return 1
            ;;
    esac
}

# The labels of new files: touch is in the same domain as atomwrite.
new_labels() {
    check looks 'label of a new file' 0 'touch made' "labelled made $new"
    for options in '' -a -b -n -D --lock --keep=all --inplace '-m 600'; do
        rm -f n
        check looks "label of a new DEST, $options" 0 "echo new | atomwrite $options n" "is n new && labelled n $new"
    done
    rm -f n t?
    check looks 'label of a new DEST, SOURCE' 0 'atomwrite f n' "is n old && labelled n $new"
    check looks 'label of a new DEST, COMMAND' 0 'atomwrite -v n2 -- echo new' "is n2 new && labelled n2 $new"
    check looks 'label of a new DEST, -t' 0 'atomwrite -t . /tmp/sources/t1' "labelled t1 $new"
    check looks 'label of a name' 0 'touch special' 'labelled special adjtime_t'
    rm special
    check looks 'label of a new DEST, a rule for its name' 0 'echo new | atomwrite special' 'labelled special adjtime_t'
    old
    check looks 'label of an old DEST, --keep=none' 0 'echo new | atomwrite --keep=none f' "is f new && labelled f $new"
    old
    check looks 'label of an old DEST, --inplace=always' 0 'echo new | atomwrite --inplace=always f' 'is f new && labelled f shadow_t'
}

relabels() {
    for options in '' -b -C -f --keep=all '-m 600' '-o 1000:1000'; do
        old
        check looks "label of an old DEST, $options" 0 "echo new | atomwrite $options f" 'is f new && labelled f shadow_t && equal said "$said" ""'
    done
    check looks 'label of an old DEST, COMMAND' 0 'atomwrite --lock f -- echo newer' 'is f newer && labelled f shadow_t'
    check looks 'label of an old DEST, -a' 0 'atomwrite -a f -- echo more' 'labelled f shadow_t'
    old
    check looks 'label of a backup' 0 'atomwrite -b f -- echo new' 'is f~ old && labelled f~ shadow_t'
    mkdir from
    echo new >from/f
    old
    check looks 'label of an old DEST, -t' 0 'atomwrite -t . from/f /tmp/sources/t2' "is f new && labelled f shadow_t && labelled t2 $new"
}

cannot_relabel() {
    lost="cannot keep the attribute 'security.selinux' of 'f'"
    for options in '' -C '-m 600'; do
        old
        check looks "a label that cannot be kept, $options" 0 "echo new | atomwrite $options f" "is f new && labelled f $new && warned \"\$lost\""
    done
    old
    check looks 'a label that cannot be kept, -b' 0 'echo new | atomwrite -b f' "is f new && labelled f $new && is f~ old && labelled f~ shadow_t && warned \"\$lost\""
    old
    check looks 'a label that cannot be kept, --keep=all' 1 'echo new | atomwrite --keep=all f' 'is f old && labelled f shadow_t && warned "$lost" && warned --inplace=always'
    mkdir from
    echo new >from/f
    check looks 'a label that cannot be kept, -t --keep=all' 1 'atomwrite --keep=all -t . from/f /tmp/sources/t2' 'is f old && labelled f shadow_t && absent t2'
    check looks 'a label that cannot be kept, -t' 0 'atomwrite -t . from/f /tmp/sources/t2' "is f new && labelled f $new && labelled t2 $new"
    check looks 'a label that is the same' 0 'echo newer | atomwrite --keep=all f' "is f newer && labelled f $new && equal said \"\$said\" ''"
}

for kind in "$@"; do
    chcon -t "$kind" /mnt/bin/* || exit
    mkdir "/mnt/$kind"
    cd "/mnt/$kind" || exit
    case $kind in
        bin_t)
            begin SELinux
            domain=kernel_t
            new=etc_t
            keeps=relabels
            ;;
        writer_exec_t)
            begin 'SELinux, may not relabel'
            domain=writer_t
            new=net_conf_t
            keeps=cannot_relabel
            ;;
    esac
    fresh
    check replaces 'in the domain' 0 'atomwrite f -- cat /proc/self/attr/current' "is f system_u:system_r:$domain:s0"
    fresh
    chcon -t etc_t .
    old
    new_labels
    $keeps
    for promise in replaces lock backup many looks inplace; do
        $promise
    done
    finish
done
exit 0
