# What the scripts beside this one have in common: to be read with '.', in the root of the tree.
#
# $version, and what makes two builds of one commit the same: $SOURCE_DATE_EPOCH, the time of the commit unless it is
# given, and a umask.
# shellcheck shell=sh
umask 022
export LC_ALL=C TZ=UTC

# shellcheck disable=SC2034 # for whoever reads this
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# A directory that goes with the script.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
