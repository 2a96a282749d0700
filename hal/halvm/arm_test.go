package halvm

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The PL061 of QEMU's ARM machine: its trace says how the lines that we drive change.
const lineTrace = "pl061_set_output"

// TestARM boots the image of qemu-arm64 under emulation, by direct kernel boot with the machine's device tree, to ACTIVE;
// the lamp is a bare GPIO line, the button a key of gpio-keys.
func TestARM(t *testing.T) {
	t.Parallel()
	if *armDir == "" {
		t.Skip("emulates another architecture for minutes; run it with: make test-hardware-arm64")
	}
	args := []string{"-M", "virt", "-accel", "tcg", "-cpu", "cortex-a72", "-smp", "1", "-m", "512", "-trace", lineTrace,
		"-action", "reboot=shutdown,shutdown=poweroff,panic=none,watchdog=reset", "-device", "i6300esb", "-device", "virtio-rng-pci"}
	args = append(args, twoNICs()...)
	m := start(t, "qemu-system-aarch64", filepath.Join(*armDir, "vmlinuz"), filepath.Join(*armDir, "initramfs.cpio"), "ttyAMA0,115200", args)
	t.Log(m.see(`init: PID 1 at [0-9.]+s`)[0])
	t.Log(m.see(`init: NICs G1=\S+ G2=\S+ at [0-9.]+s`)[0])
	t.Log(m.see(`Master role assumed`)[0])
	m.see(`hald\S* .*the case shows active`)

	out := m.command("hardware")
	t.Log(out)
	for _, want := range []string{`Board: +qemu-arm64`, `Case: +active`, `LED +status +status +lit +GPIO \*\.pl061 line 0 +-`,
		`button +power +power +idle, pressed 0 times +gpio-keys KEY_POWER +-`, `Watchdog: i6300ESB timer, active`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("hardware does not say %q", want)
		}
	}
	if out := m.command("ha"); !strings.Contains(out, "ACTIVE") {
		t.Errorf("ha says\n%s", out)
	}
	// The lamp blinked while the box booted, and is lit now.
	m.until("the line of the lamp has changed and is high", func() bool {
		lines := m.trace(lineTrace)
		return len(lines) > 4 && strings.HasSuffix(lines[len(lines)-1], "to 1")
	})
	t.Logf("the line of the lamp changed %d times", len(m.trace(lineTrace)))

	m.qmp("system_powerdown", nil)
	m.see(`button power: this device switches itself off`)
	m.see(`init: services stopped, poweroff`)
	m.until("QEMU ends", m.ended)
}
