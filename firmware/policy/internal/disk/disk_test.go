package disk

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOS(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	f := OS(root)
	if err := f.MkdirAll("x/y"); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two"} {
		if err := WriteFile(f, "x/y/file", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.ReadFile("x/y/file", 3); err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	if _, err := f.ReadFile("x/y/file", 2); err == nil || !strings.Contains(err.Error(), "more than 2 bytes") {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := f.ReadFile("x/y/none", 2); !NotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	if names, err := f.List("x/y"); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("List: %v, %v; a temporary file may not stay", names, err)
	}
	if info, err := os.Stat(filepath.Join(root, "x/y/file")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := f.Remove("x/y/file"); err != nil {
		t.Error(err)
	}
	// A rename that cannot work leaves nothing behind.
	if err := f.MkdirAll("x/y/dir/full"); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(f, "x/y/dir", []byte("z")); err == nil {
		t.Error("a directory was replaced")
	}
	if names, _ := f.List("x/y"); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}
