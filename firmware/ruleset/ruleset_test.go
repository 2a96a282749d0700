package ruleset

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/node"
)

var update = flag.Bool("update", false, "write the golden files")

func load(t *testing.T, file string) *Ruleset {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := node.Parse(file, data)
	if err != nil {
		t.Fatal(err)
	}
	return New(n)
}

func files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

func TestString(t *testing.T) {
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden := strings.TrimSuffix(file, ".yaml") + ".nft"
			got := load(t, file).String()
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	tests := []struct{ from, want string }{
		{"", ""},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"10.0.0.1/32", "10.0.0.1"},
		{"10.0.1.0/24 10.0.0.0/24", "10.0.0.0/23"},
		{"10.0.0.0/24 10.0.0.128/25 10.0.0.5/32", "10.0.0.0/24"},
		{"10.0.0.0/24 10.0.2.0/24", "10.0.0.0/24 10.0.2.0/24"},
		{"10.0.0.0/24 10.0.1.0/25", "10.0.0.0-10.0.1.127"},
		{"255.255.255.255/32 255.255.255.254/32", "255.255.255.254/31"},
		{"0.0.0.0/0", ""},
		{"128.0.0.0/1 0.0.0.0/1", ""},
	}
	for _, tt := range tests {
		var prefixes []netip.Prefix
		for _, p := range strings.Fields(tt.from) {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
		var got []string
		for _, e := range merge(prefixes) {
			got = append(got, e.text)
		}
		if diff := cmp.Diff(strings.Fields(tt.want), got, cmp.Transformer("join", func(s []string) string { return strings.Join(s, " ") })); diff != "" {
			t.Errorf("merge %s (-want +got):\n%s", tt.from, diff)
		}
	}
}
