#!/bin/sh
# Puts the program, its manual and its completions under PREFIX, or takes them away again.
#
#   ./install.sh                below /usr/local
#   PREFIX=~/.local ./install.sh
#   ./install.sh --uninstall    with the same PREFIX; leaves the directories, which are not only ours
#
# DESTDIR stands in front of all places, for those who make packages. BINARY is the program, if it is not beside this
# script; FISH_COMPLETIONS a directory for that shell's, if it does not look below PREFIX.
set -eu

prefix=${DESTDIR-}${PREFIX:-/usr/local}
fish_completions=${FISH_COMPLETIONS:-${PREFIX:-/usr/local}/share/fish/vendor_completions.d}

here=$(cd "$(dirname "$0")" && pwd)
# In the source tree the manual and the completions are one level up.
tree=$here
[ -d "$here/man" ] || tree=$here/..
binary=${BINARY:-$here/atomwrite}

case "$*" in
    '') action=install ;;
    --uninstall) action=uninstall ;;
    *)
        echo 'usage: install.sh [--uninstall]' >&2
        exit 2
        ;;
esac
if [ "$action" = install ] && [ ! -x "$binary" ]; then
    echo "install.sh: there is no program '$binary'" >&2
    exit 1
fi

# MODE, FILE, PLACE
place() {
    if [ "$action" = install ]; then
        install -D -m "$1" "$2" "$3"
    else
        rm -f "$3"
    fi
}

place 755 "$binary" "$prefix/bin/atomwrite"
place 644 "$tree/man/atomwrite.1" "$prefix/share/man/man1/atomwrite.1"
place 644 "$tree/completions/atomwrite.bash" "$prefix/share/bash-completion/completions/atomwrite"
place 644 "$tree/completions/_atomwrite" "$prefix/share/zsh/site-functions/_atomwrite"
place 644 "$tree/completions/atomwrite.fish" "${DESTDIR-}$fish_completions/atomwrite.fish"
