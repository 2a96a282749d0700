#!/bin/sh
# need.sh image|kernel|demo|test|box|flowtable|tpm|hardware|hardware-arm64|bench: installs the Debian or Ubuntu packages that a target needs and that are missing,
# and says which. It changes nothing when nothing is missing.
set -eu

kernel=
# The compiler of the trial loader, which is for x86-64. It brings its linker.
gcc=gcc
[ "$(uname -m)" = x86_64 ] || gcc=gcc-x86-64-linux-gnu
case "${1:-}" in
image) want="dpkg:dpkg xz:xz-utils mke2fs:e2fsprogs x86_64-linux-gnu-gcc:$gcc"; kernel=yes ;;
kernel) want="dpkg:dpkg tar:tar xz:xz-utils zstd:zstd make:make gcc:gcc flex:flex bison:bison bc:bc perl:perl /usr/include/libelf.h:libelf-dev /usr/include/openssl/opensslv.h:libssl-dev"; kernel=yes ;;
demo)  want="qemu-system-x86_64:qemu-system-x86" ;;
test)  want="qemu-system-x86_64:qemu-system-x86 curl:curl ip:iproute2 nft:nftables ping:iputils-ping sysctl:procps tshark:tshark tcpdump:tcpdump conntrack:conntrack ethtool:ethtool ssh:openssh-client swtpm:swtpm x86_64-linux-gnu-gcc:$gcc /usr/include/stdio.h:libc6-dev" ;;
box)   want="qemu-system-x86_64:qemu-system-x86 /usr/share/OVMF/OVMF_CODE_4M.secboot.fd:ovmf mformat:mtools swtpm:swtpm" ;;
flowtable) want="qemu-system-x86_64:qemu-system-x86 ip:iproute2 nft:nftables sysctl:procps nsenter:util-linux cpio:cpio depmod:kmod" ;;
tpm)   want="swtpm:swtpm" ;;
hardware) want="qemu-system-x86_64:qemu-system-x86 mformat:mtools" ;;
hardware-arm64) want="qemu-system-aarch64:qemu-system-arm /usr/share/AAVMF/AAVMF_CODE.fd:qemu-efi-aarch64 mformat:mtools dpkg:dpkg xz:xz-utils mke2fs:e2fsprogs" ;;
bench) want="ip:iproute2 nft:nftables ping:iputils-ping sysctl:procps keepalived:keepalived conntrackd:conntrackd conntrack:conntrack" ;;
*) echo "usage: need.sh image|kernel|demo|test|box|flowtable|tpm|hardware|hardware-arm64|bench" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=
for w in $want; do
	command -v "${w%%:*}" >/dev/null 2>&1 || missing="$missing ${w##*:}"
done

# The kernel comes from a package that is only downloaded; for that apt must know it.
known() { apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-cache show linux-image-generic >/dev/null 2>&1; }
update=
[ -z "$missing" ] || update=yes
[ -z "$kernel" ] || known || update=yes
[ -n "$update" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "need.sh: this machine has no apt-get; install these yourself:${missing:- a Debian kernel package source}" >&2
	exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "apt-get update (for 'make $1')"
$sudo apt-get update -qq
[ -n "$missing" ] || exit 0
echo "installing for 'make $1':$missing"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
