package node

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestInForce(t *testing.T) {
	config, run := t.TempDir(), t.TempDir()
	file, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, FileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	plain, _, err := Load(config)
	if err != nil {
		t.Fatal(err)
	}
	if n, in, err := LoadRunning(config, run); err != nil || in != nil || !reflect.DeepEqual(n, plain) {
		t.Errorf("without a policy: %+v, %+v, %v", n, in, err)
	}
	nn := uint8(7)
	of := *plain
	of.Cluster = new(Cluster)
	*of.Cluster = *plain.Cluster
	of.Interfaces = append(of.Interfaces[:1:1], Interface{Number: 2, Name: "V20", Device: "V20", Zone: "dmz", NN: &nn, VLAN: &VLAN{Parent: "G1", ID: 20}})
	for _, in := range []*InForce{{Blocked: "no policy", Boot: "b", Supervisor: 4}, {Node: &of, Revision: 42, Digest: "sha256:00", Boot: "b"}} {
		if err := in.Save(run); err != nil {
			t.Fatal(err)
		}
		n, got, err := LoadRunning(config, run)
		want := plain
		if in.Node != nil {
			want = in.Node
		}
		if err != nil || !reflect.DeepEqual(got, in) || !reflect.DeepEqual(n, want) {
			t.Errorf("%+v, %+v, %v", n, got, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(run, InForceFile))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parseInForce(data); err != nil || !again.Node.Cluster.Key.IsZero() {
		t.Errorf("the key is in the file, or it does not read: %v", err)
	}
	of.Cluster.Member = 2
	if err := (&InForce{Node: &of}).Save(run); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadRunning(config, run); err == nil {
		t.Error("another member's policy is run")
	}
	if err := (*InForce)(nil).Save(run); err != nil {
		t.Fatal(err)
	}
	if in, err := LoadInForce(run); in != nil || err != nil {
		t.Errorf("taken away: %+v, %v", in, err)
	}
}

func FuzzInForce(f *testing.F) {
	f.Add([]byte(`{"node":{"version":1,"cluster":{"id":7,"member":1}},"revision":42,"boot":"x","supervisor":1}`))
	f.Add([]byte(`{"blocked":"no policy"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if in, err := parseInForce(data); err == nil && in.Node != nil && in.Node.Cluster == nil {
			t.Error("a node without a cluster")
		}
	})
}
