#!/bin/sh
# Install Debian packages that are missing: those named, else all that tests and the lab need.
# Usage: tests/packages.sh [PACKAGE...]
# As root on Debian only; says so and does nothing elsewhere, or with BLOCKDIFF_NO_INSTALL set.
# No service is started by it: its packages' start scripts find a policy that forbids that.
set -eu
cd "$(dirname "$0")/.."

if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # words
    set -- $(sed 's/#.*//' tests/packages.txt tests/lab/packages.txt | sort -u)
fi
refuse() {
    echo "installing no packages: $1"
    exit 0
}
[ -z "${BLOCKDIFF_NO_INSTALL:-}" ] || refuse "BLOCKDIFF_NO_INSTALL is set"
if ! command -v apt-get >/dev/null || [ ! -e /etc/debian_version ]; then refuse "this is not Debian"; fi
missing=
for package; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || refuse "that takes root; missing:$missing"

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
echo "installing:$missing"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # words
for try in 1 2 3; do # a mirror may hiccup
    if apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >"$log" 2>&1 &&
        apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing </dev/null >>"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "apt-get failed, try $try of 3:"
    tail -n 15 "$log"
    rm -f "$log"
    sleep $((try * 5))
done
exit 1
