package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/license"
)

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := In(dir)
	if file, err := s.Licence(); file != nil || err != nil {
		t.Errorf("licence in an empty store: %q %v", file, err)
	}
	if l, err := s.Ledger(); l != (license.Ledger{}) || err != nil {
		t.Errorf("ledger in an empty store: %+v %v", l, err)
	}
	want := license.Ledger{Boot: "b", Demo: time.Minute, Seen: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	for range 2 { // the second time over the first
		if err := s.PutLicence([]byte("text")); err != nil {
			t.Fatal(err)
		}
		if err := s.PutLedger(want); err != nil {
			t.Fatal(err)
		}
	}
	if file, err := s.Licence(); string(file) != "text" || err != nil {
		t.Errorf("licence %q %v", file, err)
	}
	if l, err := In(dir).Ledger(); l != want || err != nil {
		t.Errorf("ledger %+v %v", l, err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "license", "*")); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
	if err := s.RemoveLicence(); err != nil {
		t.Error(err)
	}
	if err := s.RemoveLicence(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if file, _ := s.Licence(); file != nil {
		t.Error("the licence is still there")
	}
}

func TestDamagedLedger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "license", ledgerName)
	os.MkdirAll(filepath.Dir(path), 0o755)
	for _, data := range [][]byte{nil, []byte("{"), bytes.Repeat([]byte(" "), 10000), []byte(`{"demo_ns": -5}`)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := In(dir).Ledger(); err == nil || l != license.Damaged() {
			t.Errorf("%.20q: %+v, %v", data, l, err)
		}
	}
}

// TestUnwritable: what cannot be kept is said.
func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "license"), nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	if err := In(dir).PutLicence([]byte("text")); err == nil {
		t.Error("written into a file")
	}
	if err := In("").PutLicence([]byte("text")); err == nil {
		t.Error("written without a folder")
	}
	if err := In("").PutLedger(license.Ledger{}); err != nil {
		t.Error(err)
	}
}
