#!/bin/bash
# The tarball for x86_64 is unpacked and installed under a prefix; the program writes, and is taken away again.
set -eu -o pipefail
trap 'echo "$0: line $LINENO: not so" >&2' ERR
cd "$(dirname "$0")/../.."

target=$(realpath "${CARGO_TARGET_DIR:-target}")
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

echo 'packaging: installing the tarball, and taking it away again'
tar -xzf "$target/atomwrite-$version-x86_64-unknown-linux-gnu.tar.gz"
# Not only as root, nor only where names are simple.
prefix="$scratch/a prefix"
install="$scratch/atomwrite-$version-x86_64-unknown-linux-gnu/install.sh"
(umask 077 && PREFIX=$prefix "$install")
test "$(find "$prefix" -type f | wc -l)" -eq 5
test -z "$(find "$prefix" ! -perm -a+r)"
echo new | "$prefix/bin/atomwrite" file
test "$(cat file)" = new
cmp "$scratch/atomwrite-$version-x86_64-unknown-linux-gnu/man/atomwrite.1" "$prefix/share/man/man1/atomwrite.1"
PREFIX=$prefix "$install" --uninstall
test -z "$(find "$prefix" ! -type d)"

DESTDIR=$scratch/destdir PREFIX=/opt "$install"
"$scratch/destdir/opt/bin/atomwrite" -V
DESTDIR=$scratch/destdir PREFIX=/opt "$install" --uninstall
test -z "$(find "$scratch/destdir" ! -type d)"
