#!/bin/bash
# The Debian packages are in order for lintian, and hold what install.sh installs; the one for x86_64 is installed in a
# new Debian root, used and purged, and leaves no trace.
set -eu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
package=$(realpath "$target")/atomwrite_$version-1_amd64.deb

for deb in "$package" "$target/atomwrite_$version-1_arm64.deb" "$target/atomwrite_$version-1_armhf.deb"; do
    echo "packaging: lintian of $deb"
    lintian --allow-root --fail-on error,warning "$deb"
done

echo 'packaging: comparing the packages with what install.sh installs'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# PACKAGE, PROGRAM: all but what is Debian's own is the same, with the same modes.
holds_what_is_installed() {
    local installed=$scratch/installed unpacked=$scratch/unpacked
    rm -rf "$installed" "$unpacked"
    DESTDIR=$installed PREFIX=/usr BINARY=$2 packaging/install.sh
    mv "$installed/usr/share/zsh/site-functions" "$installed/usr/share/zsh/vendor-completions"
    dpkg-deb -x "$1" "$unpacked"
    rm -r "$unpacked/usr/share/doc" "$unpacked/usr/share/lintian"
    gunzip "$unpacked/usr/share/man/man1/atomwrite.1.gz"
    diff -r "$installed" "$unpacked"
    diff <(modes "$installed") <(modes "$unpacked")
}
modes() {
    (cd "$1" && find . -mindepth 1 -printf '%m %P\n' | sort -k 2)
}
holds_what_is_installed "$package" "$target/atomwrite"
holds_what_is_installed "$target/atomwrite_$version-1_arm64.deb" "$target/aarch64/atomwrite"
holds_what_is_installed "$target/atomwrite_$version-1_armhf.deb" "$target/armv7/atomwrite"

# DIRECTORY, DIRECTORIES: a shell looks for completions where the package has them.
looks_in() {
    if ! grep -qx "$1" <<<"$2"; then
        echo "there is no $1 among the places where the shell looks for completions: $2" >&2
        exit 1
    fi
}
# shellcheck disable=SC2016 # the shells expand it
{
    looks_in /usr/share/zsh/vendor-completions "$(zsh -fc 'print -l $fpath')"
    looks_in /usr/share/fish/vendor_completions.d "$(HOME=/nonexistent fish -c 'string join \n $fish_complete_path')"
}

echo 'packaging: installing it in a new Debian root, and purging it'
in_root=$(realpath packaging/check/in-root.sh)
export package in_root
# shellcheck disable=SC2016 # the hook's shell expands it, where $1 is the root
packaging/debian-root.sh /dev/null --quiet --mode=root --variant=minbase --include=man-db,bash-completion \
    --dpkgopt=force-unsafe-io --customize-hook='"$in_root" "$1" "$package"'
