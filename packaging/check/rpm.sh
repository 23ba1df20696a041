#!/bin/bash
# The RPM packages hold what install.sh installs; the one for x86_64 is installed below a root of its own, by rpm, used
# and removed, and leaves no trace.
set -Eeu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
cd "$(dirname "$0")/../.."
. packaging/check/installed.sh

package() {
    echo "$target/atomwrite-$version-1.$1.rpm"
}

echo 'packaging: comparing the RPM packages with what install.sh installs'
for architecture in x86_64 aarch64; do
    unpacked=$scratch/$architecture
    mkdir "$unpacked"
    rpm2cpio "$(package "$architecture")" | (cd "$unpacked" && cpio --quiet -idm)
    is_what_is_installed "$unpacked" "$architecture"
done

echo 'packaging: installing the RPM package below a root of its own, and removing it'
root=$scratch/root
mkdir "$root"
# Debian's rpm has its database elsewhere, and refuses to install without --force-debian.
in_root() {
    rpm --root "$root" --dbpath /var/lib/rpm --force-debian "$@"
}
in_root --install "$(package x86_64)"
in_root --verify atomwrite
writes_below "$root"
in_root --erase atomwrite
has_no_file "$root" ./var/lib/rpm
