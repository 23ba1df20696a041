#!/bin/sh
# What was built is built once more, for ARCH (x86_64), in another directory, without .git, with another home of cargo,
# other times of the files, another umask and another time zone: the Debian package, the RPM package and the
# tarball are the same, byte for byte.
set -eu
cd "$(dirname "$0")/../.."
arch=${1-x86_64}

target=$(realpath "${CARGO_TARGET_DIR:-target}")
cargo_home=${CARGO_HOME:-$HOME/.cargo}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "packaging: building for $arch once more"
other="$scratch/another directory"
mkdir "$other" "$scratch/cargo"
git ls-files -z | tar --null -cT - | tar -xC "$other"
find "$other" -exec touch -d '2001-02-03 04:05:06' {} +
# The same crates and settings, by another path, and the same tools.
ln -s "$cargo_home"/* "$scratch/cargo"
mkdir "$other/target"
ln -s "$target/tools" "$other/target/tools"
if [ -d "$target/cross/root" ]; then
    mkdir "$other/target/cross"
    ln -s "$target/cross/root" "$other/target/cross/root"
fi
(
    umask 077
    # What the commit says, if there is a .git.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    DEBFULLNAME=${DEBFULLNAME:-$(git log -1 --format=%cn)}
    DEBEMAIL=${DEBEMAIL:-$(git log -1 --format=%ce)}
    export SOURCE_DATE_EPOCH DEBFULLNAME DEBEMAIL
    unset CARGO_TARGET_DIR MAKEFLAGS
    CARGO_HOME=$scratch/cargo TZ=Pacific/Kiritimati make -s -C "$other" deb rpm dist ARCH="$arch"
)

made=0
for path in "$other"/target/atomwrite[-_]*; do
    cmp "$path" "$target/${path##*/}"
    made=$((made + 1))
done
test "$made" -eq 3
sha256sum "$other"/target/atomwrite[-_]*
