package console

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/member"
)

// TestCompleteOperatorCommands: what can follow is offered from what there is.
func TestCompleteOperatorCommands(t *testing.T) {
	f := newFakes(t)
	f.ha = judgedStatus()
	for args, want := range map[string][]string{
		"cluster interface":              {"G1", "G3"},
		"cluster interface G1":           {"heartbeat", "monitor"},
		"cluster interface G1 heartbeat": {"on", "off"},
		"cluster priority":               {"gw-a", "gw-b"},
		"cluster remove":                 {"gw-a", "gw-b"},
		"cluster remove gw-b":            {},
		"ha --activate --":               {"--force"},
	} {
		var out bytes.Buffer
		root := NewCommand(Options{Run: f.run})
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		words := append([]string{"__complete", "--run", f.run}, strings.Fields(args)...)
		if !strings.HasSuffix(args, "--") {
			words = append(words, "")
		}
		root.SetArgs(words)
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for line := range strings.Lines(out.String()) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("%s: %v, want %v", args, got, want)
			}
		}
		if len(want) == 0 && len(got) > 0 {
			t.Errorf("%s: %v, want nothing", args, got)
		}
	}
}

func TestListed(t *testing.T) {
	s := judgedStatus()
	for name, want := range map[string]uint8{"gw-a": 1, "1": 1, "gw-b": 2, "2": 2} {
		if id, _, err := listed(s, name); err != nil || id != want {
			t.Errorf("%s: %d, %v", name, id, err)
		}
	}
	for _, name := range []string{"gw-w", "9", "", "gw-z"} {
		if _, _, err := listed(s, name); err == nil {
			t.Errorf("%q is taken for a member", name)
		}
	}
	if got := nameOf(s, 9); got != "gw-w" {
		t.Errorf("member 9 is %q", got)
	}
	if got := nameOf(member.Status{}, 4); got != "member 4" {
		t.Errorf("an unknown member is %q", got)
	}
}
