package console

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/golden"
)

// judgedStatus is of a pair with a witness, locked after a takeover.
func judgedStatus() member.Status {
	s := activeStatus()
	s.Lock, s.Locked = true, "gw-b (2) is silent for 61ms on all interfaces"
	s.Quorum = &member.QuorumStatus{Voters: 3, Majority: 2, Support: 2, Vote: 1, Missing: "gw-b (2) silent"}
	s.Peers[0].Alive, s.Peers[0].State, s.Peers[0].Differs = false, "LOST", "timing.dead 80ms here, 60ms there"
	s.Witnesses = []member.WitnessStatus{{Member: 9, Name: "gw-w", Alive: true, State: "WITNESS", Vote: 1, LastHeard: 7 * ms, LastOn: "routed to gw-w"}}
	s.Paths = []member.PathStatus{{Name: "routed to gw-w", Remote: "203.0.113.9:999", Sent: 4012, Received: 3987, LastHeard: 7 * ms}}
	return s
}

// witnessStatus is the witness's own.
func witnessStatus() member.Status {
	return member.Status{
		ClusterID: 7, ClusterName: "branch", Member: 9, MemberName: "gw-w", State: "WITNESS", Reason: "judging", StateSince: 12_400 * ms, Mode: "active-up",
		Term: 4, Holder: 1, Quorum: &member.QuorumStatus{Voters: 3, Majority: 2, Vote: 1}, Failover: member.FailoverStatus{Since: -1},
		Peers: []member.PeerStatus{
			{Member: 1, Name: "gw-a", Alive: true, State: "ACTIVE", Term: 4, Priority: 120, InSync: true, LastHeard: 4 * ms, LastOn: "lan", Vote: 1},
			{Member: 2, Name: "gw-b", Alive: true, State: "STANDBY", Term: 4, Priority: 100, InSync: true, LastHeard: 2 * ms, LastOn: "lan", Vote: 1},
		},
	}
}

func takeover() member.Change {
	return member.Change{
		Ago: 95_000 * ms, What: "gw-b became active", Reason: "gw-a (1) is silent for 80.2ms on all interfaces (dead time 80ms), last heartbeat 4711 on G3", Term: 5, State: "ACTIVE!",
		Problems: []string{"interface G2: no carrier"}, Quorum: &member.QuorumStatus{Voters: 3, Majority: 2, Support: 2, Vote: 2},
		Timing: member.TimingStatus{Beat: 10 * ms, Lease: 30 * ms, Dead: 80 * ms},
		Peers: []member.PeerEvidence{
			{Member: 1, Name: "gw-a", State: "LOST", Last: 80*ms + ms/5, On: "G3", Gone: "gw-a (1) is silent for 80.2ms on all interfaces (dead time 80ms), last heartbeat 4711 on G3"},
			{Member: 9, Name: "gw-w", State: "WITNESS", Last: 3 * ms, On: "G1", Vote: "gw-b"},
			{Member: 3, Name: "gw-c", State: "LOST", Last: -1, Gone: "never heard"},
		},
	}
}

func TestFormatVotes(t *testing.T) {
	for name, write := range map[string]func(io.Writer){
		"ha-judged":             func(w io.Writer) { writeHA(w, judgedStatus()) },
		"ha-witness":            func(w io.Writer) { writeHA(w, witnessStatus()) },
		"cluster-state-judged":  func(w io.Writer) { writeCluster(w, judgedStatus()) },
		"cluster-state-witness": func(w io.Writer) { writeCluster(w, witnessStatus()) },
		"cluster-explain":       func(w io.Writer) { writeChange(w, takeover()) },
		"cluster-priority":      func(w io.Writer) { writePriorities(w, judgedStatus()) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			write(&out)
			golden.Check(t, "testdata/"+name+".golden", out.String())
		})
	}
}

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
