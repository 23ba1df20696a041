#!/bin/sh
# Makes a Debian package of a program that is built: packaging/deb.sh PROGRAM ARCHITECTURE DIRECTORY
set -eu
binary=$(realpath "$1")
case $2 in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *)
        echo "packaging/deb.sh: which of Debian's architectures is '$2'?" >&2
        exit 1
        ;;
esac
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

# Nobody has an address that all builds could name: it is whoever committed what is packaged, or who says so in Debian's
# own variables.
maintainer="${DEBFULLNAME:-$(git log -1 --format=%cn)} <${DEBEMAIL:-$(git log -1 --format=%ce)}>"

root=$scratch/root
DESTDIR=$root PREFIX=/usr ZSH_COMPLETIONS=share/zsh/vendor-completions BINARY=$binary packaging/install.sh
gzip -9n "$root/usr/share/man/man1/atomwrite.1"

doc=$root/usr/share/doc/atomwrite
install -D -m 644 packaging/debian/copyright "$doc/copyright"
install -m 644 README.md "$doc/README.md"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
# Debian wants one of its own form beside it.
gzip -9n >"$doc/changelog.Debian.gz" <<END
atomwrite ($version-1) unstable; urgency=medium

  * $version, as its developers package it. changelog.gz says what is new.

 -- $maintainer  $(date -R -d "@$SOURCE_DATE_EPOCH")
END
install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/atomwrite"

# In KiB, each file rounded up, so that it is the same on every filesystem.
size=$(find "$root" -type f -size +0 -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
(cd "$root" && find . -type f -printf '%P\n' | sort | xargs md5sum) >"$scratch/md5sums"
install -D -m 644 "$scratch/md5sums" "$root/DEBIAN/md5sums"
cat - packaging/debian/control >"$root/DEBIAN/control" <<END
Package: atomwrite
Version: $version-1
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $size
END

# One thread: what xz writes depends on whether there are more.
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$root" "$scratch/package.deb" >/dev/null
package=$directory/atomwrite_$version-1_$architecture.deb
mv "$scratch/package.deb" "$package"
echo "$package"
