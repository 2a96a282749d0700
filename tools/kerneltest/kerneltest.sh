#!/bin/bash
# Runs a test binary of Go as root on another kernel than this machine's, in QEMU: for what the kernel here was built without, flowtables first of all.
#
#   tools/kerneltest/kerneltest.sh KERNEL-TREE TEST-BINARY PACKAGE-DIRECTORY [arguments of the test]
#
# KERNEL-TREE is an unpacked Debian kernel package (boot/vmlinuz-*, lib/modules/*; the image builder leaves one in build/cache), or our own kernel, which
# has no modules (build/cache/linux-source-*.kernel-*). The binary is static
# (CGO_ENABLED=0 go test -c). The machine has bash, ip, nft and sysctl of this one, no disk and no network. The exit status is the test's.
set -eu
tree=$1 binary=$2 package=$3
shift 3
kernel=$(echo "$tree"/boot/vmlinuz-*)
version=${kernel##*/vmlinuz-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,lib/modules}
cp "$binary" "$root/bin/test"
if [ -d "$package/testdata" ]; then cp -RL "$package/testdata" "$root/"; fi
for f in bash ip nft sysctl modprobe mount poweroff sleep nsenter; do
	path=$(PATH=$PATH:/usr/sbin:/sbin command -v $f) || continue
	cp -L "$path" "$root/bin/$f"
	ldd "$path" 2>/dev/null | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$root$(dirname "$lib")"
		cp -Lu "$lib" "$root$lib"
	done
done
modules="$tree/lib/modules/$version" load=
if [ -d "$modules/kernel" ]; then
	mkdir -p "$root/lib/modules/$version"
	cp "$modules"/modules.* "$root/lib/modules/$version/"
	(cd "$modules" && find kernel/net kernel/drivers/net/{veth,macvlan,dummy,bonding}* kernel/lib kernel/crypto -name '*.ko' \
		-not -path '*/bluetooth/*' -not -path '*/wireless/*' -not -path '*/mac80211/*' -not -path '*/sctp/*' | cpio -pdm --quiet "$root/lib/modules/$version")
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$version"
	load='echo /bin/modprobe > /proc/sys/kernel/modprobe
for m in nf_tables nf_flow_table nf_flow_table_inet veth macvlan nf_conntrack_netlink nft_flow_offload; do modprobe $m; done
'
fi
{
	printf '#!/bin/bash\nexport PATH=/bin TMPDIR=/tmp HOME=/tmp\n'
	printf 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t devtmpfs dev /dev 2>/dev/null\n'
	printf '%sip link set lo up\n' "$load"
	printf '/bin/test'
	printf ' %q' "$@"
	printf '\necho "kerneltest: exit $?"\necho o > /proc/sysrq-trigger\nsleep 60\n'
} > "$root/init"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet) > "$work/initramfs"
timeout "${KERNELTEST_TIMEOUT:-300}" qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 1024 -nodefaults -no-reboot -display none -serial stdio -net none \
	-kernel "$kernel" -initrd "$work/initramfs" -append 'console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init' < /dev/null | tr -d '\r' | tee "$work/out"
grep -q '^kerneltest: exit 0$' "$work/out"
