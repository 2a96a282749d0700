package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
)

// TestJudgeData: the judge reads what is on a data partition, and finds what is missing.
func TestJudgeData(t *testing.T) {
	root := t.TempDir()
	s, err := store.OpenDir(filepath.Join(root, "policy"), 0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := policyRelease()
	if err != nil {
		t.Fatal(err)
	}
	a, err := artifact.ReadBundle(bytes.NewReader(v.Files[3].Data)) // revision 2
	if err == nil {
		err = s.Update([]*artifact.Artifact{a}, func(st *store.State) error { st.Current = a.Digest(); return nil })
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(root, "config"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "config/node.yaml"), []byte("# mark 3\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	partition := func() string {
		name := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, dataOffset+(16<<20)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	full, blank := partition(), partition()
	if out, err := exec.Command("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-E", fmt.Sprintf("offset=%d", dataOffset), full, "16m").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	node, policy := []mark{{Value: 3}}, []mark{{Value: 2}}
	for name, tt := range map[string]struct {
		disk string
		cut  cut
		want string
	}{
		"all there":      {full, cut{scene: &scene{Nodes: node, Policies: policy}}, ""},
		"an old policy":  {full, cut{scene: &scene{Nodes: node, Policies: []mark{{Value: 3}}}}, "policy 3 to 3 must be there, 2 is"},
		"an old node":    {full, cut{scene: &scene{Nodes: []mark{{Value: 4}}, Policies: policy}}, "node file 4 to 4 must be there, 3 is"},
		"not erased":     {full, cut{scene: &scene{Nodes: node, Policies: []mark{{Value: 2, MayBeLost: 1, MustBeLost: 5}}}, at: 5}, "policy 0 to 0 must be there, 2 is"},
		"blank, too bad": {blank, cut{scene: &scene{Nodes: node}}, "node file 3 to 3 must be there, 0 is"},
		"blank, fine":    {blank, cut{scene: &scene{}}, ""},
	} {
		_, err := tt.cut.judgeData(context.Background(), tt.disk, filepath.Join(t.TempDir(), "files"))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
