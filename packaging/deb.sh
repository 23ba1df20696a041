#!/bin/sh
# Makes a Debian package of a program that is built: packaging/deb.sh PROGRAM ARCHITECTURE DIRECTORY
#
# cargo-deb does, as Cargo.toml tells it. It is built once, into DIRECTORY/tools.
set -eu
binary=$(realpath "$1")
case $2 in
    x86_64 | aarch64) triple=$2-unknown-linux-gnu ;;
    *)
        echo "packaging/deb.sh: which of Debian's architectures is '$2'?" >&2
        exit 1
        ;;
esac
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

pinned=3.8.0
tools=$directory/tools/cargo-deb-$pinned
if [ ! -x "$tools/bin/cargo-deb" ]; then
    echo "packaging/deb.sh: building cargo-deb $pinned" >&2
    # Without its own xz: the machine's does.
    cargo install --quiet --locked --no-default-features --root "$tools" --version "$pinned" cargo-deb
fi

# Nobody has an address that all builds could name: it is whoever committed what is packaged, or who says so in Debian's
# own variables.
maintainer="${DEBFULLNAME:-$(git log -1 --format=%cn)} <${DEBEMAIL:-$(git log -1 --format=%ce)}>"

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
made=$(CARGO_TARGET_DIR=$scratch "$tools/bin/cargo-deb" --locked --no-build --no-strip --target "$triple" \
    --multiarch foreign --maintainer "$maintainer" --output "$scratch/")
# It would not notice that xz has failed, or that the disk is full.
dpkg-deb --contents "$made" >/dev/null
package=$directory/${made##*/}
mv "$made" "$package"
echo "$package"
