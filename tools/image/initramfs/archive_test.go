package initramfs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// fill adds the same entries in two different orders.
func fill(t *testing.T, a *Archive, backwards bool) {
	t.Helper()
	steps := []func() error{
		func() error { return a.File("/bin/twinkeep", 0o755, bytes.Repeat([]byte("gateway"), 1000)) },
		func() error { return a.Symlink("/bin/ls", "/bbin/bb") },
		func() error { return a.Dir("/tmp", 0o1777) },
		func() error { return a.Char("/dev/console", 0o600, 5, 1) },
		func() error { return a.File("init", 0o755, []byte("init")) },
	}
	for i := range steps {
		if backwards {
			i = len(steps) - 1 - i
		}
		if err := steps[i](); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPackIsReproducible(t *testing.T) {
	var a, b Archive
	fill(t, &a, false)
	fill(t, &b, true)
	first, err := a.Pack()
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the order of adding changes the archive")
	}
	if d := a.Differences(&b); d != nil {
		t.Errorf("differences: %v", d)
	}
}

func TestContent(t *testing.T) {
	var a Archive
	fill(t, &a, false)
	packed, err := a.Pack()
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	raw, err := d.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name           string
		Mode           uint64
		Size           uint64
		Major, Minor   uint64
		MTime, UID, NN uint64
	}
	var got []entry
	for _, r := range records {
		got = append(got, entry{r.Name, r.Mode, r.FileSize, r.Rmajor, r.Rminor, r.MTime, r.UID, r.NLink})
	}
	want := []entry{
		{"bin", cpio.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 1},
		{"bin/ls", cpio.S_IFLNK | 0o777, 8, 0, 0, 0, 0, 1},
		{"bin/twinkeep", cpio.S_IFREG | 0o755, 7000, 0, 0, 0, 0, 1},
		{"dev", cpio.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 1},
		{"dev/console", cpio.S_IFCHR | 0o600, 0, 5, 1, 0, 0, 1},
		{"init", cpio.S_IFREG | 0o755, 4, 0, 0, 0, 0, 1},
		{"tmp", cpio.S_IFDIR | 0o1777, 0, 0, 0, 0, 0, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a.Size() != 7012 {
		t.Errorf("size %d", a.Size())
	}
}

func TestAddRefuses(t *testing.T) {
	var a Archive
	if err := a.File("/a", 0o644, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Dir("a/", 0o755); err == nil || !strings.Contains(err.Error(), "a is added twice") {
		t.Errorf("same name twice: %v", err)
	}
	if err := a.Dir("/", 0o755); err == nil {
		t.Error("no name: no error")
	}
}

func TestDifferences(t *testing.T) {
	var a, b Archive
	a.File("same", 0o644, []byte("x"))
	b.File("same", 0o644, []byte("x"))
	a.File("changed", 0o644, []byte("x"))
	b.File("changed", 0o644, []byte("y"))
	a.File("only in a", 0o644, nil)
	b.File("only in b", 0o644, nil)
	if diff := cmp.Diff([]string{"changed", "only in a", "only in b"}, a.Differences(&b)); diff != "" {
		t.Error(diff)
	}
}
