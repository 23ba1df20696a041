#!/bin/sh
# Cargo for aarch64 and armv7 on an x86_64 Debian whose own toolchain cannot build for them. Takes cargo's arguments; puts
# what it builds below cross/build in cargo's target directory.
#
# Debian has the compiler, and Rust's standard library for both. They are unpacked, from the mirrors that apt uses
# here, into a directory of their own, and run there in a chroot: nothing is installed on the machine. What is built has
# the same paths in there whatever machine it is. As root, since it mounts, in a namespace of its own.
set -eu
umask 022
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ] || [ "$(id -u)" -ne 0 ] || ! command -v mmdebstrap >/dev/null; then
    echo 'packaging/cross.sh: this needs root, x86_64 and mmdebstrap, or a target of rustup: packaging/README.md' >&2
    exit 1
fi

cross=${CARGO_TARGET_DIR:-target}/cross
root=$cross/root

# bookworm's rustc is too old, but it has a second one, with which browsers are built.
rust() {
    if apt-cache show rustc-web >/dev/null 2>&1; then
        echo rustc-web,cargo-web,libstd-rust-web-dev:arm64,libstd-rust-web-dev:armhf
    else
        echo rustc,cargo,libstd-rust-dev:arm64,libstd-rust-dev:armhf
    fi
}

if [ ! -d "$root" ]; then
    echo "packaging/cross.sh: unpacking Debian's Rust for other machines into $root" >&2
    rm -rf "$cross/new"
    mkdir -p "$cross"
    # What compiles needs no security updates, and mirrors often have a wrong index of them for armhf.
    LABEL=Debian packaging/debian-root.sh "$cross/new" --quiet --mode=root --variant=extract --architectures=amd64,arm64,armhf \
        --include="$(rust),coreutils,gcc,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross" \
        --include="gcc-arm-linux-gnueabihf,libc6-dev-armhf-cross"
    mkdir -p "$cross/new/source" "$cross/new/build" "$cross/new/crates" "$cross/new/proc"
    # Half a root is none.
    mv "$cross/new" "$root"
fi

# By this machine's cargo, which knows the way to them.
mkdir -p "$cross/build"
cargo vendor --quiet --locked --versioned-dirs "$cross/crates" >/dev/null

# shellcheck disable=SC2016 # the inner shell expands it
exec unshare --mount sh -eu -c '
    cross=$1
    root=$2
    shift 2
    mount --bind . "$root/source"
    mount --bind "$cross/build" "$root/build"
    mount --bind "$cross/crates" "$root/crates"
    mount --rbind /dev "$root/dev"
    mount --rbind /proc "$root/proc"
    exec chroot "$root" env -i -C /source "$@"
' sh "$cross" "$root" PATH=/usr/bin HOME=/tmp LC_ALL=C RUSTFLAGS="${RUSTFLAGS-}" CARGO_TARGET_DIR=/build \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=gcc \
    cargo "$@" --config 'source.crates-io.replace-with="crates"' --config 'source.crates.directory="/crates"'
