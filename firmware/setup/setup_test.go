package setup

import (
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
)

var nics = []NIC{{"G1", "52:54:00:00:00:01", false}, {"G2", "52:54:00:00:00:02", true}, {"G3", "52:54:00:00:00:03", true}}

const key = "bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE="

func TestGolden(t *testing.T) {
	w := New(nics, false)
	for _, tt := range []struct{ answer, err string }{
		{"9", "not a number from 1 to 8"}, {"2", ""},
		{"1", "not a number from 2 to 8"}, {"", ""},
		{"", "an answer is needed"}, {"256", "from 1 to 255"}, {" 7 ", ""},
		{"short", "these are 5"}, {key, ""},
		{"G9", "there is no interface"}, {"", ""}, // G2 has a link
		{"192.168.1.3", "is not an IPv4 address with the length"}, {"192.168.1.3/31", "broadcast"}, {"192.168.1.3/24", ""},
		{"G2", "is the registration interface"}, {"", ""},
	} {
		q, more := w.Question()
		if !more {
			t.Fatal("too early at an end")
		}
		if err := w.Answer(tt.answer); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s %q: %v, want %q", q.Text, tt.answer, err, tt.err)
		}
	}
	if _, more := w.Question(); more {
		t.Error("there are more questions")
	}
	const want = `# Made by the first setup.
version: 1
hostname: gw-2
board: auto
cluster:
  id: 7
  name: cluster-7
  member: 2
  key: bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=
  members:
    - {id: 1, name: gw-1, priority: 120}
    - {id: 2, name: gw-2, priority: 110}
registration: G2
interfaces:
  - {name: G2, zone: lan, address: 192.168.1.3/24}
  - {name: G3, sync: true, address: 169.254.7.2/24}
`
	if got := string(w.NodeFile()); got != want {
		t.Errorf("%s", got)
	}
	if s := w.Summary(); strings.Contains(s, key) || !strings.Contains(s, "Member 2 of 2 in cluster 7") {
		t.Error(s)
	}
}

// TestKeyIsMade: every device that makes a key makes another one, and keeps it when the questions come again.
func TestKeyIsMade(t *testing.T) {
	a, b := New(nics, false), New(nics, false)
	for _, w := range []*Wizard{a, b} {
		for _, s := range []string{"", "", "1", ""} {
			if err := w.Answer(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := a.Key
	a.Again()
	for _, s := range []string{"", "", "1", ""} {
		a.Answer(s)
	}
	if a.Key == b.Key || a.Key != first || !a.Made || len(a.Key) != 44 {
		t.Errorf("%q, %q, %q", first, a.Key, b.Key)
	}
}

// FuzzAnswers: whatever is answered, what comes out at the end is a node file that checks.
func FuzzAnswers(f *testing.F) {
	f.Add("2", "", "7", key, "", "192.168.1.3/24", "")
	f.Add("1", "8", "255", "", "G1", "10.0.0.1/8", "none")
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, h string) {
		w := New(nics, false)
		for _, s := range []string{a, b, c, d, e, g, h} {
			if w.Answer(s) != nil {
				return
			}
		}
		n, _, err := node.Parse(node.FileName, w.NodeFile())
		if err != nil || n.Cluster.Member != w.Member || n.Registration != w.Registration {
			t.Errorf("%v\n%s", err, w.NodeFile())
		}
	})
}
