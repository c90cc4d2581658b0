#!/usr/bin/env bash
# Installs everything the project needs, and nothing that is there already: Debian packages (as root), and a
# virtual environment in .venv with the project itself, editable.  ./setup.sh [lab|test|dev]
set -euo pipefail
cd "$(dirname "$0")"
extras=${1:-lab}
case $extras in lab | test | dev) ;; *) echo "usage: ./setup.sh [lab|test|dev]" >&2 && exit 2 ;; esac

packages=(python3-venv nftables libnftables1 libpcap0.8 iproute2 util-linux ca-certificates curl bind9-dnsutils dnsmasq-base unbound)
[ "$extras" = lab ] || packages+=(conntrack procps tcpdump tshark gcc libc6-dev musl-tools dnsperf dnsdist iperf3 mininet bridge-utils net-tools iptables)
[ "$extras" = lab ] || command -v busybox >/dev/null || packages+=(busybox-static) # conflicts with package busybox

missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup.sh: these Debian packages are missing, and only root can install them: ${missing[*]}" >&2
        exit 3
    fi
    echo "Installing ${missing[*]} …"
    export DEBIAN_FRONTEND=noninteractive
    # dnsdist and unbound come as services, on port 53: they are wanted as programs only.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup.sh: Python 3.11 or newer is needed" >&2 && exit 3; }
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear .venv
fi
echo "Installing the Python packages …"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
# An editable installation is not compiled, and with PYTHONDONTWRITEBYTECODE set each start would do it again.
.venv/bin/python -m compileall -q acns lab
echo "Ready. Try: .venv/bin/invoke --list"
