#!/bin/sh
# Makes a Debian package of a program that is built: packaging/deb.sh PROGRAM TRIPLE DIRECTORY
#
# cargo-deb does, as Cargo.toml tells it.
set -eu
binary=$(realpath "$1")
triple=$2
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

cargo_deb=$(packaging/cargo-deb.sh "$directory")

# Wherever cargo has built the program, cargo-deb looks for it here.
built=$scratch/$triple/release
install -D -m 755 "$binary" "$built/atomwrite"
# Debian wants a changelog of its own form beside ours.
gzip -9n >"$built/changelog.Debian.gz" <<END
atomwrite ($version-1) unstable; urgency=medium

  * $version, as its developers package it. changelog.gz says what is new.

 -- $maintainer  $(date -R -d "@$SOURCE_DATE_EPOCH")
END

# One thread: what xz writes depends on whether there are more.
export XZ_DEFAULTS='' XZ_OPT=--threads=1
made=$(CARGO_TARGET_DIR=$scratch "$cargo_deb" --locked --no-build --no-strip --target "$triple" \
    --multiarch foreign --maintainer "$maintainer" --output "$scratch/")
# It would not notice that xz has failed, or that the disk is full.
dpkg-deb --contents "$made" >/dev/null
package=$directory/${made##*/}
mv "$made" "$package"
echo "$package"
