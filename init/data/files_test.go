package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/gpt"
)

// torn is a disk that loses its power: of what was written since the last Sync, any sectors may be there.
type torn struct {
	b     []byte
	cache []piece
	left  int // writes and syncs until the power goes
}

type piece struct {
	off int64
	p   []byte
}

var errPower = errors.New("the power goes")

func (m *torn) WriteAt(p []byte, off int64) (int, error) {
	if m.left--; m.left < 0 {
		return 0, errPower
	}
	m.cache = append(m.cache, piece{off, bytes.Clone(p)})
	return len(p), nil
}

func (m *torn) Sync() error {
	if m.left--; m.left < 0 {
		return errPower
	}
	m.settle(func() bool { return true })
	return nil
}

func (m *torn) settle(survives func() bool) {
	for _, w := range m.cache {
		for o := 0; o < len(w.p); o += gpt.Sector {
			if survives() {
				copy(m.b[w.off+int64(o):], w.p[o:o+gpt.Sector])
			}
		}
	}
	m.cache = nil
}

// Whatever of its writes reaches the disk, a power cut while the file system is created leaves what was there before, a partition that is known to
// be unfinished, or one that is whole. What was there before is a file system too at a factory reset.
func TestTemplateSurvivesPowerCuts(t *testing.T) {
	fs := func(fill byte) []byte {
		b := bytes.Repeat([]byte{fill}, 4*block)
		clear(b[:superblock])
		b[sMagic], b[sMagic+1], b[sState] = 0x53, 0xef, 1
		return b
	}
	template := fs(0x5a)
	r := rand.New(rand.NewPCG(1, 2))
	seen := make(map[Condition]int)
	for _, before := range [][]byte{make([]byte, 4*block), fs(0x77)} {
		for cut := range 10 {
			for _, keep := range []float64{0, 0.1, 0.5, 0.9, 1} {
				m := &torn{b: bytes.Clone(before), left: cut}
				err := writeTemplate(m, template)
				if err == nil {
					err = markFinished(m)
				}
				if (err == nil) != (cut == 9) {
					t.Fatalf("cut %d: %v", cut, err)
				}
				m.settle(func() bool { return r.Float64() < keep })
				got := Inspect(m.b[:HeadSize])
				seen[got]++
				if got != Unfinished && !bytes.Equal(m.b, template) && !bytes.Equal(m.b, before) {
					t.Errorf("cut after %d steps, %.0f %% kept: %v, and it is neither the old one nor the new one", cut, keep*100, got)
				}
			}
		}
	}
	if seen[Unfinished] < 50 || seen[Clean] == 0 || seen[Blank] == 0 {
		t.Errorf("seen %v", seen)
	}
	if err := writeTemplate(&torn{b: make([]byte, block), left: 9}, template[:100]); err == nil {
		t.Error("a template that is cut short is written")
	}
}

func TestTryOut(t *testing.T) {
	dir := t.TempDir()
	if err := tryOut(dir); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for err, want := range map[error]bool{unix.EUCLEAN: true, unix.EBADMSG: true, unix.ENOSPC: false, unix.EIO: false, unix.EROFS: false} {
		if got := inconsistent(errors.Join(&os.PathError{Op: "sync", Path: "x", Err: err}, os.ErrNotExist)); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
	if inconsistent(nil) {
		t.Error("no error is one")
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

// windows is a FAT file system as Windows leaves it, with the label in the root directory only.
func windows(fat32 bool) []byte {
	b := make([]byte, 64<<10)
	le := binary.LittleEndian
	le.PutUint16(b[11:], 512)
	b[13], b[16] = 2, 2 // sectors of a cluster, FATs
	le.PutUint16(b[14:], 4)
	root := (4 + 2*3) * 512
	if fat32 {
		le.PutUint32(b[36:], 3)
		le.PutUint32(b[44:], 5) // the root directory begins in the fourth cluster
		root += 3 * 2 * 512
		copy(b[71:], "NO NAME    FAT32   ")
	} else {
		le.PutUint16(b[22:], 3)
		le.PutUint16(b[17:], 64)
		copy(b[43:], "NO NAME    FAT16   ")
	}
	b[510], b[511] = 0x55, 0xaa
	entry := func(i int, name string, attr byte) {
		copy(b[root+32*i:], name)
		b[root+32*i+11] = attr
	}
	entry(0, "\xe5LDNAME    ", 0x08) // removed
	entry(1, "An.o.d.e...", 0x0f)    // part of a long name
	entry(2, "NODE    YAM", 0x20)
	entry(3, "TWKCONFIG  ", 0x08)
	return b
}

func FuzzLabel(f *testing.F) {
	f.Add(windows(true))
	f.Add(windows(false)[:6000])
	f.Fuzz(func(t *testing.T, b []byte) { label(bytes.NewReader(b)) })
}

func TestLabel(t *testing.T) {
	fat32, fat16 := make([]byte, 512), make([]byte, 512)
	copy(fat32[71:], "TWKCONFIG  FAT32   ")
	copy(fat16[43:], "TWKCONFIG  FAT16   ")
	for _, b := range [][]byte{fat32, fat16} {
		if label(bytes.NewReader(b)) != "" {
			t.Error("a sector without its signature is taken for FAT")
		}
		b[510], b[511] = 0x55, 0xaa
		if got := label(bytes.NewReader(b)); got != DriveLabel {
			t.Errorf("label %q", got)
		}
	}
	for _, fat32 := range []bool{false, true} {
		if got := label(bytes.NewReader(windows(fat32))); got != DriveLabel {
			t.Errorf("FAT32 %v, label in the root directory: %q", fat32, got)
		}
	}
	if label(bytes.NewReader(nil)) != "" || label(bytes.NewReader(append(make([]byte, 510), 0x55, 0xaa))) != "" {
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
