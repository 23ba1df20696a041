#!/bin/sh
# Names every program that is missing, before the minutes that a build takes: packaging/needs.sh PROGRAM:PACKAGE...
#
# Where there is a .git, git is one of them: the commit says when and by whom a package was made.
set -eu
cd "$(dirname "$0")/.."

if [ -e .git ]; then
    set -- "$@" git:git
fi
missing=
packages=
for pair; do
    if ! command -v "${pair%:*}" >/dev/null; then
        missing="$missing ${pair%:*}"
        packages="$packages ${pair#*:}"
    fi
done
if [ -n "$missing" ]; then
    echo "packaging/needs.sh: missing:$missing; install these Debian packages first:$packages" >&2
    exit 1
fi
