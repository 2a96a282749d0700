package sysctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestApply(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/G1.7/rp_filter"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, f), []byte("0\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "kernel/panic"), 0o755); err != nil { // not a file
		t.Fatal(err)
	}
	failures := Apply(root, []Param{
		{"net.ipv4.missing", "1", false},
		{"net.ipv4.optional", "1", true},
		{"kernel.panic", "10", true},
		{"net.ipv4.ip_forward", "1", false},
		{"net.ipv4.conf.G1/7.rp_filter", "2", false},
	})
	var got []string
	for _, f := range failures {
		got = append(got, f.Param.Key)
	}
	if diff := cmp.Diff([]string{"net.ipv4.missing", "kernel.panic"}, got); diff != "" {
		t.Error(diff)
	}
	for f, want := range map[string]string{"net/ipv4/ip_forward": "1\n", "net/ipv4/conf/G1.7/rp_filter": "2\n"} {
		if b, _ := os.ReadFile(filepath.Join(root, f)); string(b) != want {
			t.Errorf("%s is %q, want %q", f, b, want)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "net/ipv4/missing")); err == nil {
		t.Error("a missing parameter was created")
	}
}

func TestConntrack(t *testing.T) {
	const mib = 1 << 20
	for memory, want := range map[uint64]string{
		0:          "65536",
		256 * mib:  "83886",
		1024 * mib: "335544",
		1 << 40:    "2097152",
	} {
		for _, p := range Conntrack(memory) {
			if p.Value != want {
				t.Errorf("%d bytes: %s=%s, want %s", memory, p.Key, p.Value, want)
			}
		}
	}
}

func TestTablesNameEachKeyOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, table := range [][]Param{Network, Machine, Conntrack(0)} {
		for _, p := range table {
			if seen[p.Key] || p.Value == "" {
				t.Errorf("%s=%q: twice, or without a value", p.Key, p.Value)
			}
			seen[p.Key] = true
		}
	}
}
