#!/bin/bash
# The Arch Linux packages hold what install.sh installs; the one for x86_64 is installed below a root of its own, by
# pacman, used and removed, and leaves no trace.
set -Eeu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
cd "$(dirname "$0")/../.."
. packaging/check/installed.sh

package() {
    echo "$target/atomwrite-$version-1-$1.pkg.tar.zst"
}

echo 'packaging: comparing the Arch Linux packages with what install.sh installs'
for architecture in x86_64 aarch64; do
    unpacked=$scratch/$architecture
    mkdir "$unpacked"
    tar --zstd -xf "$(package "$architecture")" -C "$unpacked"
    rm "$unpacked/.BUILDINFO" "$unpacked/.MTREE" "$unpacked/.PKGINFO"
    is_what_is_installed "$unpacked" "$architecture"
done

echo 'packaging: installing the Arch Linux package below a root of its own, and removing it'
root=$scratch/root
mkdir -p "$root/var/lib/pacman"
in_root() {
    pacman --root "$root" --config /dev/null --noconfirm "$@" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        return 1
    }
}
in_root -U "$(package x86_64)"
in_root -Qkk atomwrite
writes_below "$root"
in_root -R atomwrite
has_no_file "$root" ./var/lib/pacman
