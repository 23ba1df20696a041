#!/bin/sh
# Makes a root of the Debian that this machine has, from the mirrors that its apt uses: takes a directory and
# mmdebstrap's options. With LABEL=Debian in the environment, without the security updates.
set -eu
umask 022

root=$1
shift

# shellcheck disable=SC2016 # apt-get expands it
sources=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' ${LABEL:+"Label: $LABEL"} | sort -u)
if [ -z "$sources" ]; then
    echo 'packaging/debian-root.sh: apt knows no Debian mirror here (has "apt-get update" been run?)' >&2
    exit 1
fi
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
printf '%s\n' "$sources" | mmdebstrap "$@" "$suite" "$root" -
