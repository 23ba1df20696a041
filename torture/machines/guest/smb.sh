#!/bin/sh
# SMB 3.1.1: samba serves the disk /dev/vda; /mnt/one and /mnt/two have a connection each.
. /machines/check.sh
. /machines/promises.sh

locks=stay
modprobe -a ext4 cifs
mkfs.ext4 -q -F /dev/vda >&2
mount -t ext4 /dev/vda /srv || exit
mkdir -p /srv/d /mnt/one /mnt/two /etc/samba /var/lib/samba/private /var/cache/samba /var/log/samba /run/samba
cat >/etc/samba/smb.conf <<'CONF'
[global]
server role = standalone server
map to guest = never
disable spoolss = yes
load printers = no
[share]
path = /srv
read only = no
store dos attributes = yes
ea support = yes
CONF
printf 'password\npassword\n' | smbpasswd -s -a root >&2 || exit
smbd -D || exit

join() { # DIRECTORY
    mount -t cifs -o username=root,password=password,vers=3.1.1,nosharesock //127.0.0.1/share "$1"
}
soon join /mnt/one && join /mnt/two || exit
grep /mnt/ /proc/mounts >&2
cd /mnt/one/d || exit
begin 'SMB 3.1.1' /mnt/two/d /srv/d
[ -n "${only-}" ] || full /srv
promises
exit 0
