# Sourced by the other scripts: programs, and Debian's packages of them.
# shellcheck shell=bash

export PATH="$PATH:/usr/sbin:/usr/local/sbin"

has() { command -v "$1" >/dev/null 2>&1; }

# Debian starts a server as soon as it is installed, on ports that the machine may use; ours are started by ourselves.
apt_install() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } ||
        status=$?
    if [ -n "$policy" ]; then rm -f "$policy"; fi
    return "$status"
}

# Installs packages where that is possible, else says how to, and fails.
get_packages() {
    if [ $# -eq 0 ]; then
        return
    elif has apt-get && [ "$(id -u)" -eq 0 ]; then
        echo "installing $*"
        apt_install "$@" >/dev/null && return
        echo "that failed" >&2
    else
        echo "missing: $* (Debian's names). To install them on Debian:" >&2
        echo "    sudo apt-get install --no-install-recommends $*" >&2
    fi
    return 1
}
