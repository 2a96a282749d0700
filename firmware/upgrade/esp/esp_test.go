package esp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/tools/image/disk"
)

var v1 = upgrade.Release{Board: "generic-x86_64", Version: "v1", Revision: 1}

// volume is a folder with slot A filled.
func volume(t *testing.T) Volume {
	t.Helper()
	v := Volume{t.TempDir()}
	for _, d := range []string{upgrade.EntriesDir, "/EFI/twinkeep"} {
		if err := os.MkdirAll(v.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e := upgrade.Entry{Slot: upgrade.A, Generation: 1, Release: v1, Size: 3, SHA256: sha256.Sum256([]byte("one"))}
	put(t, v.path(upgrade.A.Image()), "one")
	put(t, v.path(upgrade.EntriesDir+"/"+e.Name()), string(e.Content()))
	return v
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func candidate(image string) upgrade.Candidate {
	return upgrade.Candidate{Release: upgrade.Release{Board: v1.Board, Version: "v2", Revision: 2}, Size: int64(len(image)), SHA256: sha256.Sum256([]byte(image))}
}

func TestInstallConfirm(t *testing.T) {
	v := volume(t)
	table, err := v.Table()
	if err != nil || len(table) != 1 {
		t.Fatalf("%+v, %v", table, err)
	}
	b := upgrade.Box{Table: table, Running: upgrade.A, Release: v1}
	c := candidate("two!")
	if err := v.Stage(strings.NewReader("two!"), c, nil); err != nil {
		t.Fatal(err)
	}
	if err := v.Apply(b.Install(c)); err != nil {
		t.Fatal(err)
	}
	if b.Table, err = v.Table(); err != nil || b.Table.Order()[0].Name() != "b+1.conf" {
		t.Fatalf("%+v, %v", b.Table, err)
	}
	if err := v.Verify(b.Table.Of(upgrade.B)[0]); err != nil {
		t.Error(err)
	}
	// The loader counts and starts it.
	if err := os.Rename(v.path(upgrade.EntriesDir+"/b+1.conf"), v.path(upgrade.EntriesDir+"/b+0-1.conf")); err != nil {
		t.Fatal(err)
	}
	b.Running = upgrade.B
	if b.Table, err = v.Table(); err != nil || !b.OnTrial() {
		t.Fatalf("%+v, %v", b.Table, err)
	}
	if err := v.Apply(b.Confirm()); err != nil {
		t.Fatal(err)
	}
	if b.Table, err = v.Table(); err != nil || len(b.Table) != 2 || b.OnTrial() {
		t.Errorf("%+v, %v", b.Table, err)
	}
	put(t, v.path(upgrade.A.Image()), "0ne")
	if err := v.Verify(b.Table.Of(upgrade.A)[0]); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("rotten image: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever goes wrong, the slots are as they were and nothing is left behind.
func TestStageRefuses(t *testing.T) {
	v := volume(t)
	boom := errors.New("the source breaks off")
	for _, tt := range []struct {
		name string
		err  string
		do   func() error
	}{
		{"source fails", boom.Error(), func() error { return v.Stage(failing{boom}, candidate("two!"), nil) }},
		{"too short", "2 bytes came, 4 were announced", func() error { return v.Stage(strings.NewReader("tw"), candidate("two!"), nil) }},
		{"another image", "returned something else", func() error { return v.Stage(strings.NewReader("2wo!"), candidate("two!"), nil) }},
		{"no room", "is full", func() error {
			c := candidate("two!")
			c.Size = 1 << 60
			return v.Stage(strings.NewReader("two!"), c, nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			left, err := os.ReadDir(v.path("/EFI/twinkeep"))
			if err != nil || len(left) != 1 || left[0].Name() != "A.efi" {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestRunning(t *testing.T) {
	v := volume(t)
	for entry, want := range map[string]upgrade.Slot{"a.conf": upgrade.A, "B.conf": upgrade.B, "b+1.conf": upgrade.B, "a+0-1.conf": upgrade.A, "": "", "other.conf": ""} {
		if got := v.Running(entry, v1); got != want {
			t.Errorf("entry %q: slot %q, want %q", entry, got, want)
		}
	}
}

// fatImage is an EFI system partition in a file.
func fatImage(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	err := disk.Write(name, []disk.File{
		{Path: "/EFI/twinkeep/A.efi", Data: bytes.Repeat([]byte("a"), 100_000)}, {Path: "/loader/entries/a.conf", Data: []byte("x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	put(t, esp, string(raw[1<<20:1<<20+disk.ESPSize]))
	return esp
}

func TestReclaim(t *testing.T) {
	name := fatImage(t)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := Reclaim(f); n != 0 || err != nil {
		t.Fatalf("nothing is lost: %d, %v", n, err)
	}
	before, _ := os.ReadFile(name)
	fs, err := openFAT(f)
	if err != nil {
		t.Fatal(err)
	}
	// A chain of 100 clusters that no file has.
	free := uint32(0)
	for c := uint32(2); c < fs.clusters && free == 0; c++ {
		if fs.next(c) == 0 && fs.next(c+100) == 0 {
			free = c
		}
	}
	for c := free; c < free+100; c++ {
		for i := range fs.copies {
			next := []byte{byte(c + 1), byte((c + 1) >> 8), byte((c + 1) >> 16), 0}
			if c == free+99 {
				next = []byte{0xff, 0xff, 0xff, 0x0f}
			}
			if _, err := f.WriteAt(next, fs.fatStart+i*fs.fatLen+4*int64(c)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := Reclaim(f); n != 100 || err != nil {
		t.Errorf("freed %d, %v", n, err)
	}
	if after, _ := os.ReadFile(name); !bytes.Equal(before, after) {
		t.Error("the partition is not as it was")
	}
	if tool, err := exec.LookPath("fsck.vfat"); err == nil {
		if out, err := exec.Command(tool, "-n", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func FuzzReclaim(f *testing.F) {
	small := make([]byte, 64<<10)
	copy(small[11:], []byte{0, 2, 1, 32, 0, 2})
	copy(small[32:], []byte{128, 0, 0, 0, 1, 0, 0, 0})
	small[44], small[510], small[511] = 2, 0x55, 0xaa
	f.Add(small)
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "x")
		put(t, name, string(b))
		g, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		Reclaim(g)
	})
}

func TestRelease(t *testing.T) {
	v := volume(t)
	if _, err := v.Release(upgrade.A); err == nil {
		t.Error("text is taken for an image")
	}
}
