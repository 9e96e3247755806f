#!/bin/sh
# Run a Ceph object store with the S3 API on loopback, with all that it has in FOLDER, until process PID has ended,
# or, without one, until a signal. FOLDER/env appears when it answers: shell lines that set what its clients read.
# Usage: tests/lab/objectstore.sh FOLDER [PID]
# One monitor, one OSD and one gateway, as any user; data is in memory, and FOLDER is removed at the end.
# OBJECTSTORE_SIZE: bytes of data at most (4 GiB).
set -eu
pid=${2:-}
mkdir -p "$1"
root=$(cd "$1" && pwd)
size=${OBJECTSTORE_SIZE:-4294967296}
export CEPH_CONF="$root/ceph.conf"
umask 077

finish() {
    trap '' EXIT HUP INT TERM
    # nothing in it is worth an orderly end, which takes six seconds
    for file in "$root"/run/*.pid; do
        if [ -s "$file" ]; then kill -KILL "$(cat "$file")" 2>/dev/null || true; fi
    done
    wait
    rm -rf "$root"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Start a process that ends with this script, however that ends.
begin() {
    name=$1
    shift
    setpriv --pdeathsig KILL "$@" </dev/null >>"$root/log/$name.out" 2>&1 &
    echo $! >"$root/run/$name.pid"
}
failed() {
    echo "$1" >&2
    tail -n 5 "$root"/log/*.out "$root"/log/*.log >&2
    exit 1
}
until_true() { # tenths of a second, command...
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        for file in "$root"/run/*.pid; do
            kill -0 "$(cat "$file")" 2>/dev/null || failed "$file: it has ended"
        done
        left=$((left - 1))
        [ "$left" -gt 0 ] || failed "no answer: $*"
        sleep 0.1
    done
}
# Print free ports below those that the kernel gives to connections.
free_ports() {
    python3 -c '
import random, socket
sockets = []
while len(sockets) < 2:
    try:
        sockets.append(socket.create_server(("127.0.0.1", random.randrange(20000, 32000))))
    except OSError:
        pass
print(*(one.getsockname()[1] for one in sockets))'
}
osd_is_up() { grep -q "state: booting -> active" "$root/log/osd.0.log"; }
answers() { python3 -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$gateway')"; }

mkdir -p "$root/log" "$root/run" "$root/mon" "$root/osd" "$root/rgw"
ports=$(free_ports)
monitor=${ports% *} gateway=${ports#* }
fsid=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
# A gateway insists on a secure link to the monitor, which takes keys: "ms mon client mode".
# Each pool that it makes is a decision of the monitor, which collects others for a second: "paxos".
cat >"$CEPH_CONF" <<END
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$monitor/0]
public addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = 20000
ms bind port max = 32000
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
mon allow pool size one = true
paxos propose interval = 0.02
paxos min wait = 0.01
osd pool default size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = $size
rgw frontends = beast endpoint=127.0.0.1:$gateway tcp_nodelay=1
rgw dynamic resharding = false
run dir = $root/run
admin socket = $root/run/\$name.asok
log file = $root/log/\$name.log
crash dir = $root/log
mon data = $root/mon
osd data = $root/osd
rgw data = $root/rgw
END

# without a list of monitors it would listen on its standard ports, too
monmaptool --create --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" "$root/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$root/monmap"
begin mon.a ceph-mon -i a -f
until_true 200 ceph --connect-timeout 5 osd new "$osd" 0
# an OSD with another UUID than the monitor knows never becomes active, and does not say why
ceph-osd -i 0 --mkfs --osd-uuid "$osd" >>"$root/log/osd.0.out" 2>&1
: >>"$root/log/osd.0.log"
begin osd.0 ceph-osd -i 0 -f
until_true 300 osd_is_up
begin gateway radosgw -n client.rgw -f
until_true 600 answers
for user in blockdiff reader; do
    radosgw-admin user create --uid="$user" --display-name="$user" --access-key="${user}key" --secret-key="${user}secret" \
        >"$root/log/user.out" 2>&1 || failed "no user $user"
done
# its clients shall not find the files of whoever runs them
cat >"$root/env.new" <<END
export AWS_ENDPOINT_URL=http://127.0.0.1:$gateway
export AWS_ACCESS_KEY_ID=blockdiffkey
export AWS_SECRET_ACCESS_KEY=blockdiffsecret
export AWS_REGION=default
export AWS_DEFAULT_REGION=default
export AWS_CONFIG_FILE=/dev/null
export AWS_SHARED_CREDENTIALS_FILE=/dev/null
END
mv "$root/env.new" "$root/env"
if [ -n "$pid" ]; then
    begin wait tail --pid="$pid" -s 0.1 -f /dev/null
else
    begin wait sleep infinity
fi
wait $!
