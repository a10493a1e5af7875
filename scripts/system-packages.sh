#!/usr/bin/env bash
# Install the Debian packages that the tests need and that are missing. The tests start servers of their own, so none
# is started here, and none is left to start with the machine.
set -euo pipefail

# package: what must be there for it to count as installed (a program, or a file)
needs=(
    dcmtk:storescu
    orthanc:Orthanc
    orthanc-dicomweb:/usr/share/orthanc/plugins/libOrthancDicomWeb.so
    redis-server:redis-server
    "postgresql:/usr/lib/postgresql/*/bin/initdb"
    dicom3tools:dciodvfy
    libpixelmed-java:/usr/share/java/pixelmed.jar
    default-jre-headless:java
    procps:pgrep
    chromium:chromium
    util-linux:setpriv
)
services=(orthanc redis-server postgresql)

PATH=$PATH:/usr/sbin:/sbin
missing=()
for need in "${needs[@]}"; do
    package=${need%%:*} proof=${need#*:}
    if ! command -v "$proof" >/dev/null && ! compgen -G "$proof" >/dev/null; then
        missing+=("$package")
    fi
done
((${#missing[@]})) || exit 0

echo "the tests need: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "there is no apt-get here: install these by hand, then run make test again" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "neither root nor sudo: as root, run  apt-get install ${missing[*]}  then make test again" >&2
        exit 1
    fi
    as_root=(sudo)
    [[ -t 0 ]] || as_root=(sudo --non-interactive) # nobody there to type a password
fi

policy=/usr/sbin/policy-rc.d # asked by Debian's packages before they start a service; 101 means no
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    "${as_root[@]}" chmod 755 "$policy"
fi
unattended=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l RUNLEVEL=1)
log=$(mktemp)
install_missing() {
    "${as_root[@]}" "${unattended[@]}" apt-get update -qq &&
        "${as_root[@]}" "${unattended[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
if ! install_missing </dev/null >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "apt-get could not install ${missing[*]}; its whole output is in $log" >&2
    exit 1
fi
rm -f "$log"
for service in "${services[@]}"; do
    if [[ " ${missing[*]} " == *" $service "* && -d /run/systemd/system ]]; then
        "${as_root[@]}" systemctl disable --now --quiet "$service" || true
    fi
done
echo "installed: ${missing[*]}"
