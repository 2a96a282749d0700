package data

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// memory is a partition whose power goes after left writes.
type memory struct {
	b    []byte
	left int
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.left == 0 {
		return 0, errors.New("power cut")
	}
	m.left--
	return copy(m.b[off:], p), nil
}
func (*memory) Sync() error { return nil }

// A power cut while the file system is created leaves a partition that is blank
// for the next boot, or one that is whole.
func TestTemplateSurvivesPowerCuts(t *testing.T) {
	template := bytes.Repeat([]byte{0x5a}, 4*block)
	template[sMagic], template[sMagic+1], template[sState] = 0x53, 0xef, 1
	for cut := range 6 {
		m := &memory{make([]byte, 8*block), cut}
		copy(m.b, "what was there before")
		err := writeTemplate(m, template)
		if (err == nil) != (cut == 5) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		got := Inspect(m.b[:HeadSize])
		want := Blank
		if cut == 0 {
			want = Foreign // nothing was done yet
		} else if cut == 5 {
			want = Clean
		}
		if got != want {
			t.Errorf("cut after %d writes: %v, want %v", cut, got, want)
		}
	}
	if err := writeTemplate(&memory{make([]byte, block), -1}, template[:100]); err == nil {
		t.Error("a template that is cut short is written")
	}
}

func TestCopyMissing(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"node.yaml": "from the image", "services.d/x.yaml": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := copyMissing(from, to); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, "node.yaml"), []byte("the operator's"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(to, "services.d/x.yaml")); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if err := copyMissing(from, to); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "node.yaml")); string(b) != "the operator's" {
		t.Errorf("the operator's file was replaced by %q", b)
	}
}

func TestPartitionFile(t *testing.T) {
	for disk, want := range map[string]string{"sda": "/dev/sda2", "vdb": "/dev/vdb2", "nvme0n1": "/dev/nvme0n1p2", "mmcblk0": "/dev/mmcblk0p2"} {
		if got := partitionFile(disk, 2); got != want {
			t.Errorf("%s: %s, want %s", disk, got, want)
		}
	}
}

func TestLabel(t *testing.T) {
	fat32, fat16 := make([]byte, 512), make([]byte, 512)
	copy(fat32[71:], "TWKCONFIG  FAT32   ")
	copy(fat16[43:], "TWKCONFIG  FAT16   ")
	for _, b := range [][]byte{fat32, fat16} {
		if label(b) != "" {
			t.Error("a sector without its signature is taken for FAT")
		}
		b[510], b[511] = 0x55, 0xaa
		if got := label(b); got != DriveLabel {
			t.Errorf("label %q", got)
		}
	}
	if label(nil) != "" || label(append(make([]byte, 510), 0x55, 0xaa)) != "" {
		t.Error("anything is taken for FAT")
	}
	dev, sys := t.TempDir(), t.TempDir()
	for name, b := range map[string][]byte{"sda": make([]byte, 512), "sdb1": fat16, "sdc": []byte("short")} {
		for _, dir := range []string{dev, sys} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := findDrive(sys, dev); got != filepath.Join(dev, "sdb1") {
		t.Errorf("found %q", got)
	}
}
