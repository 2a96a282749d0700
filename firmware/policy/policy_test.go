package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/tools/golden"
)

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func tell(problems []node.Problem, src []byte) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s\n%s", p.Error(), p.Excerpt(src))
	}
	return b.String()
}

// TestExample holds what the members make of the example.
func TestExample(t *testing.T) {
	data := read(t, "testdata/example.yaml")
	p, warnings, err := Parse("policy.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings:\n%s", tell(warnings, data))
	}
	for _, id := range []uint8{1, 2} {
		m, err := p.ForMember(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, fmt.Sprintf("testdata/example-%d.golden", id), string(text)+"\n")
	}
	if _, err := p.ForMember(3, nil); err == nil || err.Error() != "policy branch has no member 3: it has 1 (gw-a), 2 (gw-b)" {
		t.Errorf("member 3: %v", err)
	}
}

// TestBad holds what the administrator reads for every file in testdata/bad.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data := read(t, file)
			p, warnings, err := Parse("policy.yaml", data)
			var faults node.ErrorList
			if p != nil || !errors.As(err, &faults) {
				t.Fatalf("got %v, %v; want an ErrorList", p, err)
			}
			text := tell(faults, data)
			if len(warnings) > 0 {
				text += "warnings:\n" + tell(warnings, data)
			}
			golden.Check(t, strings.TrimSuffix(file, ".yaml")+".golden", text)
		})
	}
}

func TestWarnings(t *testing.T) {
	data := read(t, "testdata/warnings.yaml")
	_, warnings, err := Parse("policy.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/warnings.golden", tell(warnings, data))
}

// TestOverlay: the node file adds what only the box knows, and must be of the same cluster and member.
func TestOverlay(t *testing.T) {
	p, _, err := Parse("policy.yaml", read(t, "testdata/example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	nn := uint8(0x15)
	key := node.Key([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"))
	local := &node.Node{Board: "apu", Cluster: &node.Cluster{ID: 7, Member: 2, Key: key}, Interfaces: []node.Interface{{Name: "G2", Device: "eth1", NN: &nn}}}
	m, err := p.ForMember(2, local)
	if err != nil {
		t.Fatal(err)
	}
	g2 := m.Node.Interface("G2")
	if m.Node.Board != "apu" || m.Node.Cluster.Key != key || g2.Device != "eth1" || *g2.NN != nn || g2.Address.String() != "192.0.2.3/24" {
		t.Errorf("got %+v, interface %+v", m.Node, g2)
	}
	if f := m.Rules.Interface("eth1-vip"); f == nil || f.Name != "G2" {
		t.Errorf("the rules do not know eth1-vip: %+v", m.Rules.Interfaces)
	}
	for _, wrong := range []node.Cluster{{ID: 8, Member: 2}, {ID: 7, Member: 1}} {
		if _, err := p.ForMember(2, &node.Node{Cluster: &wrong}); err == nil {
			t.Errorf("node file of cluster %d, member %d was taken", wrong.ID, wrong.Member)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/bad/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := Parse("policy.yaml", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v with error %v", p, err)
		}
		var faults node.ErrorList
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("want an ErrorList, got %v", err)
		}
		for _, p := range faults {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Fatalf("no place or message: %+v", p)
			}
			p.Excerpt(data)
		}
		if p == nil {
			return
		}
		for _, m := range p.Cluster.Members {
			if _, err := p.ForMember(m.ID, nil); err != nil {
				t.Fatalf("member %d of a good policy: %v", m.ID, err)
			}
		}
	})
}

// TestSchema holds the published schema to the model, and the example to the schema.
func TestSchema(t *testing.T) {
	golden.Check(t, "../../docs/policy.schema.json", string(Schema()))
}
