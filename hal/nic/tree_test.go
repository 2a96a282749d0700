package nic

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// buildTree makes the sysfs that a manifest describes (testdata/README.md has the format) and returns its root.
func buildTree(t *testing.T, manifest string) string {
	t.Helper()
	root, dir := t.TempDir(), ""
	for i, line := range strings.Split(manifest, "\n") {
		path, isLink, text := "", false, ""
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "["):
			dir = strings.Trim(line, "[]")
			continue
		case strings.Contains(line, " -> "):
			path, text, _ = strings.Cut(line, " -> ")
			isLink = true
		case strings.Contains(line, " ="):
			path, text, _ = strings.Cut(line, " =")
			text = strings.TrimSpace(text) + "\n"
		default:
			t.Fatalf("manifest line %d: %q", i+1, line)
		}
		path = filepath.Join(root, dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if isLink {
			err = os.Symlink(text, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatalf("manifest line %d: %v", i+1, err)
		}
	}
	return root
}

// machine builds the tree of testdata/name.
func machine(t *testing.T, name string) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join("testdata", name, "tree.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return buildTree(t, string(manifest))
}

var record = flag.String("record", "", "sysfs `dir` that TestRecord writes to standard output as a manifest")

// TestRecord is the tool behind recorded trees; testdata/README.md says how to use it.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("a tool: runs with -record only")
	}
	fs, err := openSysfs(*record)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	link := func(path string) {
		if target, err := os.Readlink(filepath.Join(fs.root, path)); err == nil {
			fmt.Fprintf(out, "%s -> %s\n", path, target)
		}
	}
	file := func(path string) {
		if text, err := fs.read(path); err == nil {
			fmt.Fprintf(out, "%s = %s\n", path, text)
		}
	}
	names, err := fs.list("class/net")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, name := range names {
		link("class/net/" + name)
		dir, err := fs.resolve("class/net/" + name)
		if err != nil {
			continue
		}
		for _, attr := range []string{"address", "dev_port", "type"} {
			file(dir + "/" + attr)
		}
		link(dir + "/device")
		link(dir + "/phy80211")
		device, err := fs.resolve(dir + "/device")
		if err != nil {
			continue
		}
		for d := device; filepath.Base(d) != "devices" && !seen[d]; d = filepath.Dir(d) {
			seen[d] = true
			for _, attr := range []string{"vendor", "device"} {
				file(d + "/" + attr)
			}
			link(d + "/driver")
			link(d + "/physfn")
		}
	}
}
