#!/bin/bash
# The program in the packages for another machine, aarch64 or armv7, runs under qemu's emulation of that machine, and does
# what it promises: packaging/check/emulated.sh ARCH
#
# qemu makes its system calls here, with this machine's numbers and flags: what is wrong in the program's own shows as a
# call that fails or does something else. COMMAND is one of this machine.
set -eu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
export LC_ALL=C
cd "$(dirname "$0")/../.."

case $1 in
    aarch64)
        qemu=qemu-aarch64-static debian=arm64 triple=aarch64-unknown-linux-gnu
        ;;
    armv7)
        qemu=qemu-arm-static debian=armhf triple=armv7-unknown-linux-gnueabihf
        ;;
    *)
        echo "packaging/check/emulated.sh: aarch64 or armv7, not '$1'" >&2
        exit 2
        ;;
esac
target=$(realpath "${CARGO_TARGET_DIR:-target}")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "packaging: running the program for $1"
dpkg-deb -x "$target/atomwrite_$version-1_$debian.deb" "$scratch/deb"
tar -xzf "$target/atomwrite-$version-$triple.tar.gz" -C "$scratch"
program=$scratch/deb/usr/bin/atomwrite
cmp "$program" "$scratch/atomwrite-$version-$triple/atomwrite"

# STATUS, ARGUMENTS: runs with standard input, and expects that status.
run() {
    local expected=$1 status=0
    shift
    "$qemu" "$program" "$@" 2>"$scratch/stderr" || status=$?
    if [ "$status" -ne "$expected" ]; then
        echo "atomwrite $*: status $status, not $expected" >&2
        cat "$scratch/stderr" >&2
        exit 1
    fi
}

# FILE, CONTENT
holds() {
    if [ "$(cat "$1")" != "$2" ]; then
        echo "$1 holds '$(cat "$1")', not '$2'" >&2
        exit 1
    fi
}

# WORDS: what the last run has said.
said() {
    if ! grep -qF "$1" "$scratch/stderr"; then
        echo "it has not said '$1':" >&2
        cat "$scratch/stderr" >&2
        exit 1
    fi
}

work=$scratch/work
mkdir "$work"
cd "$work"

# New, and over an old file with its mode and attributes.
echo one | run 0 -v new
said "created 'new' (4 bytes)"
holds new one
chmod 640 new
echo two | run 0 -v --keep=all new
said "replaced 'new' (4 bytes)"
holds new two
[ "$(stat -c %a new)" = 640 ]
ln new second
ln -s new link
echo three | run 0 link
holds new three
holds second two
[ -L link ]
echo four | run 0 -m u=rw,go= new
[ "$(stat -c %a new)" = 600 ]

# From a file of many blocks, with a hole, and from a pipe that does not hold all of it.
seq 500000 >large
truncate -s 16M large
seq 500000 >>large
run 0 large copy
cmp large copy
# shellcheck disable=SC2002 # the test needs a pipe
cat large | run 0 copy
cmp large copy

# COMMAND: its success, its failure, its absence.
run 0 new -- sh -c 'echo five; echo six'
holds new $'five\nsix'
run 7 new -- sh -c 'echo half; exit 7'
run 127 new -- ./nosuch
run 143 new -- sh -c 'kill -TERM $$'
run 3 --no-empty new </dev/null
: | run 3 new
holds new $'five\nsix'

# Guards, and what is left alone.
echo x | run 3 -n new
said 'it exists'
echo x | run 3 --sha256 "$(printf '%064d' 0)" new
echo six | run 0 --sha256 "$(echo six | sha256sum | cut -d ' ' -f 1)" new
# shellcheck disable=SC2016
echo x | run 3 --validate 'grep -q six "$1"' new
holds new six
inode=$(stat -c %i new)
echo six | run 10 -C --unchanged-status 10 new
[ "$(stat -c %i new)" = "$inode" ]
echo first | run 0 -n once
echo x | run 2 new /nosuch -- true
echo x | run 1 nosuch/new
run 1 new/ </dev/null

# Appended, kept, made, overwritten.
echo seven | run 0 -a new
holds new $'six\nseven'
run 0 --lock new -- sed s/six/6/ new
holds new $'6\nseven'
echo eight | run 0 -b new
holds new~ $'6\nseven'
echo nine | run 0 --backup=numbered new
holds new.~1~ eight
echo ten | run 0 -D a/b/new
holds a/b/new ten
inode=$(stat -c %i new)
echo eleven | run 0 --inplace=always new
holds new eleven
[ "$(stat -c %i new)" = "$inode" ]

# Many, and none of them.
mkdir sources many
echo 1 >sources/one
echo 2 >sources/two
echo old >many/one
run 1 -t many sources/one sources/nosuch
holds many/one old
run 0 -v -t many sources/one sources/two
said "replaced 'many/one' (2 bytes)"
holds many/one 1
holds many/two 2

# It dies by a signal, and leaves nothing: the last check below sees all names.
mkfifo input
"$qemu" "$program" new <input 2>/dev/null &
exec 3>input
until [ -e "/proc/$!/fd/3" ]; do :; done
kill -TERM $!
status=0
wait $! || status=$?
exec 3>&-
[ "$status" -eq 143 ]
holds new eleven

expected='a a/b a/b/new copy input large link many many/one many/two new new.~1~ new~ once second sources sources/one sources/two'
names=$(find . -mindepth 1 -printf '%P\n' | sort | tr '\n' ' ')
if [ "${names% }" != "$expected" ]; then
    echo "these names are here: $names" >&2
    exit 1
fi
