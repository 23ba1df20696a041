#!/bin/sh
# Makes a tarball of a program that is built: packaging/dist.sh PROGRAM TRIPLE DIRECTORY
set -eu
binary=$(realpath "$1")
triple=$2
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

name=atomwrite-$version-$triple
root=$scratch/$name
install -D -m 755 "$binary" "$root/atomwrite"
install -m 755 packaging/install.sh "$root/install.sh"
install -m 644 README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT SECURITY.md "$root"
install -D -m 644 -t "$root/docs" docs/guide.md docs/sponge.md
install -D -m 644 -t "$root/man" man/*
install -D -m 644 -t "$root/completions" completions/*

tarball=$directory/$name.tar.gz
tar -C "$scratch" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    -c "$name" | gzip -9n >"$scratch/tarball"
mv "$scratch/tarball" "$tarball"
echo "$tarball"
