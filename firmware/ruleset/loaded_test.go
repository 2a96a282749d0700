package ruleset

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// TestNATLoaded: what Apply installs is there, and what is taken out is missed.
func TestNATLoaded(t *testing.T) {
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := load(t, file)
			ns := netnslab.New(t)
			check := func(want ...string) {
				t.Helper()
				var got Loaded
				ns.Try(func() (err error) { got, err = r.NAT(); return err })
				if text := strings.Join(got.Missing, "; "); len(got.Missing) != len(want) || len(want) == 1 && !strings.Contains(text, want[0]) {
					t.Errorf("missing %q, want %q", text, want)
				}
				if strings.Contains(r.String(), "nat/") != (got.Entries > 0) && strings.Contains(r.String(), "nat-") != (got.Entries > 0) {
					t.Errorf("%d entries", got.Entries)
				}
			}
			check("table " + Table)
			ns.Try(r.Apply)
			check()
			for _, ch := range r.chains {
				if natChain(ch) && len(ch.rules) > 0 {
					ns.Run("nft", "flush", "chain", "inet", Table, ch.name)
					check("chain " + ch.name)
					return
				}
			}
		})
	}
}
