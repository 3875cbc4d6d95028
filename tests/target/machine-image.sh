# Make the disk of a machine from Debian's packages; run as root, in the folder that takes the results.
#   sh machine-image.sh SUITE ARCHITECTURE BOOT PACKAGES SIZE CONSOLE
# SUITE such as trixie, BOOT bios or efi, PACKAGES with commas between them, SIZE of the disk in MB: its first boot makes
# it larger; CONSOLE such as ttyS0.
# Reads ca/*.crt. Leaves disk.raw, vmlinuz and initrd; the disk has no boot loader yet (`init=/root/boot-loader`).
set -eu
suite=$1 arch=$2 boot=$3 packages=$4 size=$5 console=$6
umask 022
root=$PWD/root
trap 'rm -rf "$root"' EXIT

mmdebstrap --quiet --mode=root --variant=important --architectures="$arch" --include="$packages" \
    "$suite" "$root" http://deb.debian.org/debian

# Rented machines have these two archives, and no files of the machine that made the image.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
rm -f "$root/etc/apt/sources.list" "$root/etc/hostname" "$root/etc/resolv.conf"
cat > "$root/etc/apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: http://deb.debian.org/debian
Suites: $suite $suite-updates
Components: main
Signed-By: $keyring

Types: deb
URIs: http://security.debian.org/debian-security
Suites: $suite-security
Components: main
Signed-By: $keyring
END
cp ca/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
chroot "$root" update-ca-certificates >/dev/null

# The network as Debian's own images for clouds have it: systemd's, told by cloud-init.
chroot "$root" dpkg --purge ifupdown isc-dhcp-client dhcpcd-base >/dev/null 2>&1 || true
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
printf 'datasource_list: [NoCloud, None]\n' > "$root/etc/cloud/cloud.cfg.d/90_dpkg.cfg"

# Every machine makes its own identity at its first start.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"

uuid=$(cat /proc/sys/kernel/random/uuid)
printf 'UUID=%s / ext4 rw,errors=remount-ro 0 1\n' "$uuid" > "$root/etc/fstab"
mkdir -p "$root/etc/default/grub.d"
cat > "$root/etc/default/grub.d/machine.cfg" <<END
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="console=$console,115200"
END
if [ "$boot" = efi ]; then
    # In front of the system's partition, which grows; numbered 15 as in Debian's own images for clouds.
    first=133120  # 65 MB
    parts="label: gpt\ndisk.raw15 : start=2048, size=131072, type=U\ndisk.raw1 : start=$first, type=L\n"
    printf 'LABEL=EFI /boot/efi vfat umask=0077 0 1\n' >> "$root/etc/fstab"
    # At the path that is tried without a variable of the firmware: those are forgotten when the machine is off.
    loader="mkfs.vfat -n EFI /dev/vda15 && mkdir -p /boot/efi && mount -t vfat /dev/vda15 /boot/efi \
        && grub-install --removable --no-nvram && umount /boot/efi"
else
    first=2048
    parts="label: dos\n$first,,L,*\n"
    loader="grub-install /dev/vda"
    printf 'GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="serial --speed=115200"\n' \
        >> "$root/etc/default/grub.d/machine.cfg"
    # An upgrade of grub-pc asks where to install itself unless it is told.
    echo 'grub-pc grub-pc/install_devices multiselect /dev/vda' | chroot "$root" debconf-set-selections
fi
cat > "$root/root/boot-loader" <<END
#!/bin/sh
# The boot loader writes to the disk that it is booted from: done by the machine itself, once, instead of systemd.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
$loader && update-grub && rm /root/boot-loader && echo BOOT-LOADER-DONE
# Sync, make read-only, power off: the script that runs keeps the file system busy for anything gentler.
for key in s u o; do echo \$key > /proc/sysrq-trigger; sleep 1; done
sleep 60
END
chmod 755 "$root/root/boot-loader"

cp -L "$root/vmlinuz" vmlinuz
cp -L "$root/initrd.img" initrd
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
truncate -s "${size}M" disk.raw
printf "$parts" | sfdisk --quiet disk.raw
# Only what every GRUB reads, whatever this machine's mke2fs makes by default.
features=none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file
mke2fs -q -F -t ext4 -b 4096 -O "$features,huge_file,dir_nlink,extra_isize,metadata_csum" \
    -U "$uuid" -d "$root" -E offset="$((first * 512))" disk.raw "$(((size - 1 - first / 2048) * 256))"
