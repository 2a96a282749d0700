package halvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStick: a USB stick with FAT that is plugged into a running machine gets a support archive, and can be taken out.
func TestStick(t *testing.T) {
	t.Parallel()
	stick := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(stick, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(stick, 32<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mformat", "-i", stick, "-v", "STICK", "::").CombinedOutput(); err != nil {
		t.Fatalf("mformat: %v: install it with: tools/need.sh hardware\n%s", err, out)
	}
	m := panelWith(t, "", []string{"-device", "qemu-xhci,id=usb", "-drive", "if=none,id=stick,format=raw,file=" + stick})
	m.see(`hald\S* .*the case shows active`)
	if out := m.command("techsupport --usb"); !strings.Contains(out, "there is no removable disk") {
		t.Errorf("without a stick: %s", out)
	}
	m.qmp("device_add", map[string]any{"driver": "usb-storage", "bus": "usb.0", "drive": "stick", "removable": true, "id": "s"})
	m.until("the stick is found and written to", func() bool {
		return strings.Contains(m.command("techsupport --usb"), "The stick can be taken out")
	})
	m.qmp("device_del", map[string]any{"id": "s"})
	list, err := exec.Command("mdir", "-b", "-i", stick, "::").Output()
	if err != nil || !strings.Contains(string(list), "techsupport-gw-a-") {
		t.Fatalf("%v\n%s", err, list)
	}
	archive := filepath.Join(t.TempDir(), "a.tar.gz")
	if out, err := exec.Command("mcopy", "-i", stick, "::/techsupport-gw-a-*", archive).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("tar", "tzf", archive).CombinedOutput(); err != nil || !strings.Contains(string(out), "summary.txt") {
		t.Errorf("%v\n%s", err, out)
	}
}
