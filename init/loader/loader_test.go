package loader

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if i, err := Read(dir); err != nil || i != (Info{}) {
		t.Errorf("no variables: %+v, %v", i, err)
	}
	put := func(name, s string) {
		b := []byte{6, 0, 0, 0}
		for _, c := range []byte(s) {
			b = append(b, c, 0)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+vendor), append(b, 0, 0), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("LoaderEntrySelected", "b.conf")
	put("LoaderDevicePartUUID", "5E8B7C0A-1111-4222-8333-444455556666")
	put("LoaderBootCountPath", `\loader\entries\b+0-1.conf`)
	want := Info{"b.conf", "5e8b7c0a-1111-4222-8333-444455556666", "/loader/entries/b+0-1.conf"}
	if i, err := Read(dir); err != nil || i != want {
		t.Errorf("%+v, %v", i, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LoaderEntrySelected-"+vendor), []byte{1}, 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := Read(dir); err == nil || i.Entry != "" || i.Partition == "" {
		t.Errorf("cut short: %+v, %v", i, err)
	}
}
