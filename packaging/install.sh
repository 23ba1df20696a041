#!/bin/sh
# Installs the program, its manual and its completions under PREFIX, or removes them again.
#
#   ./install.sh                below /usr/local
#   PREFIX=~/.local ./install.sh
#   ./install.sh --uninstall    with the same PREFIX; leaves the directories, which are not only ours
#
# DESTDIR stands in front of all places, for those who make packages. BINARY is the program, if it is not beside this
# script; FISH_COMPLETIONS a directory for that shell's, if it does not look below PREFIX.
set -eu

prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR-}
fish_completions=${FISH_COMPLETIONS:-$prefix/share/fish/vendor_completions.d}

here=$(cd "$(dirname "$0")" && pwd)
# In the source tree the manual and the completions are one level up.
tree=$here
[ -d "$here/man" ] || tree=$here/..
binary=${BINARY:-$here/atomwrite}

die() {
    echo "install.sh: $1" >&2
    exit 1
}

# NAME, VALUE: a relative path would depend on the directory in which make runs.
absolute() {
    case $2 in
        /*) ;;
        '~'*) die "$1 must be an absolute path: your shell has not expanded '$2'; use \"\$HOME\" instead of ~" ;;
        *) die "$1 must be an absolute path, not '$2'" ;;
    esac
}

# MODE, FILE, PLACE, as for the two functions below: nothing is changed unless everything can be.
check() {
    if [ "$action" = uninstall ] && [ ! -e "$3" ] && [ ! -L "$3" ]; then
        return
    fi
    directory=${3%/*}
    until [ -e "$directory" ]; do
        directory=${directory%/*}
        directory=${directory:-/}
    done
    [ -w "$directory" ] || die "cannot $action '$3': '$directory' is not writable; $way_out"
}

install_file() {
    install -D -m "$1" "$2" "$3"
}

uninstall_file() {
    rm -f "$3"
}

# FUNCTION: is called for each file.
each() {
    "$1" 755 "$binary" "$destdir$prefix/bin/atomwrite"
    "$1" 644 "$tree/man/atomwrite.1" "$destdir$prefix/share/man/man1/atomwrite.1"
    "$1" 644 "$tree/completions/atomwrite.bash" "$destdir$prefix/share/bash-completion/completions/atomwrite"
    "$1" 644 "$tree/completions/_atomwrite" "$destdir$prefix/share/zsh/site-functions/_atomwrite"
    "$1" 644 "$tree/completions/atomwrite.fish" "$destdir$fish_completions/atomwrite.fish"
}

case "$*" in
    '')
        action=install
        way_out='use sudo, or a PREFIX of your own'
        ;;
    --uninstall)
        action=uninstall
        way_out='use sudo, or the PREFIX that it was installed with'
        ;;
    *)
        echo 'usage: install.sh [--uninstall]' >&2
        exit 2
        ;;
esac
absolute PREFIX "$prefix"
[ -z "$destdir" ] || absolute DESTDIR "$destdir"
absolute FISH_COMPLETIONS "$fish_completions"
if [ "$action" = install ] && [ ! -x "$binary" ]; then
    die "there is no program '$binary'"
fi
each check
each "${action}_file"
