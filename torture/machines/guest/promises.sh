# Sourced: every promise, tried in the current directory, which is empty. check.sh says what the words mean.

yes 'one line of a file that is larger than a page' | head -c 300000 >/tmp/large
mkdir -p /tmp/sources
for i in 1 2 3; do echo "new $i" >/tmp/sources/t$i; done

replaces() {
    fresh
    check replaces 'stdin, new' 0 'echo one | atomwrite f' 'both f one'
    check replaces 'stdin' 0 'echo two | atomwrite f' 'both f two'
    check replaces 'COMMAND' 0 'atomwrite f -- echo three' 'both f three'
    check replaces '-c' 0 "atomwrite -c 'printf \"b\na\n\" | sort' f" "both f 'a
b'"
    check replaces 'SOURCE of another filesystem' 0 'atomwrite /tmp/large f' 'cmp /tmp/large f && cmp /tmp/large "$server/f"'
    check replaces 'SOURCE' 0 'atomwrite f g' 'cmp /tmp/large g && cmp /tmp/large "$server/g"'
    check replaces 'large COMMAND' 0 'atomwrite f -- cat /tmp/large' 'cmp /tmp/large f'
    truncate -s 200000 sparse
    echo end >>sparse
    check replaces 'sparse SOURCE' 0 'atomwrite sparse f' 'cmp sparse f'
    for sync in none file full; do
        check replaces "--sync=$sync" 0 "echo $sync | atomwrite --sync=$sync f" "both f $sync"
    done
    check replaces '-v' 0 'echo four | atomwrite -v f' 'both f four && equal said "$said" "atomwrite: replaced '"'f'"' (5 bytes)"'
    check replaces '-D' 0 'echo d | atomwrite -D p/q/r' 'both p/q/r d'
    check replaces '-p' 0 'touch -d "2001-02-03 04:05:06 UTC" g; atomwrite -p g f' \
        'soon old_time f'
    check replaces '-p, SOURCE of another filesystem' 0 'touch -d "2001-02-03 04:05:06 UTC" /tmp/large; atomwrite -p /tmp/large f' \
        'soon old_time f'
    check replaces 'a name of 255 bytes' 0 "echo l | atomwrite $(printf 'L%.0s' $(seq 255))" "both $(printf 'L%.0s' $(seq 255)) l"
    check replaces 'a name that is not ASCII' 0 'echo l | atomwrite "ä→ß 😀"' 'both "ä→ß 😀" l'
    check replaces '--allow-empty' 0 'atomwrite --allow-empty f </dev/null' 'both f ""'
    check replaces 'as the other client sees it' 0 'echo five | atomwrite f' 'soon is "$other/f" five'
}

# The time that the sources of -p have. A client may show another one for a moment, the server must not.
old_time() { # FILE
    time=$(date -d "2001-02-03 04:05:06 UTC" +%s)
    equal "times of $1" "$(stat -c %Y "$1") $(stat -c %Y "$server/$1")" "$time $time"
}

fails() {
    fresh
    echo old >f
    check fails 'COMMAND fails' 7 'atomwrite f -- sh -c "echo half; exit 7"' 'both f old'
    check fails 'empty stdin' 3 'atomwrite f </dev/null' 'both f old'
    check fails '--no-empty' 125 'atomwrite --no-empty f -- true' 'both f old'
    check fails '--min-size' 3 'echo x | atomwrite --min-size 10 f' 'both f old'
    check fails '--sha256' 3 "echo x | atomwrite --sha256 $(echo y | sha256sum | cut -c1-64) f" 'both f old'
    check fails '--sha256 that is right' 0 "echo y | atomwrite --sha256 $(echo y | sha256sum | cut -c1-64) f" 'both f y'
    check fails 'SOURCE is missing' 1 'atomwrite nosuch f' 'both f y'
    check fails 'the write fails' 1 'echo x | struck write error=EIO f' 'both f y'
    check fails 'the flush fails' 1 'echo x | struck fsync error=EIO f' 'both f y'
    check fails 'the rename fails' 1 'echo x | struck renameat,renameat2 error=EIO f' 'both f y'
    check fails 'the rename fails, -b' 1 'echo x | struck renameat,renameat2 error=EIO -b f' 'both f y'
    for signal in INT TERM HUP; do
        case $signal in INT) status=130 ;; TERM) status=143 ;; HUP) status=129 ;; esac
        check fails "SIG$signal" "$status" "echo x | struck fsync signal=$signal f" 'both f y'
    done
}

# DEST is whole after SIGKILL, at most one hidden file is left, and the next write succeeds.
killed() {
    for at in write fsync renameat linkat; do
        fresh
        echo old >f
        said=$(echo new | struck "$at" signal=KILL --sync=full f 2>&1)
        status=$?
        text=$(cat "$server/f" 2>&1)
        temporary
        left_here=${names% }
        case $at,$status,$text in
            linkat,0,new | *,137,old) verdict=kept ;;
            *) verdict=broken ;;
        esac
        # One name at most.
        case $left_here in *' '*) verdict=broken ;; esac
        cell killed "$verdict" "SIGKILL at $at" "$(if [ "$verdict" = broken ]; then echo "status $status; DEST is '$text'; $said $left_here"; fi)"
        # What the manual says of the name: the next write removes it, or it stays.
        if said=$(echo next | atomwrite f 2>&1) && is "$server/f" next >/dev/null; then
            cell killed kept "the next write after SIGKILL at $at" ''
        else
            cell killed broken "the next write after SIGKILL at $at" "$said"
        fi
        temporary
        if [ "$locks" = go ] && [ -n "$names" ]; then
            case $unnamed in yes) left_by='left by' ;; no) left_by='left without O_TMPFILE by' ;; esac
            cell killed broken "$left_by SIGKILL at $at" "$names"
        fi
        rm -rf .atomwrite.*.tmp
    done
    # Many writers, some of which are killed.
    fresh
    for i in a b c d; do
        head -c 20000 /dev/zero | tr '\0' $i >/tmp/$i
    done
    atomwrite /tmp/a f
    for _ in 1 2 3 4 5 6; do
        for i in b c d; do
            atomwrite --sync=none /tmp/$i f &
        done
        # In the middle of whatever it does.
        kill -9 $! 2>/dev/null
        wait
    done
    # Where the new file has a name from the start, a kill leaves that.
    at_work=yes
    check killed 'SIGKILL among other writers' 0 ':' 'whole "$server/f" && soon whole f && soon whole "$other/f"'
    at_work=
    rm -rf .atomwrite.*.tmp
} 2>/dev/null

# A file of 20,000 equal letters.
whole() { # FILE
    size=$(stat -c %s "$1") || return 1
    letter=$(head -c 1 "$1")
    others=$(tr -d "$letter" <"$1" | wc -c)
    equal "size and other letters of $1" "$size $others" '20000 0'
}

# A reader writes down what is neither old nor new.
reader() { # FILE LOG
    while [ ! -e /tmp/stop ]; do
        if ! text=$(cat "$1" 2>&1); then
            echo "$text"
        elif [ "$text" != "$(cat "/tmp/$(printf '%.1s' "$text")" 2>&1)" ]; then
            echo "${#text} bytes, beginning with '$(printf '%.60s' "$text")'"
        fi
    done >"$2"
    touch "$2.done"
}

readers() {
    fresh
    for i in a b c d; do
        head -c 20000 /dev/zero | tr '\0' $i >/tmp/$i
    done
    atomwrite /tmp/a f
    soon whole "$other/f"
    read_at 'elsewhere' "server:$server" "other:$other"
    read_at 'here, too' "here:." "server:$server" "other:$other"
}

# Readers at these places, while DEST is replaced.
read_at() { # WHERE NAME:DIRECTORY...
    where=$1
    shift
    rm -f /tmp/stop /tmp/reader.*
    for place in "$@"; do
        reader "${place#*:}/f" "/tmp/reader.${place%%:*}" &
    done
    for _ in 1 2 3; do
        for i in b c d a; do
            atomwrite --sync=file /tmp/$i f
        done
    done 2>/tmp/writer
    touch /tmp/stop
    wait
    check readers "every write succeeds with readers $where" 0 'cat /tmp/writer' 'equal messages "$said" ""'
    refused='No such file\|Permission denied\|Invalid argument'
    for place in "$@"; do
        place=${place%%:*}
        check readers "whole for readers $where: $place" 0 ':' "read_well $place -v '$refused\|Stale file handle'"
        check readers "can be opened by readers $where: $place" 0 ':' "read_well $place '$refused'"
        check readers "no ESTALE for readers $where: $place" 0 ':' "read_well $place 'Stale file handle'"
    done
}

# That a reader has written down nothing that grep finds.
read_well() { # PLACE GREP'S ARGUMENTS...
    place=$1
    shift
    if [ ! -e "/tmp/reader.$place.done" ]; then
        echo 'the reader has died'
        return 1
    fi
    if grep "$@" "/tmp/reader.$place" >/tmp/strange; then
        sort /tmp/strange | uniq -c | head -3
        return 1
    fi
}

eight() { # WHAT THEY DO, COMMAND
    check writers "eight $1" 0 "together '$2'" '[ ! -e "$server/n" ] || whole "$server/n"'
    check writers "all of eight $1" 0 ':' 'ended "8 0" && whole "$server/n" && soon whole n && soon whole "$other/n"'
}

writers() {
    fresh
    for i in a b c d e f g h; do
        head -c 20000 /dev/zero | tr '\0' $i >/tmp/$i
    done
    eight 'write a new DEST' 'atomwrite /tmp/$i n'
    eight 'replace it' 'atomwrite /tmp/$i n'
    eight 'write it with -t' 'mkdir -p /tmp/$i.d; cp /tmp/$i /tmp/$i.d/n; atomwrite -t . /tmp/$i.d/n'
    fresh
    check writers 'of eight with -n one creates it' 0 'together "atomwrite -n /tmp/\$i n"' \
        'equal creators "$(cat /tmp/status.* | grep -cx 0)" 1 && whole "$server/n"'
    check writers 'all of eight with -n' 0 ':' 'ended "1 0 7 3"'
    echo old >f
    soon is "$other/f" old
    for options in '' -b -C --keep=all --lock; do
        cat f >/dev/null
        (cd "$other" && echo another | atomwrite f)
        check writers "replaced by the other client before: atomwrite $options" 0 "atomwrite $options f -- echo new" 'is "$server/f" new'
        cat f >/dev/null
        (cd "$other" && rm f)
        check writers "removed by the other client before: atomwrite $options" 0 "atomwrite $options f -- echo new" 'is "$server/f" new'
    done
    cat f >/dev/null
    (cd "$other" && echo another | atomwrite f)
    check writers 'replaced by the other client before: atomwrite -a' 0 'atomwrite -a f -- echo new' 'is "$server/f" "another
new"'
    cat f >/dev/null
    (cd "$other" && rm f)
    check writers 'removed by the other client before: atomwrite -a' 0 'atomwrite -a f -- echo new' 'is "$server/f" new'
}

lock() {
    fresh
    check lock '--lock, new' 0 'atomwrite --lock n -- echo 0' 'both n 0'
    check lock '--lock, COMMAND reads DEST' 0 'atomwrite --lock n -- sh -c "echo \$((\$(cat n) + 1))"' 'both n 1'
    check lock '-a' 0 'echo more | atomwrite -a n' 'both n "1
more"'
    check lock '-a, COMMAND' 0 'atomwrite -a n -- echo most' 'both n "1
more
most"'
    atomwrite n -- echo 0
    check lock 'eight count on two clients' 0 'together "atomwrite --lock n -- sh -c \"echo \\\$((\\\$(cat n) + 1))\""' 'ended "8 0" && is "$server/n" 8'
    check lock 'eight append on two clients' 0 'together "echo line \$i | atomwrite -a a"' \
        'ended "8 0" && equal lines "$(sort "$server/a" | uniq | wc -l) $(wc -l <"$server/a")" "8 8"'
    case $filesystem in
        NFS*)
            atomwrite n -- echo 0
            check lock 'clients and the server count' 0 'count_everywhere' 'is "$server/n" 32'
            ;;
    esac
    # Those that count may have lost one.
    atomwrite n -- echo 8
    mkfifo /tmp/hold
    atomwrite --lock n -- sh -c 'echo held >/tmp/held; cat /tmp/hold' &
    while [ ! -e /tmp/held ]; do sleep 0.1; done
    at_work=yes
    check lock '--lock=0 while another holds it' 125 'atomwrite --lock=0 n -- echo stolen' 'both n 8'
    check lock '--lock=0 while the other client is locked out' 125 'cd "$other" && atomwrite --lock=0 n -- echo stolen' 'both n 8'
    echo released >/tmp/hold
    wait
    rm -f /tmp/hold /tmp/held
    at_work=
    check lock 'the holder commits' 0 ':' 'both n released'
    if [ "$locks" = go ]; then
        check lock 'no lock file stays' 0 ':' 'equal names "$(ls -A | grep -c lock)" 0'
    fi
}

# Two processes of the server and one of each client, with eight steps each.
count_everywhere() {
    for place in . "$other" "$server" "$server"; do
        (
            cd "$place" || exit
            for _ in 1 2 3 4 5 6 7 8; do
                # shellcheck disable=SC2016 # The inner shell expands it, under the lock.
                timeout -s KILL 120 atomwrite --lock n -- sh -c 'echo $(($(cat n) + 1))'
            done
        ) &
    done
    wait
}

backup() {
    fresh
    echo 1 >f
    for i in 2 3 4; do
        check backup "-b, round $i" 0 "echo $i | atomwrite -b f" "both f $i && both f~ $((i - 1))"
    done
    for i in 5 6 7; do
        check backup "--backup=numbered, round $i" 0 "echo $i | atomwrite --backup=numbered f" "both f $i && both f.~$((i - 4))~ $((i - 1))"
    done
    rm -f f.~*
    check backup '-S' 0 'echo 8 | atomwrite -S .orig f' 'both f 8 && both f.orig 7'
    check backup '-S, over an older one' 0 'echo 9 | atomwrite -S .orig f' 'both f 9 && both f.orig 8'
    check backup '-b, new' 0 'echo 1 | atomwrite -b --backup=simple new' 'both new 1 && absent new~'
    check backup '-b is refused' 3 'atomwrite -b --backup=simple f </dev/null' 'both f 9 && both f~ 3'
    check backup 'stdin is the backup' 1 'atomwrite --backup=simple f <f~' 'both f 9 && both f~ 3'
}

compare() {
    fresh
    echo same | atomwrite f
    file=$(stat -c '%i %y' "$server/f")
    check compare '-C, equal' 10 'echo same | atomwrite --unchanged-status 10 f' 'both f same && equal file "$(stat -c "%i %y" "$server/f")" "$file"'
    check compare '-C, different' 0 'echo other | atomwrite -C f' 'both f other'
    check compare '-C, longer' 0 'printf "other\nmore\n" | atomwrite -C f' 'both f "other
more"'
    check compare '-C, COMMAND' 10 'atomwrite --unchanged-status 10 f -- printf "other\nmore\n"' 'both f "other
more"'
    check compare '-C, new' 0 'echo n | atomwrite -C n' 'both n n'
}

no_clobber() {
    fresh
    echo old >f
    check no_clobber '-n, exists' 3 'echo new | atomwrite -n f' 'both f old'
    check no_clobber '-n, new' 0 'echo new | atomwrite -n n' 'both n new'
    check no_clobber '-n, COMMAND, exists' 125 'atomwrite -n f -- echo new' 'both f old'
    check no_clobber '-n -m' 0 'echo new | atomwrite -n -m 755 m' 'both m new && mode m 755'
    mkfifo /tmp/input
    atomwrite -n late -- sh -c 'echo begun >/tmp/begun; cat /tmp/input' 2>/tmp/late.said &
    run=$!
    while [ ! -e /tmp/begun ]; do sleep 0.1; done
    echo mine >late
    echo theirs >/tmp/input
    wait $run
    status=$?
    rm -f /tmp/input /tmp/begun
    check no_clobber 'DEST appears while COMMAND runs' 0 'cat /tmp/late.said' "equal status $status 125 && both late mine"
}

many() {
    fresh
    check many '-t, new' 0 'atomwrite -t . /tmp/sources/t1 /tmp/sources/t2 /tmp/sources/t3' 'both t1 "new 1" && both t2 "new 2" && both t3 "new 3"'
    for i in 1 2 3; do echo "old $i" >t$i; done
    check many '-t -n' 3 'atomwrite -n -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "old 1" && both t2 "old 2"'
    check many '-t, a SOURCE is missing' 1 'atomwrite -t . /tmp/sources/t1 nosuch' 'both t1 "old 1"'
    check many '-t -b' 0 'atomwrite -b -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "new 1" && both t1~ "old 1" && both t2 "new 2" && both t2~ "old 2"'
    check many '-t -b, again' 0 'atomwrite -b -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "new 1" && both t1~ "new 1"'
    check many '-t -C' 10 'atomwrite --unchanged-status 10 -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "new 1"'
    check many '-t --files-from' 0 'find /tmp/sources -name "t?" | atomwrite -t . --files-from -' 'both t3 "new 3"'
    check many '-t --sync=none' 0 'atomwrite --sync=none -t . /tmp/sources/t1' 'both t1 "new 1"'
    check many '-t --validate' 0 'atomwrite --validate "grep -q new \"\$1\"" -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "new 1"'
    echo 'old 1' >t1
    check many '-t --validate refuses one' 3 'atomwrite --validate "grep -q \"new 1\" \"\$1\"" -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "old 1"'
    check many '-t --validate-all refuses' 3 'atomwrite --validate-all "! grep -q new \"\$1/t1\"" -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "old 1"'
    check many '-t, a flush fails' 1 'struck fsync,syncfs error=EIO -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "old 1"'
    check many '-t --validate-all' 0 'atomwrite --validate-all "grep -q new \"\$1/t1\" && grep -q new \"\$1/t2\"" -t . /tmp/sources/t1 /tmp/sources/t2' 'both t1 "new 1"'
    check many '-t -p' 0 'touch -d "2001-02-03 04:05:06 UTC" /tmp/sources/t1; atomwrite -p -t . /tmp/sources/t1' \
        'soon old_time t1'
}

looks() {
    fresh
    for wanted in 600 640 755; do
        fresh
        echo old >f
        check looks "-m $wanted" 0 "echo new | atomwrite -m $wanted f" "both f new && mode f $wanted"
        check looks "-m $wanted, new" 0 "echo new | atomwrite -m $wanted n" "both n new && mode n $wanted"
    done
    fresh
    echo old >f
    chmod 640 f
    kept=$(stat -c %a f)
    check looks 'the mode is kept' 0 'echo new | atomwrite f' "both f new && mode f $kept"
    check looks 'the mode is kept, -b' 0 'echo newer | atomwrite -b f' "both f newer && mode f $kept"
    chmod 644 f
    check looks '-m u+x,o=' 0 'echo new | atomwrite -m u+x,o= f' 'mode f 740'
    (umask 077 && echo touched >touched && echo x | atomwrite unchanged)
    check looks 'the umask, as with >' 0 ':' 'equal mode "$(stat -c %a unchanged)" "$(stat -c %a touched)"'
    fresh
    echo old >f
    check looks '-o 1000:1000' 0 'echo new | atomwrite -o 1000:1000 f' 'both f new && equal owner "$(stat -c %u:%g "$truth/f")" 1000:1000'
    check looks '-g 1000' 0 'echo new | atomwrite -g 1000 f' 'equal group "$(stat -c %g "$truth/f")" 1000'
    fresh
    echo old >f
    if chown 1000:1000 f 2>/dev/null && [ "$(stat -c %u:%g f)" = 1000:1000 ]; then
        check looks 'the owner is kept' 0 'echo new | atomwrite f' 'both f new && equal owner "$(stat -c %u:%g "$truth/f")" 1000:1000'
    fi
    fresh
    echo old >f
    if setfattr -n user.key -v value f 2>/dev/null; then
        check looks 'an attribute is kept' 0 'echo new | atomwrite f' 'equal user.key "$(getfattr --only-values -n user.key f 2>&1)" value'
    fi
    fresh
    echo old >f
    if setfacl -m u:1000:r f 2>/dev/null; then
        acl=$(getfacl -cE f 2>/dev/null)
        check looks 'the ACL is kept' 0 'echo new | atomwrite --keep=all f' 'equal ACL "$(getfacl -cE f 2>/dev/null)" "$acl"'
    fi
    check looks '--keep=all' 0 'echo newer | atomwrite --keep=all f' 'both f newer'
    check looks '--keep=none' 0 'echo newest | atomwrite --keep=none f' 'both f newest'
}

validated() {
    fresh
    echo old >f
    echo beside >sibling
    check validated '--validate' 0 'echo new | atomwrite --validate "grep -q new \"\$1\"" f' 'both f new'
    check validated '--validate, stdin' 0 'echo newer | atomwrite --validate "grep -q newer" f' 'both f newer'
    check validated '--validate refuses' 3 'echo no | atomwrite --validate "grep -q new \"\$1\"" f' 'both f newer'
    check validated 'what the validator writes is thrown away' 0 'echo newest | atomwrite --validate "echo evil >\"\$1\"" f' 'both f newest'
    check validated 'a file beside DEST is seen' 0 'echo seen | atomwrite --validate "grep -q beside \"\${1%/*}/sibling\"" f' 'both f seen' 'left out'
    check validated '--validate, new' 0 'echo n | atomwrite --validate "test -s \"\$1\"" n' 'both n n'
}

inplace() {
    fresh
    echo old >f
    inode=$(stat -c %i f)
    check inplace '--inplace=always' 0 'echo new | atomwrite --inplace=always f' 'both f new && equal inode "$(stat -c %i f)" "$inode"'
    check inplace '--inplace=always, longer, then shorter' 0 'atomwrite --inplace=always /tmp/large f && echo short | atomwrite --inplace=always f' 'both f short'
    check inplace '--inplace=always -b' 0 'echo b | atomwrite --inplace=always -b f' 'both f b && both f~ short'
    check inplace '--inplace=always -a' 0 'echo c | atomwrite --inplace=always -a f' 'both f "b
c"'
    check inplace '--inplace=always is refused' 3 'atomwrite --inplace=always f </dev/null' 'both f "b
c"'
    check inplace '--inplace=always --validate refuses' 3 'echo x | atomwrite --inplace=always --validate false f' 'both f "b
c"'
    check inplace '--inplace, new' 0 'echo n | atomwrite --inplace n' 'both n n'
    echo source >source
    echo target >target
    if mount --bind source target 2>/dev/null; then
        check inplace 'a mount point, without --inplace' 1 'echo x | atomwrite target' 'is target source'
        check inplace 'a mount point' 0 'echo x | atomwrite --inplace target' 'is target x && is source x'
        umount target
    fi
}

links() {
    fresh
    echo old >f
    if ln -s f l 2>/dev/null; then
        check links 'a symbolic link is followed' 0 'echo new | atomwrite l' 'both f new && [ -L l ]'
        ln -s missing dangling
        check links 'a dangling one, too' 0 'echo made | atomwrite dangling' 'both missing made && [ -L dangling ]'
        check links '--no-dereference' 0 'echo own | atomwrite --no-dereference l' 'both l own && both f new && [ ! -L l ]'
        check links '-b through a link' 0 'echo newer | atomwrite -b dangling' 'both missing newer && both missing~ made'
    else
        cell links cannot 'symbolic links' 'the filesystem has none'
    fi
    fresh
    echo old >f
    if ln f hard 2>/dev/null; then
        check links 'a hard link keeps the old file' 0 'echo split | atomwrite f' 'both f split && is hard old'
    else
        cell links cannot 'hard links' 'the filesystem has none'
    fi
}

opened() {
    fresh
    echo one >f
    # A shell that does not become the program may have DEST open, too: dash opens it itself.
    check opened 'stdin is DEST' 0 '(exec atomwrite f <f)' 'both f one'
    check opened 'stdin is DEST, -b' 0 '(exec atomwrite -b f <f)' 'both f one && both f~ one'
    check opened 'stdin is DEST, -a' 0 '(exec atomwrite -a f <f)' 'both f "one
one"'
    check opened 'SOURCE is DEST' 0 'atomwrite f f' 'both f "one
one"'
    check opened 'COMMAND reads DEST from stdin' 0 '(exec atomwrite f -- tr a-z A-Z <f)' 'both f "ONE
ONE"'
    check opened 'a pipe reads DEST' 0 'tr A-Z a-z <f | atomwrite f' 'both f "one
one"'
    fresh
    echo one >f
    check opened 'the caller holds DEST: sh' 0 'atomwrite f <f' 'both f one'
    fresh
    echo one >f
    check opened 'the caller holds DEST' 0 'exec 7<f; echo two | atomwrite f' 'both f two'
    fresh
    echo one >f
    holds f
    check opened 'another process holds DEST' 0 'echo two | atomwrite f' 'lets_go && both f two'
    lets_go
    fresh
    echo one >f
    holds f
    check opened 'another process holds DEST, -b' 0 'echo two | atomwrite -b f' 'lets_go && both f two && both f~ one'
    lets_go
    fresh
    echo one >f
    soon is "$other/f" one
    holds "$other/f"
    check opened 'the other client holds DEST' 0 'echo two | atomwrite f' 'lets_go && both f two'
    lets_go
}

# A process that keeps a file open until it gets a signal.
holds() { # FILE
    rm -f /tmp/release /tmp/holding /tmp/released
    mkfifo /tmp/release
    {
        { echo holding >/tmp/holding && cat /tmp/release >/dev/null; } <"$1"
        echo released >/tmp/released
    } &
    while [ ! -e /tmp/holding ]; do sleep 0.1; done
}

lets_go() {
    if [ -p /tmp/release ]; then
        echo go >/tmp/release
        while [ ! -e /tmp/released ]; do sleep 0.1; done
        rm -f /tmp/release
    fi
}

# For a filesystem that is small, or a user who may not have more: DEST stays, and nothing is left.
full() { # DIRECTORY ON THE DISK, [COMMAND PREFIX]
    fresh
    yes old | head -c 20000 >f
    yes new | head -c 3000000 >/tmp/three
    echo small >/tmp/small
    cp f /tmp/old
    sync
    dd if=/dev/zero of="$1/fill" bs=64k 2>/dev/null
    sync
    dd if=/dev/zero of="$1/fill2" bs=4k 2>/dev/null
    sync
    no_space 'stdin' 1 'atomwrite f </tmp/three'
    no_space 'SOURCE' 1 'atomwrite /tmp/three f'
    no_space '--sync=none' 1 'atomwrite --sync=none /tmp/three f'
    no_space 'COMMAND' 125 'atomwrite f -- cat /tmp/three'
    no_space '-a' 1 'atomwrite -a f </tmp/three'
    no_space '-b' 1 'atomwrite -b f </tmp/three'
    no_space '-t' 1 'atomwrite -t . /tmp/small /tmp/three'
    no_space '--inplace' 1 'atomwrite --inplace f </tmp/three'
    check full 'no space: new' 1 'atomwrite new </tmp/three' 'absent new && absent "$server/new"'
    rm -f "$1/fill" "$1/fill2"
    sync
    check full 'space again' 0 'echo ok | atomwrite f' 'both f ok'
}

no_space() { # CHECK STATUS COMMAND
    check full "no space: $1" "$2" "$3" 'cmp f /tmp/old && cmp "$server/f" /tmp/old && absent small'
}

# All of them but a full disk, which takes a small one; or those that the kernel's command line has named.
promises() {
    for promise in ${only:-replaces fails killed readers writers lock backup compare no_clobber many looks validated inplace \
        links opened}; do
        $promise
    done
    finish
}

# Whether anything was left by any check.
finish() {
    if [ "$left" -eq 0 ]; then
        cell left kept 'after every check' ''
    fi
    printf 'DONE\t%s\n' "$filesystem"
}
