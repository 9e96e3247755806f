#!/bin/sh
# First process of the guest: a User-Mode Linux kernel whose root is this machine's own / through hostfs.
# The root is mounted read-only and every place that programs write to is covered with a tmpfs, so that
# nothing the guest does can land on the machine. `lab` is the run's own folder, from the kernel's command line.
PATH=/usr/sbin:/sbin:/usr/bin:/bin; export PATH
umask 022
mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lab /run/checkout /run/sshd /run/mysqld /run/lock /run/lvm /dev/pts /dev/shm
mount -t hostfs -o "$lab" none /run/lab; mount -o remount,ro /run/lab
mount -t hostfs -o "$(cat /run/lab/checkout)" none /run/checkout; mount -o remount,ro /run/checkout
for d in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $d; done
for d in /etc/lvm /root /home /mnt /srv /media /opt /var/lib/mysql /var/lib/postgresql /var/log /var/spool /var/cache /var/backups; do
    [ -d $d ] && mount -t tmpfs -o mode=755 tmpfs $d
done
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts; mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd
rm -f /dev/pty?? /dev/tty?? /dev/tty[0-9]  # LVM looks at each
hostname "$(cat /run/lab/hostname)"

# Other interpreters of this machine, which pyenv keeps under /root, stay visible.
pyenv=$(cat /run/lab/pyenv)
[ -n "$pyenv" ] && mkdir -p "$pyenv" && mount -t hostfs -o "$pyenv" none "$pyenv" && mount -o remount,ro "$pyenv"

# -d: the kernel's modules stand elsewhere than in /lib/modules, and that place belongs to the machine.
mkdir -p /run/kernel/lib; ln -s /usr/lib/uml/modules /run/kernel/lib/modules
modprobe -a -d /run/kernel dm-mod dm-snapshot dm-thin-pool dm-era dm-dust dm-flakey dm-log-writes loop nbd fuse

# no udev here; and memory that LVM touches in advance costs half a second in such a kernel
cat > /etc/lvm/lvm.conf <<EOF
activation { udev_sync=0 udev_rules=0 monitoring=0 reserved_memory=0 reserved_stack=0 }
devices { use_devicesfile=0 obtain_device_list_from_udev=0 global_filter=[ "r|^/dev/ubdd$|", "r|^/dev/nbd|" ] }
EOF
vgs -qq vg0 >/dev/null 2>&1 || { pvcreate -qq -y /dev/ubdb; vgcreate -qq vg0 /dev/ubdb; }
vgs -qq vg-two >/dev/null 2>&1 || { pvcreate -qq -y /dev/ubdc; vgcreate -qq vg-two /dev/ubdc; }
vgchange -qq -ay >/dev/null

ip link set lo up; ip addr add "$(cat /run/lab/address)/24" dev vec0; ip link set vec0 up
ip neigh replace $(cat /run/lab/neighbour) dev vec0 nud permanent
mkdir -m 700 /root/.ssh; cp /run/lab/keys/id.pub /root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys
cp /run/lab/keys/hostkey /run/sshd/hostkey; chmod 600 /run/sshd/hostkey
# For each packet it allocates 256 KiB: new pages each time cost 3 ms in such a kernel, so 0.5 MB/s would be received.
MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=134217728 /usr/sbin/sshd -D -e -f /run/lab/sshd_config &
# What runs now belongs to the guest; whatever else runs later is a test's and goes with it.
sleep 0.2; ps -e -o pid= > /run/ours
while :; do sleep 1; done  # a shell that waits is also the one that reaps orphans
