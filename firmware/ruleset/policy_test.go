package ruleset

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/tools/golden"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

func loadPolicy(t testing.TB, file string) *Ruleset {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := policy.Parse(filepath.Base(file), data)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.ForMember(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Compile(m.Rules)
}

// policies to compile: the example of the policy and those made for this package.
func policies(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../policy/testdata/example.yaml")
}

// TestPolicy holds what the compiler makes of policies, and wants Apply and nft -f of the text to leave the same in the
// kernel.
func TestPolicy(t *testing.T) {
	for _, file := range policies(t) {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			r := loadPolicy(t, file)
			golden.Check(t, "testdata/policy/"+name[:len(name)-len("yaml")]+"nft", r.String())
			ns := netnslab.New(t)
			ns.Try(r.Apply)
			sameAsText(t, r, ns)
		})
	}
}
