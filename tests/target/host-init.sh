# First process of a target, given to the container as its command; ends as systemd. likeness.py gives the arguments:
# $1 MB of memory that it may use, $2 MB of its disk (0 each: as the machine has), then NAME=VALUE for the kernel.
# With "probe" alone it tells by its exit code whether there can be a disk.
memory=$1 disk=$2

# attach FILE FOLDER: mounts the file's ext4. Its loop device goes with the last mount of it, however that ends.
attach() {
    mknod /dev/loop-control c 10 237 2>/dev/null
    for number in $(seq 0 63); do mknod "/dev/loop$number" b 7 "$number" 2>/dev/null; done
    # The device of a target that was killed a moment ago may still have it.
    until [ -z "$(losetup --associated "$1")" ]; do sleep 0.1; done
    # With direct I/O the file holds just what the target's kernel has written, and nothing is cached twice.
    device=$(losetup --find --show --direct-io=on "$1") && mount -o noinit_itable "$device" "$2"
    failed=$?
    [ -z "$device" ] || losetup --detach "$device"
    rm -f /dev/loop-control /dev/loop[0-9]*
    return $failed
}

if [ "$1" = probe ]; then
    truncate --size=16M /disk/probe && mkfs.ext4 -q /disk/probe && attach /disk/probe /mnt
    exit
fi

# Docker binds /etc/hostname over the image's file, where hostnamectl can't replace it.
name=$(cat /etc/hostname)
umount /etc/hostname && { [ -s /etc/hostname ] || echo "$name" > /etc/hostname; }

# An image that was made of another target has no id, which systemd makes at boot.
[ -e /etc/machine-id ] || : >/etc/machine-id

# A VPS has one disk, which can be full: all of the image goes onto it at the first start, and it is the root from then on.
if [ "$disk" != 0 ]; then
    if [ -e /disk/root ]; then
        attach /disk/root /mnt || exit 1
    else
        rm -f /disk/new
        truncate --size="${disk}M" /disk/new && mkfs.ext4 -q -L root /disk/new && attach /disk/new /mnt || exit 1
        cp --archive --one-file-system /. /mnt/ && rm -rf /mnt/disk && mkdir /mnt/.image || exit 1
        sync --file-system /mnt && mv /disk/new /disk/root || exit 1  # only a whole one has that name
    fi
    for each in /etc/hosts /etc/resolv.conf; do : >> "/mnt$each"; mount --no-mtab --move "$each" "/mnt$each"; done
    for each in /dev /sys /run /tmp /proc; do mkdir -p "/mnt$each"; mount --no-mtab --move "$each" "/mnt$each"; done
    cd /mnt && pivot_root . .image && umount --lazy /.image || exit 1
fi

# systemd needs a writable cgroup v2 tree: a new mount shows this container's own part of it, in its own namespace.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1

# Units with private mounts expect shared propagation, as systemd sets it up where it isn't in a container.
mount --make-rshared /

# A boot has an id of its own, which containers share with the machine: without this every boot's journal is one.
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind -o ro /run/boot_id /proc/sys/kernel/random/boot_id

# How large the memory is, without the lines that change: a file can't tell them. sysinfo(2) still tells the machine's.
if [ "$memory" != 0 ]; then
    printf '%-16s%8d kB\n' MemTotal: "$((memory * 1024))" SwapTotal: 0 SwapFree: 0 > /run/meminfo
    mount --bind -o ro /run/meminfo /proc/meminfo
fi

# A VPS sets up its own network: of the kernel's settings, which Docker mounts read-only, these are the container's own.
mkdir /run/proc && mount -t proc proc /run/proc && mount --bind /run/proc/sys/net /proc/sys/net
umount -l /run/proc && rmdir /run/proc
shift 2
for each; do
    # What this kernel doesn't have stays as it is: systemd-sysctl, which comes next, takes it so, too.
    echo "${each#*=}" > "/proc/sys/$(echo "${each%%=*}" | tr . /)"
done

# A VPS gets its host keys at its first start.
ssh-keygen -A >/dev/null
exec /sbin/init
