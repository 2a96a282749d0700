package pair

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

var update = os.Getenv("UPDATE") != "" // rewrites the golden files; commit only what you understand

// TestConfigs compares what is handed to the systems with files that an engineer can read.
func TestConfigs(t *testing.T) {
	for name, got := range map[string]string{
		"keepalived-a.conf": keepalivedConfig(0, "/run/bench/notify"),
		"keepalived-b.conf": keepalivedConfig(1, "/run/bench/notify"),
		"conntrackd-a.conf": conntrackdConfig(0, "/run/bench/lock", "/run/bench/ctl"),
		"conntrackd-b.conf": conntrackdConfig(1, "/run/bench/lock", "/run/bench/ctl"),
		"notify":            notifyConfig("/run/bench/conntrackd.conf"),
		"rules.nft":         nftRules(),
		"node-a.yaml":       nodeFile(0, Profiles[0]),
		"node-b.yaml":       nodeFile(1, Profiles[1]),
	} {
		path := filepath.Join("testdata", name)
		if update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestNodeFile lets the product judge the node files: no problem, no warning.
func TestNodeFile(t *testing.T) {
	for _, p := range Profiles {
		for i := range topology.Members {
			n, warnings, err := node.Parse("node.yaml", []byte(nodeFile(i, p)))
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%s, member %d: %v %v", p.Name, i+1, err, warnings)
			}
			if n.Cluster == nil || n.Cluster.Timing.Lease != p.Lease {
				t.Errorf("%s, member %d: not read as meant", p.Name, i+1)
			}
		}
	}
}

func TestKeepalivedCountsAcrossRestarts(t *testing.T) {
	k := NewKeepalived(t.TempDir())
	lab := &topology.Lab{}
	for i := range lab.Gateways {
		lab.Gateways[i] = &topology.Gateway{Index: i, Name: []string{"gw-a", "gw-b"}[i]}
	}
	if n := k.Takeovers(lab); n != 0 {
		t.Errorf("%d takeovers before the start", n)
	}
	log := strings.Join([]string{"(wan) Entering MASTER STATE", "(lan) Entering BACKUP STATE", "(lan) Entering MASTER STATE", ""}, "\n")
	if err := k.write(lab.Gateways[1], keepalivedLog, log, 0o644); err != nil {
		t.Fatal(err)
	}
	k.past = 3
	if n := k.Takeovers(lab); n != 4 {
		t.Errorf("%d takeovers, want 3 of the past and 1 of now", n)
	}
}
