package upgraded

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp/esptest"
)

// small mounts a file system of 1 MiB.
func small(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a file system that is full is mounted by root only")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestFullDataPartition: no upgrade begins, the reason is said, nothing is left behind, and a later one can begin.
func TestFullDataPartition(t *testing.T) {
	m := newMember1(t)
	small(t, m.StateDir)
	before := m.box.List()
	fill := filepath.Join(m.StateDir, "fill")
	for name, tt := range map[string]struct {
		used int // bytes
		want string
	}{"too small": {0, "make room"}, "full": {1 << 20, "no space left on device"}} {
		f, err := os.Create(fill)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(make([]byte, tt.used)) // as much as there is room for
		f.Close()
		if err := m.begin(t.Context(), api.UpgradeOrder{Source: file(t, esptest.Bundle(t, esptest.Release(200), 2<<20))}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.refused(t, name, tt.want)
		os.Remove(fill)
	}
	if after := m.box.List(); after != before {
		t.Errorf("the slots changed:\n%s\n%s", before, after)
	}
}

// TestFullSlots: a member without room for the image tells the driver, and its slots are as they were.
func TestFullSlots(t *testing.T) {
	m := newMember1(t)
	dir := t.TempDir()
	small(t, dir)
	box := esptest.New(t, dir, esptest.Release(100))
	m.own.Place = box.Place()
	upgradeFile := file(t, esptest.Bundle(t, esptest.Release(200), 2<<20))
	m.own.files = func(string) (*os.File, error) { return os.Open(upgradeFile) }
	data, err := os.ReadFile(upgradeFile)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := m.own.Place.Keys()
	if err != nil {
		t.Fatal(err)
	}
	r, err := bundle.Open(bytes.NewReader(data), keys)
	if err != nil {
		t.Fatal(err)
	}
	before := box.List()
	m.own.install(actRequest{Plan: "p", Image: r.Candidate}, 1)
	<-m.own.done
	if e := m.own.job.Error; !strings.Contains(e, "the EFI system partition is full") {
		t.Errorf("%q", e)
	}
	if m.own.job.Installed || box.List() != before {
		t.Errorf("the slots changed:\n%s\n%s", before, box.List())
	}
}
