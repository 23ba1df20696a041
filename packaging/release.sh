# What the scripts beside this one have in common: to be read with '.', in the root of the tree.
#
# $version, and what makes two builds of one commit the same: $SOURCE_DATE_EPOCH, $maintainer and a umask. The first two
# are the commit's, unless the environment has them.
# shellcheck shell=sh
umask 022
export LC_ALL=C TZ=UTC

# shellcheck disable=SC2034 # for the scripts that read this
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
if [ -e .git ]; then
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    name=${DEBFULLNAME:-$(git log -1 --format=%cn)}
    email=${DEBEMAIL:-$(git log -1 --format=%ce)}
else
    # git archive gives every file the time of the commit. Who made that is not known; so it is the user who runs this.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -r Cargo.toml +%s)}
    name=${DEBFULLNAME:-$(id -un)}
    email=${DEBEMAIL:-$(id -un)@$(uname -n)}
fi
export SOURCE_DATE_EPOCH
# shellcheck disable=SC2034 # for deb.sh
maintainer="$name <$email>"

# A directory that goes with the script.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
