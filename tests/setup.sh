#!/bin/sh
# Installs the programs that the tests use and that are missing: Debian packages, by apt-get.
#
#   tests/setup.sh           what 'make test' needs
#   tests/setup.sh lint      what 'make lint' needs
#   tests/setup.sh bench     what 'make bench' needs
#   tests/setup.sh torture   what 'make torture' needs
#   tests/setup.sh machines  what 'make machines' needs
#   tests/setup.sh recording what 'make recording' needs
#   tests/setup.sh package   what 'make check-package' needs
#
# Where it cannot install, it says so and goes on: the tests then skip what they cannot do, and say that too.
set -eu

# program:package, or a file that is no program.
tests='
/usr/share/bash-completion/bash_completion:bash-completion
bash:bash
bindfs:bindfs
btrfs:btrfs-progs
chattr:e2fsprogs
cmp:diffutils
fish:fish
flock:util-linux
getfacl:acl
getent:libc-bin
head:coreutils
jq:jq
make:make
losetup:mount
mkfs.btrfs:btrfs-progs
mkfs.ext4:e2fsprogs
mkfs.xfs:xfsprogs
mount:mount
nginx:nginx-light
prometheus-node-exporter:prometheus-node-exporter
python3:python3
setfacl:acl
setpriv:util-linux
setsid:util-linux
sponge:moreutils
ssh:openssh-client
sshd:openssh-server
strace:strace
tail:coreutils
tee:coreutils
timeout:coreutils
tmux:tmux
unshare:util-linux
visudo:sudo
zsh:zsh
'
lint='
mandoc:mandoc
shellcheck:shellcheck
'
bench='
cat:coreutils
find:findutils
gcc:gcc
losetup:mount
mkfs.btrfs:btrfs-progs
mkfs.ext4:e2fsprogs
mkfs.xfs:xfsprogs
mount:mount
sponge:moreutils
unshare:util-linux
'

torture='
btrfs:btrfs-progs
chattr:e2fsprogs
dd:coreutils
losetup:mount
mkfs.btrfs:btrfs-progs
mkfs.ext4:e2fsprogs
mkfs.xfs:xfsprogs
mount:mount
python3:python3
setfacl:acl
sponge:moreutils
strace:strace
unshare:util-linux
xfs_io:xfsprogs
'

machines='
chroot:coreutils
mmdebstrap:mmdebstrap
qemu-img:qemu-utils
qemu-system-x86_64:qemu-system-x86
'

recording='
bash:bash
sponge:moreutils
python3.pexpect:python3-pexpect
python3.pyte:python3-pyte
'

package='
bash:bash
bsdtar:libarchive-tools
cmp:diffutils
cpio:cpio
dpkg-deb:dpkg
fakeroot:fakeroot
fish:fish
git:git
lintian:lintian
make:make
makepkg:makepkg
man:man-db
mmdebstrap:mmdebstrap
pacman:pacman-package-manager
qemu-aarch64-static:qemu-user-static
qemu-arm-static:qemu-user-static
rpmbuild:rpm
unshare:util-linux
xz:xz-utils
zsh:zsh
zstd:zstd
'

say() {
    printf 'tests/setup.sh: %s\n' "$*"
}

case ${1-tests} in
    tests) wanted=$tests ;;
    lint) wanted=$lint ;;
    bench) wanted=$bench ;;
    torture) wanted=$torture ;;
    machines) wanted=$machines ;;
    recording) wanted=$recording ;;
    package) wanted=$package ;;
    *)
        say "what is '$1'? tests, lint, bench, torture, machines, recording or package" >&2
        exit 2
        ;;
esac

# A program, a file, or a module of Debian's own Python.
has() {
    case $1 in
        /*) test -e "$1" ;;
        python3.*) /usr/bin/python3 -c "import ${1#*.}" 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

PATH=$PATH:/usr/sbin:/sbin
missing=
packages=
for pair in $wanted; do
    if ! has "${pair%%:*}"; then
        missing="$missing ${pair%%:*}"
        case " $packages " in
            *" ${pair#*:} "*) ;;
            *) packages="$packages ${pair#*:}" ;;
        esac
    fi
done
if [ -z "$missing" ]; then
    exit 0
fi
say "missing:$missing"

as_root='env'
if [ "$(id -u)" -ne 0 ]; then
    as_root='sudo env'
    # Without a terminal, no user can type a password.
    [ -t 0 ] || as_root='sudo -n env'
fi
if ! command -v apt-get >/dev/null || ! command -v "${as_root%% *}" >/dev/null; then
    say "cannot install them here; their Debian packages are:$packages" >&2
    exit 0
fi

say "installing$packages with apt-get"
as_root() {
    # shellcheck disable=SC2086
    $as_root DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
# shellcheck disable=SC2086
if ! as_root apt-get update -q ||
    ! as_root apt-get install -y -q --no-install-recommends $packages; then
    say 'that did not work; the tests that need them say that they are skipped' >&2
fi

# The tests need the programs, not the servers that the packages start.
for server in nginx-light:nginx openssh-server:ssh.socket openssh-server:ssh.service \
    prometheus-node-exporter:prometheus-node-exporter; do
    case " $packages " in
        *" ${server%%:*} "*)
            if [ -d /run/systemd/system ]; then
                say "switching off the server that came with ${server%%:*}"
                as_root systemctl disable --now "${server#*:}" || true
            fi
            ;;
    esac
done
