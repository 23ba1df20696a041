#!/bin/sh
# Makes an Arch Linux package of a program that is built: packaging/arch.sh PROGRAM TRIPLE DIRECTORY
set -eu
binary=$(realpath "$1")
case $2 in
    armv7-*) architecture=armv7h ;;
    *) architecture=${2%%-*} ;;
esac
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

# makepkg writes beside the PKGBUILD, and refuses to run as root.
chmod 755 "$scratch"
build=$scratch/build
mkdir "$build"
install -m 755 "$binary" "$scratch/atomwrite"
install -D -t "$scratch/tree/packaging" packaging/install.sh
cp -r README.md CHANGELOG.md LICENSE-* docs man completions "$scratch/tree"
install -D -m 644 -t "$scratch/tree/packaging/debian" packaging/debian/copyright
cp packaging/arch/PKGBUILD "$build"
as_user=
if [ "$(id -u)" -eq 0 ]; then
    chown -R 65534:65534 "$build"
    as_user='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
# shellcheck disable=SC2086 # words
if ! (cd "$build" && $as_user env HOME="$build" PACKAGER="$maintainer" CARCH="$architecture" PKGEXT=.pkg.tar.zst \
    version="$version" binary="$scratch/atomwrite" tree="$scratch/tree" makepkg --nodeps) >"$scratch/log" 2>&1; then
    cat "$scratch/log" >&2
    exit 1
fi
package=atomwrite-$version-1-$architecture.pkg.tar.zst
mv "$build/$package" "$directory"
[ "$(id -u)" -ne 0 ] || chown root: "$directory/$package"
echo "$directory/$package"
