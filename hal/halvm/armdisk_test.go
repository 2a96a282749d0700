package halvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Firmware of Debian's package qemu-efi-aarch64.
const (
	armCode = "/usr/share/AAVMF/AAVMF_CODE.fd"
	armVars = "/usr/share/AAVMF/AAVMF_VARS.fd"
)

// TestARMDisk boots the image of a disk on an ARM machine as it stands on a desk: UEFI firmware, boot loader, the image in slot
// A, the data partition made at this first boot, a node file from a config drive; to ACTIVE. The next boot has it all.
func TestARMDisk(t *testing.T) {
	t.Parallel()
	if *armDisk == "" {
		t.Skip("emulates another architecture for minutes; run it with: make test-hardware-arm64")
	}
	m := newMachine(t)
	file := func(name string) string { return filepath.Join(m.dir, name) }
	for from, to := range map[string]string{filepath.Join(*armDisk, "twinkeep-qemu-arm64.img"): "disk", armVars: "vars"} {
		data, err := os.ReadFile(from)
		m.must(err)
		m.must(os.WriteFile(file(to), data, 0o600))
	}
	m.must(os.Truncate(file("disk"), 512<<20))
	m.must(os.WriteFile(file("node.yaml"), []byte(node), 0o600))
	for _, args := range [][]string{
		{"mformat", "-C", "-i", file("drive"), "-f", "1440", "-v", "TWKCONFIG", "::"},
		{"mcopy", "-i", file("drive"), file("node.yaml"), "::node.yaml"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	// With ACPI the firmware would keep the machine's device tree to itself, and with it lamp and button.
	args := []string{"-M", "virt,acpi=off", "-accel", "tcg", "-cpu", "cortex-a72", "-smp", "1", "-m", "512",
		"-action", "reboot=reset,shutdown=poweroff,panic=none,watchdog=reset", "-device", "i6300esb", "-device", "virtio-rng-pci",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + armCode, "-drive", "if=pflash,format=raw,unit=1,file=" + file("vars"),
		"-drive", "if=none,id=d0,format=raw,file=" + file("disk"), "-device", "virtio-blk-pci,drive=d0,bootindex=1",
		"-drive", "if=none,id=d1,format=raw,readonly=on,file=" + file("drive"), "-device", "virtio-blk-pci,drive=d1"}
	args = append(args, twoNICs()...)
	m.launch("qemu-system-aarch64", args...)
	t.Log(m.see(`init: PID 1 at [0-9.]+s`)[0])
	m.see(`data partition: blank, it is created`)
	m.see(`the node file was taken from the drive`)
	m.see(`(?:gw-a|twinkeep):/> `)
	m.until("it is ACTIVE", func() bool { return strings.Contains(m.command("ha"), "ACTIVE") })
	t.Log(m.command("hardware"))
	if out := m.command("upgrade status"); !strings.Contains(out, "good") {
		t.Errorf("upgrade status:\n%s", out)
	}
	m.must(m.Enter("reboot --yes"))
	m.see(`init: services stopped, reboot`)
	t.Log(m.see(`data partition /dev/\w+ mounted at [0-9.]+s`)[0])
	m.see(`(?:gw-a|twinkeep):/> `)
	m.until("it is ACTIVE again", func() bool { return strings.Contains(m.command("ha"), "ACTIVE") })
}
