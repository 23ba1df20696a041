#!/bin/sh
# Makes an RPM package of a program that is built: packaging/rpm.sh PROGRAM TRIPLE DIRECTORY
set -eu
binary=$(realpath "$1")
case $2 in
    armv7-*) architecture=armv7hl ;;
    *) architecture=${2%%-*} ;;
esac
directory=$(realpath "$3")
cd "$(dirname "$0")/.."
. packaging/release.sh

# rpmbuild needs the paths without blanks.
ln -s "$PWD" "$scratch/tree"
install -m 755 "$binary" "$scratch/atomwrite"

# The first macros keep rpmbuild from changing the program and the manual, the others make two builds of one commit the
# same.
rpmbuild --quiet -bb --target "$architecture-linux" \
    --define "_topdir $scratch/rpm" --define "_rpmdir $scratch" --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
    --define "version $version" --define "binary $scratch/atomwrite" --define "tree $scratch/tree" \
    --define 'debug_package %{nil}' --define '__os_install_post %{nil}' \
    --define '_build_id_links none' --define '_buildhost localhost' --define "packager $maintainer" \
    --define '_binary_payload w6.xzdio' \
    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
    packaging/rpm/atomwrite.spec
package=atomwrite-$version-1.$architecture.rpm
mv "$scratch/$package" "$directory"
echo "$directory/$package"
