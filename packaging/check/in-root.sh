#!/bin/bash
# Installs a package in a Debian root, uses it and purges it: packaging/check/in-root.sh ROOT PACKAGE
set -eu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
root=$1
package=$2

inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# Each name with its kind, mode, owner and target, and each file's digest, but for dpkg's and apt's own journals and
# what man-db keeps of all manuals.
census() {
    (
        cd "$root"
        journals=(-path ./var/log/dpkg.log -o -path './var/log/apt/*' -o -path ./var/lib/dpkg/status-old
            -o -path ./var/lib/apt/extended_states -o -path './var/cache/apt/*.bin' -o -path './var/cache/man/*')
        find . -xdev \( "${journals[@]}" \) -o -printf '%P %y %m %U:%G %l\n' | sort
        find . -xdev -type f ! \( "${journals[@]}" \) -exec sha256sum {} + | sort -k 2
    )
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cp "$package" "$root/atomwrite.deb"
census >"$scratch/before"

inside apt-get install -qq /atomwrite.deb >/dev/null
census >"$scratch/installed"
if cmp -s "$scratch/before" "$scratch/installed"; then
    echo 'the census does not see what was installed' >&2
    exit 1
fi

echo 'old' >"$root/tmp/file"
echo 'new' | inside atomwrite /tmp/file
inside atomwrite /tmp/other -- echo 'by a command'
[ "$(cat "$root/tmp/file" "$root/tmp/other")" = $'new\nby a command' ]
rm "$root/tmp/file" "$root/tmp/other"

# Rendered, and not as source; not by root, for whom man-db would keep a copy of the page. groff may warn of a table that
# meets the end of a page, which a terminal does not have.
inside runuser -u nobody -- man --warnings atomwrite 2>"$scratch/warnings" >"$scratch/manual"
if grep -v 'table text block will not fit on one page' "$scratch/warnings" >&2; then
    echo 'the manual is rendered with warnings' >&2
    exit 1
fi
grep -q '^NAME' "$scratch/manual"
grep -q 'no-clobber' "$scratch/manual"
if grep -q '^\.SH' "$scratch/manual"; then
    echo 'the manual is not rendered' >&2
    exit 1
fi
inside whatis atomwrite | grep -q '^atomwrite (1)'

# As an interactive shell loads it, when the user types the name.
# shellcheck disable=SC2016
inside bash --norc -euc '
    set +u
    . /usr/share/bash-completion/bash_completion
    _completion_loader atomwrite || [ $? -eq 124 ]
    words=$(complete -p atomwrite)
    function=${words#*-F }
    COMP_WORDS=(atomwrite --no-cl) COMP_CWORD=1
    "${function%% *}" atomwrite --no-cl atomwrite
    [ "${COMPREPLY[*]}" = --no-clobber ]
'

inside apt-get purge -qq atomwrite >/dev/null
census >"$scratch/after"
diff "$scratch/before" "$scratch/after"
[ -z "$(find "$root/var/cache/man" -name 'atomwrite*')" ]
