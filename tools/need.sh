#!/bin/sh
# need.sh demo|image|test|bench: installs the Debian or Ubuntu packages that a target needs and that are missing,
# and says which. It changes nothing when nothing is missing.
set -eu

case "${1:-}" in
image) want="dpkg:dpkg depmod:kmod" ;;
demo)  want="dpkg:dpkg depmod:kmod qemu-system-x86_64:qemu-system-x86" ;;
test)  want="dpkg:dpkg depmod:kmod qemu-system-x86_64:qemu-system-x86 ip:iproute2 nft:nftables ping:iputils-ping sysctl:procps" ;;
bench) want="ip:iproute2 nft:nftables ping:iputils-ping sysctl:procps keepalived:keepalived conntrackd:conntrackd conntrack:conntrack" ;;
*) echo "usage: need.sh demo|image|test|bench" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=
for w in $want; do
	command -v "${w%%:*}" >/dev/null 2>&1 || missing="$missing ${w##*:}"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "need.sh: this machine has no apt-get; install these yourself:$missing" >&2
	exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing for 'make $1':$missing"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
