# What the checks of the RPM and Arch Linux packages have in common: to be read with '.', in the root of the tree.
# shellcheck shell=bash
target=$(realpath "${CARGO_TARGET_DIR:-target}")
# shellcheck disable=SC2034 # for the scripts that read this
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

modes() {
    (cd "$1" && find . -mindepth 1 -printf '%m %P\n' | sort -k 2)
}

# DIRECTORY, ARCH: what a package is unpacked to is what install.sh installs, with the same modes, and documents.
is_what_is_installed() {
    local installed=$scratch/installed binary=$target/atomwrite
    [ "$2" = "$(uname -m)" ] || binary=$target/$2/atomwrite
    rm -rf "$installed"
    DESTDIR=$installed PREFIX=/usr BINARY=$binary packaging/install.sh
    cmp README.md "$1/usr/share/doc/atomwrite/README.md"
    cmp LICENSE-MIT "$1/usr/share/licenses/atomwrite/LICENSE-MIT"
    rm -r "$1/usr/share/doc" "$1/usr/share/licenses"
    gunzip "$1/usr/share/man/man1/atomwrite.1.gz"
    diff -r "$installed" "$1"
    diff <(modes "$installed") <(modes "$1")
}

# ROOT: the program in there runs, without any library, and the manual and the completions are readable.
writes_below() {
    mkdir "$1/tmp"
    echo new | chroot "$1" /usr/bin/atomwrite /tmp/file
    [ "$(cat "$1/tmp/file")" = new ]
    rm -r "$1/tmp"
    gunzip -c "$1/usr/share/man/man1/atomwrite.1.gz" | cmp - man/atomwrite.1
    bash -n "$1/usr/share/bash-completion/completions/atomwrite"
}

# ROOT, EXCEPT: nothing is left but the package manager's own files.
has_no_file() {
    local left
    left=$(cd "$1" && find . -path "$2" -prune -o ! -type d -print)
    if [ -n "$left" ]; then
        echo "these files are left: $left" >&2
        return 1
    fi
}
