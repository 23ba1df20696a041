#!/bin/sh
# Builds cargo-deb, unless it is in DIRECTORY/tools, and prints its path: packaging/cargo-deb.sh DIRECTORY
set -eu

pinned=3.8.0
mkdir -p "$1"
tools=$(realpath "$1")/tools/cargo-deb-$pinned
if [ ! -x "$tools/bin/cargo-deb" ]; then
    echo "packaging/cargo-deb.sh: building cargo-deb $pinned, once, into $tools; this takes a minute or two" >&2
    # Without its own xz: the machine's does. On PATH, so that cargo does not advise to put it there.
    PATH=$tools/bin:$PATH "${CARGO:-cargo}" install --locked --no-default-features --root "$tools" --version "$pinned" cargo-deb
fi
echo "$tools/bin/cargo-deb"
