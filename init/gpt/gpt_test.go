package gpt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

func example(sectors uint64) *Table {
	return &Table{
		Disk: mustGUID("11111111-2222-3333-4444-555555555555"), Sectors: sectors,
		Partitions: []Partition{
			{Type: TypeESP, ID: mustGUID("aaaaaaaa-0000-0000-0000-000000000001"), First: 2048, Last: 4095, Name: "twinkeep-esp"},
			{Type: TypeLinux, ID: mustGUID("aaaaaaaa-0000-0000-0000-000000000002"), First: 4096, Last: 6143, Name: "twinkeep-data"},
		},
	}
}

// memory is a disk; it counts what is written, and stops after left writes.
type memory struct {
	b    []byte
	left int
}

var errCut = errors.New("power cut")

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if m.left == 0 {
		return 0, errCut
	}
	m.left--
	return copy(m.b[off:], p), nil
}
func (m *memory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.b[off:]), nil }
func (*memory) Sync() error                               { return nil }

func TestRoundTrip(t *testing.T) {
	d := &memory{make([]byte, 4*mib), -1}
	want := example(4 * mib / Sector)
	if err := want.Store(d); err != nil {
		t.Fatal(err)
	}
	got, err := Read(d, 4*mib)
	if err != nil || got.FromBackup || !got.Equal(want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if i := got.Find("twinkeep-data"); i != 1 || got.Partitions[i].Size() != mib || got.Partitions[i].Offset() != 2*mib {
		t.Errorf("data is partition %d: %+v", i, got.Partitions)
	}
	clear(d.b[Sector : 2*Sector])
	if got, err = Read(d, 4*mib); err != nil || !got.FromBackup || !got.Equal(want) {
		t.Errorf("without the primary header: %+v, %v", got, err)
	}
	clear(d.b)
	if _, err = Read(d, 4*mib); !errors.Is(err, ErrNone) {
		t.Errorf("blank: %v", err)
	}
}

// sgdisk judges what we write.
func TestVerifiedBySgdisk(t *testing.T) {
	tool, err := exec.LookPath("sgdisk")
	if err != nil {
		t.Skip("sgdisk (package gdisk) is not installed")
	}
	grown, _ := example(8192).Grow(8 * mib)
	for name, table := range map[string]*Table{"new": example(16384), "grown": grown} {
		d := &memory{make([]byte, 8*mib), -1}
		if err := table.Store(d); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, d.b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "-v", "-p", file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") || !strings.Contains(string(out), "twinkeep-data") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// A power cut at any write of growing leaves a table that is read as the old
// one or the new one.
func TestGrowSurvivesPowerCuts(t *testing.T) {
	old := example(8192) // 4 MiB image on a disk of 64 MiB
	for cut := range 6 {
		d := &memory{make([]byte, 64*mib), -1}
		if err := old.Store(d); err != nil {
			t.Fatal(err)
		}
		before, err := Read(d, 64*mib)
		if err != nil {
			t.Fatal(err)
		}
		grown, changed := before.Grow(64 * mib)
		if !changed || grown.Partitions[1].Last != 63*mib/Sector-1 {
			t.Fatalf("grown to %+v", grown.Partitions)
		}
		d.left = cut
		if err := grown.Store(d); (err == nil) != (cut == 5) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		after, err := Read(d, 64*mib)
		if err != nil || !after.Equal(old) && !after.Equal(grown) {
			t.Errorf("cut after %d writes: %+v, %v", cut, after, err)
			continue
		}
		// The next boot finishes it.
		d.left = -1
		again, changed := after.Grow(64 * mib)
		if changed {
			if err := again.Store(d); err != nil {
				t.Fatal(err)
			}
		}
		if end, err := Read(d, 64*mib); err != nil || !end.Equal(grown) {
			t.Errorf("cut after %d writes and a boot: %+v, %v", cut, end, err)
		}
	}
	if _, changed := example(8192).Grow(4 * mib); changed {
		t.Error("grows although there is no room")
	}
}

func TestEncodeRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*Table){
		"overlap":     func(t *Table) { t.Partitions[1].First = 4000 },
		"want it":     func(t *Table) { t.Partitions[1].Last = 1 << 40 },
		"do not fit":  func(t *Table) { t.Sectors = 3 },
		"longer than": func(t *Table) { t.Partitions[0].Name = strings.Repeat("x", 37) },
	} {
		table := example(8192)
		spoil(table)
		if _, err := table.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	d := &memory{make([]byte, 70*Sector), -1}
	table := &Table{Sectors: 70, Partitions: []Partition{{Type: TypeESP, First: 34, Last: 35, Name: "x"}}}
	if err := table.Store(d); err != nil {
		f.Fatal(err)
	}
	f.Add(d.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(bytes.NewReader(b), int64(len(b)))
		if (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err == nil {
			got.Grow(int64(len(b)) * 4)
			got.Encode()
		}
	})
}
