package member

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTermIsRemembered(t *testing.T) {
	dir := t.TempDir()
	f, err := openTerm(dir)
	if err != nil || f.get() != 0 {
		t.Fatalf("new: term %d, %v", f.get(), err)
	}
	for term := range uint64(1000) { // faster than any disk: the newest counts
		f.keep(term)
	}
	f.close()
	f, err = openTerm(dir)
	if err != nil || f.get() != 999 {
		t.Errorf("after a restart: term %d, %v", f.get(), err)
	}
	f.close()
	entries, err := os.ReadDir(filepath.Join(dir, "ha"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestDamagedTerm(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "ha"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "x", "-1", "99999999999999999999999"} {
		if err := os.WriteFile(filepath.Join(dir, "ha", "term"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openTerm(dir)
		if err == nil || f.get() != 0 {
			t.Errorf("%q: term %d, %v", content, f.get(), err)
		}
		f.keep(5)
		f.close()
		if f, err = openTerm(dir); err != nil || f.get() != 5 {
			t.Errorf("%q: not replaced: term %d, %v", content, f.get(), err)
		}
		f.close()
	}
}

// TestTermWithoutDisk: a state directory that cannot be written costs nothing but the memory.
func TestTermWithoutDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openTerm(file)
	if err == nil {
		t.Error("no error for a state directory that is a file")
	}
	f.keep(1)
	f.close()
}
