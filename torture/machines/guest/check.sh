# Sourced by the scripts that test a filesystem. Each check prints one line for the harness:
#
#   CELL <tab> filesystem <tab> promise <tab> kept, cannot or broken <tab> check <tab> detail

# What the checks are about: the filesystem's name; the current directory as another client sees it, as it is on the server,
# and where modes and owners are true.
filesystem=
other=
server=
truth=
# Whether lock files stay, as on all but local filesystems.
locks=go
# Whether local files have no name until the commit.
unnamed=yes
# Whether another run is at work, whose temporary file is not left by the one that is checked.
at_work=

# Begins with a filesystem, whose checks are made below the current directory.
begin() { # NAME [THE SAME DIRECTORY ON THE OTHER CLIENT] [ON THE SERVER] [WHERE MODES ARE TRUE]
    filesystem=$1
    here_top=$PWD
    other_top=${2:-$PWD}
    server_top=${3:-$PWD}
    truth_top=${4:-$PWD}
    number=0
    left=0
    printf 'BEGIN\t%s\n' "$filesystem"
}

# Goes into a new directory. It is not an old one that was emptied: on SMB, a name that was just removed is not free yet.
fresh() {
    number=$((number + 1))
    other=$other_top/$number
    server=$server_top/$number
    truth=$truth_top/$number
    mkdir "$here_top/$number" && cd "$here_top/$number" || exit
}

cell() { # PROMISE VERDICT CHECK DETAIL
    detail=$4
    [ -z "$detail" ] || detail=$(printf '%s' "$detail" | tr '\n\t' '| ' | head -c 600)
    printf 'CELL\t%s\t%s\t%s\t%s\t%s\n' "$filesystem" "$1" "$2" "$3" "$detail"
}

# Runs COMMAND, which must exit with STATUS; then CONDITION must hold. A run that says it cannot, and has changed nothing,
# is another thing than one that does the wrong thing; so is one whose message matches EXCUSE.
check() { # PROMISE CHECK STATUS COMMAND [CONDITION] [EXCUSE]
    # Every program that is started costs time here.
    before=
    [ "$3" -ne 0 ] || before=$(cksum ./* 2>/dev/null)
    said=$(eval "$4" 2>&1)
    status=$?
    found=
    if [ "$status" -eq "$3" ] && found=$(eval "${5:-:}" 2>&1); then
        cell "$1" kept "$2" ''
    elif [ -n "${6-}" ] && printf '%s' "$said" | grep -q "$6"; then
        cell "$1" cannot "$2" "$said"
    elif [ "$3" -eq 0 ] && { [ "$status" -eq 1 ] || [ "$status" -eq 125 ]; } &&
        printf '%s' "$said" | grep -q '^atomwrite: cannot ' && [ "$before" = "$(cksum ./* 2>/dev/null)" ]; then
        cell "$1" cannot "$2" "$said"
    else
        cell "$1" broken "$2" "status $status, wanted $3; $found; $said; there is: $(ls -A)"
    fi
    [ -n "$at_work" ] || nothing_is_left "$2"
}

# After each check but the kills: no temporary name. They are removed, so that each is reported once.
nothing_is_left() { # CHECK
    temporary
    if [ -n "$names" ]; then
        cell left broken "after: $1" "$names"
        left=$((left + 1))
        rm -rf .atomwrite.*.tmp
    fi
    # An NFS client removes what it has renamed away a moment after the last process has closed it.
    if [ -n "$(renamed_away)" ] && ! within 10 no_file_is_renamed_away; then
        cell left broken "renamed away after: $1" "$(renamed_away)"
        rm -f "$server"/.nfs*
    fi
}

# The files that an NFS client has renamed away, because it has them open, as the server has them.
renamed_away() {
    for name in "$server"/.nfs*; do
        [ ! -e "$name" ] || printf '%s ' "${name##*/}"
    done
}

no_file_is_renamed_away() {
    [ -z "$(renamed_away)" ]
}

# Sets $names.
temporary() {
    names=
    for name in .atomwrite.*.tmp .fuse_hidden*; do
        if [ -e "$name" ] || [ -L "$name" ]; then
            names="$names$name "
        fi
    done
}

is() { # FILE TEXT
    found_text=$(cat "$1" 2>&1)
    if [ "$found_text" != "$2" ]; then
        echo "'$1' is '$(printf '%s' "$found_text" | head -c 100)', not '$2'"
        return 1
    fi
}

# Here, and on the server.
both() { # FILE TEXT
    is "$1" "$2" && is "$server/$1" "$2"
}

equal() { # WHAT ONE OTHER
    if [ "$2" != "$3" ]; then
        echo "$1: $2, not $3"
        return 1
    fi
}

# The mode that users meet.
mode() { # FILE MODE
    equal "mode of $1" "$(stat -c %a "$1") $(stat -c %a "$truth/$1")" "$2 $2"
}

absent() { # FILE
    if [ -e "$1" ] || [ -L "$1" ]; then
        echo "'$1' is there"
        return 1
    fi
}

# Waits until a command succeeds, for as long as a client may take to notice what another one has done.
soon() { # COMMAND...
    within 90 "$@"
}

within() { # SECONDS COMMAND...
    tries=$1
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            "$@"
            return
        fi
        sleep 1
    done
}

# A user who is not root.
as_ann() {
    setpriv --reuid 1000 --regid 1000 --clear-groups "$@"
}

# Runs atomwrite and sends it a signal at a system call; or lets that call fail.
struck() { # CALLS WHAT ARGUMENTS...
    calls=$1
    what=$2
    shift 2
    strace -qq -o /dev/null -e trace="$calls" -e inject="$calls:$what:when=1" atomwrite "$@"
}

# Runs COMMAND four times here and four times as the other client, at once, with $i from a to h; in /tmp/statuses is how
# often each exit status came. One that hangs is killed.
together() { # COMMAND
    rm -f /tmp/status.* /tmp/said.*
    for i in a b c d e f g h; do
        case $i in [a-d]) place=. ;; *) place=$other ;; esac
        (
            export i
            cd "$place" || exit
            timeout -s KILL 120 sh -c "$1" 2>"/tmp/said.$i"
            echo $? >"/tmp/status.$i"
        ) &
    done
    wait
    sort /tmp/status.* | uniq -c | tr -s ' \n' ' ' >/tmp/statuses
}

# That all runs of `together` have ended so; $1 as uniq -c counts.
ended() {
    if [ "$(cat /tmp/statuses)" != " $1 " ]; then
        echo "count and status: $(cat /tmp/statuses)"
        sort -u /tmp/said.*
        return 1
    fi
}
