package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/tools/image/disk"
	"github.com/twinkeep/twinkeep/tools/lab/nbd"
)

func partition(t *testing.T, entries ...upgrade.Entry) *crashed {
	t.Helper()
	files := []disk.File{{Path: "/EFI/BOOT/BOOTX64.EFI", Data: []byte("loader")}, {Path: "/EFI/twinkeep/A.efi", Data: []byte("image a")}, {Path: "/EFI/twinkeep/B.efi", Data: []byte("image b")}}
	for _, e := range entries {
		files = append(files, disk.File{Path: upgrade.EntriesDir + "/" + e.Name(), Data: e.Content()})
	}
	name := filepath.Join(t.TempDir(), "disk")
	if err := disk.Write(name, files); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return &crashed{base: raw[espOffset : espOffset+disk.ESPSize], over: make(map[int64][]byte)}
}

func entry(s upgrade.Slot, generation uint64, image string) upgrade.Entry {
	return upgrade.Entry{Slot: s, Generation: generation, Release: upgrade.Release{Board: "x", Version: "v"}, Size: int64(len(image)), SHA256: sha256.Sum256([]byte(image))}
}

// The judge must be able to find fault.
func TestJudge(t *testing.T) {
	trial := entry(upgrade.B, 2, "image b")
	trial.Counted, trial.Left = true, 1
	damaged := entry(upgrade.A, 1, "another")
	for _, tt := range []struct {
		name, want, err string
		d               *crashed
	}{
		{"good", "A good", "", partition(t, entry(upgrade.A, 1, "image a"))},
		{"trial", "B trial", "", partition(t, entry(upgrade.A, 1, "image a"), trial)},
		{"damaged image", "", "is not whole", partition(t, damaged)},
		{"damaged fallback", "", "is not whole", partition(t, damaged, trial)},
		{"nothing behind the trial", "", "no good entry is left", partition(t, trial)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := judge(tt.d)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// Between the writes of the two allocation tables they differ.
func TestJudgeReadsTheFirstTable(t *testing.T) {
	d := partition(t, entry(upgrade.A, 1, "image a"))
	second := int64(d.base[14])*nbd.Sector + (int64(d.base[36])|int64(d.base[37])<<8)*nbd.Sector
	if _, err := d.WriteAt(make([]byte, nbd.Sector), second); err != nil {
		t.Fatal(err)
	}
	if got, err := judge(d); err != nil || got != "A good" {
		t.Errorf("%q, %v", got, err)
	}
}
