# First process of a target, given to the container as its command; ends as systemd.
# systemd needs a writable cgroup v2 tree: a new mount shows this container's own part of it, in its own namespace.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1

# Docker binds /etc/hostname over the image's file, where hostnamectl can't replace it.
name=$(cat /etc/hostname)
umount /etc/hostname && { [ -s /etc/hostname ] || echo "$name" > /etc/hostname; }

# Units with private mounts expect shared propagation, as systemd sets it up where it isn't in a container.
mount --make-rshared /

# A boot has an id of its own, which containers share with the machine: without this every boot's journal is one.
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind -o ro /run/boot_id /proc/sys/kernel/random/boot_id

# A VPS sets up its own network: of the kernel's settings, which Docker mounts read-only, these are the container's own.
mkdir /run/proc && mount -t proc proc /run/proc && mount --bind /run/proc/sys/net /proc/sys/net
umount -l /run/proc && rmdir /run/proc

# A VPS gets its host keys at its first start.
ssh-keygen -A >/dev/null
exec /sbin/init
