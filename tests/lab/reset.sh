# Run in the guest between two tests: what the tests left goes, what init started stays.
PATH=/usr/sbin:/sbin:/usr/bin:/bin; export PATH
keep=" $(cat /run/ours | tr -s ' \n' ' ') "
mine=$$; while [ "$mine" -gt 1 ]; do keep="$keep$mine "; while read -r name value; do [ "$name" = PPid: ] && break; done < /proc/$mine/status; mine=$value; done
for p in $(ps -e -o pid=); do
    case $keep in *" $p "*) continue;; esac
    [ -e /proc/$p/exe ] || continue   # the kernel's own threads have no program
    kill -9 $p 2>/dev/null
done
tries=0
while :; do
    awk '$1 ~ "^/dev/(mapper|dm-|vg|ubdd|loop)" {print $2}' /proc/mounts | sort -r | xargs -r -n1 umount 2>/dev/null
    for d in $(dmsetup info -c --noheadings -o name,suspended 2>/dev/null | sed -n 's/:Suspended$//p'); do dmsetup resume --noudevrules --noudevsync "$d"; done
    [ -e /dev/mapper/dust ] && { dmsetup message dust 0 disable; vgremove -qq -ff -y bad; pvremove -qq -ff -y /dev/mapper/dust; } >/dev/null 2>&1
    said=$(lvremove -qq -ff -y vg0 vg-two 2>&1); code=$?
    for d in $(dmsetup ls 2>/dev/null | awk '$1 != "No" {print $1}'); do dmsetup remove --noudevrules --noudevsync -f "$d" >/dev/null 2>&1; done
    [ $code -eq 0 ] && [ "$(dmsetup ls)" = "No devices found" ] && break
    tries=$((tries + 1)); [ $tries -gt 15 ] && { echo "$said"; lvs -a; dmsetup ls; cat /proc/mounts; exit 1; }
    sleep 0.3
done
loop=$(losetup -a 2>/dev/null | cut -d: -f1); [ -n "$loop" ] && losetup -d $loop
rm -f /dev/mapper/dust
rm -rf /mnt/* /tmp/* /var/tmp/* /etc/lvm/archive/* /etc/lvm/backup/*
dmesg -C 2>/dev/null
exit 0
