#!/usr/bin/env bash
# The tests in three settings that `make test` as root does not show: as an ordinary user, as root in a chroot, where
# the kernel allows neither user namespaces nor mounts, and over the POSIX backend (src/sys/posix.rs). Needs root.
#
#   tests/settings.sh [ARGUMENT]...    what the test runner gets, to run less than all
set -euo pipefail
cd "$(dirname "$0")/.."

user=games
arguments=("$@")
tests/setup.sh

build() {
    programs=$(cargo test --locked --no-run --message-format=json |
        jq -r 'select(.profile.test and .executable) | .executable')
}

scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
mkdir "$scratch/tree" "$scratch/home" "$scratch/root"
chmod 755 "$scratch"
chown "$user" "$scratch/home"

# setting DESCRIPTION BOUND COMMAND...: runs each test program by COMMAND, which may skip so many tests.
setting() {
    local description=$1 bound=$2 program skipped
    shift 2
    printf '\nThe tests %s; at most %d may be skipped:\n' "$description" "$bound"
    for program in $programs; do
        "$@" "$program" "${arguments[@]}" </dev/null 2>&1 | tee -a "$scratch/log"
    done
    skipped=$(grep -c '^SKIPPED ' "$scratch/log" || true)
    rm "$scratch/log"
    if [ "$skipped" -gt "$bound" ]; then
        echo "tests/settings.sh: $skipped were skipped $description, which is more than $bound" >&2
        exit 1
    fi
}

# Shows the tree in a place that the user can reach: a directory above it may be closed, as /root is.
as_user() {
    # shellcheck disable=SC2016
    unshare --mount sh -euc '
        user=$1 scratch=$2 tree=$PWD
        shift 2
        closed=
        above=$tree
        while above=${above%/*} && [ -n "$above" ]; do
            setpriv --reuid "$user" --regid "$user" --clear-groups test -x "$above" || closed=$above
        done
        if [ -n "$closed" ]; then
            mount --bind "$tree" "$scratch/tree"
            mount -t tmpfs -o mode=755 tmpfs "$closed"
            mkdir -p "$tree"
            mount --bind "$scratch/tree" "$tree"
            cd "$tree"
        fi
        exec setpriv --reuid "$user" --regid "$user" --clear-groups \
            env -i HOME="$scratch/home" LANG=C TERM=xterm PATH=/usr/local/bin:/usr/bin:/bin "$@"
    ' sh "$user" "$scratch" "$@"
}

in_chroot() {
    # shellcheck disable=SC2016
    unshare --mount sh -euc '
        root=$1 tree=$PWD
        shift
        mount --rbind / "$root"
        exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin chroot "$root" env -C "$tree" "$@"
    ' sh "$scratch/root" "$@"
}

build
setting 'as an ordinary user' 170 as_user
setting 'without user namespaces and mounts' 78 in_chroot

# Here a test, or the rest of one, is skipped only where it says itself that it is about what only Linux has.
export RUSTFLAGS="${RUSTFLAGS-} --cfg atomwrite_posix" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/posix
build
setting 'over the POSIX backend' 64 env ATOMWRITE_TESTS=all
