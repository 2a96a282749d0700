package standing

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	r41 = Mark{41, "aaaaaaaaaaaaaaaa"}
	r42 = Mark{42, "bbbbbbbbbbbbbbbb"}
	r43 = Mark{43, "cccccccccccccccc"}
)

func at(d time.Duration, in Input) Input { in.Now = d; return in }

func peers(p ...Peer) []Peer {
	for i := range p {
		p[i].Name = "gw-" + string(rune('b'+i))
	}
	return p
}

// step is one moment of a story.
type step struct {
	at       time.Duration
	in       Input
	eligible bool
	why      string
	recover  bool
}

func TestStories(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	active := func(m Mark) []Peer { return peers(Peer{Active: true, Mark: m}) }
	standby := func(m Mark) []Peer { return peers(Peer{Mark: m}) }
	for name, story := range map[string][]step{
		"a member alone": {
			{0, Input{Deaf: true, Why: "looking"}, false, "looking", false},
			{1 * s, Input{Ours: r42, Deaf: true}, false, "listening", false},
			{2 * s, Input{Ours: r42}, true, "", false},
		},
		"both at once, one slower": {
			{0, Input{Ours: r42, Peers: peers(Peer{Idle: true})}, false, "waiting a moment", false},
			{1 * s, Input{Ours: r42, Peers: standby(r43)}, false, "gw-b runs revision 43", true},
			{2 * s, Input{Ours: r42, Peers: active(r43)}, false, "gw-b runs revision 43", true},
			{3 * s, Input{Ours: r43, Peers: active(r43)}, true, "", false},
		},
		"a peer that never finds one": {
			{0, Input{Ours: r42, Peers: peers(Peer{Idle: true})}, false, "waiting a moment", false},
			{4 * s, Input{Ours: r42, Peers: peers(Peer{Idle: true})}, true, "", false},
		},
		"an install, one after the other": {
			{0, Input{Ours: r42, Peers: active(r42)}, true, "", false},
			{10 * s, Input{Ours: r42, Peers: active(r43)}, true, "", false},
			{11 * s, Input{Ours: r43, Peers: active(r43)}, true, "", false},
		},
		"a slow switch of an install": {
			{0, Input{Ours: r42, Peers: active(r42)}, true, "", false},
			{10 * s, Input{Ours: r42, Peers: active(r43), Switching: r43}, true, "", false},
			{30 * s, Input{Ours: r42, Peers: active(r43), Switching: r43}, true, "", false},
			{31 * s, Input{Ours: r42, Peers: active(r43)}, false, "revision 43", true},
		},
		"rejected, and the active one dies": {
			{0, Input{Ours: r42, Peers: active(r42)}, true, "", false},
			{10 * s, Input{Ours: r42, Peers: active(r43)}, true, "", false},
			{13 * s, Input{Ours: r42, Peers: active(r43)}, false, "revision 43", true},
			{14 * s, Input{Ours: r42, Peers: peers(Peer{Active: true, Mark: r43, Heard: 10 * s})}, false, "revision 43", false},
			{99 * s, Input{Ours: r42}, false, "revision 43", false},
			{100 * s, Input{Ours: Mark{44, "d"}}, true, "", false},
		},
		"the holder rejects": {
			{0, Input{Ours: r42, Holder: true, Peers: standby(r42)}, true, "", false},
			{10 * s, Input{Ours: r42, Holder: true, Left: r43, Peers: standby(r43)}, false, "the cluster runs revision 43", false},
			{11 * s, Input{Ours: r42, Left: r43, Peers: active(r43)}, false, "revision 43", true},
			{12 * s, Input{Ours: r43, Peers: active(r43)}, true, "", false},
		},
		"beside a holder that rejects": {
			{0, Input{Ours: r42, Peers: active(r42)}, true, "", false},
			{10 * s, Input{Ours: r43, Peers: peers(Peer{Active: true, Mark: r42, Refused: true})}, true, "", false},
			{20 * s, Input{Ours: r43, Peers: peers(Peer{Active: true, Mark: r42, Refused: true})}, true, "", false},
		},
		"the holder rejected, and the cluster has gone back": {
			{0, Input{Ours: r42, Left: r43, Peers: active(r43)}, false, "revision 43", true},
			{1 * s, Input{Ours: r42, Left: r43, Peers: active(r42)}, true, "", false},
			{9 * s, Input{Ours: r42, Left: r43}, true, "", false},
		},
		"rejected before a restart": {
			{0, Input{Ours: r42, Left: r43}, false, "the cluster runs revision 43", false},
		},
		"rejected, and the cluster goes back": {
			{0, Input{Ours: r42, Peers: active(r42)}, true, "", false},
			{10 * s, Input{Ours: r42, Peers: active(r43)}, true, "", false},
			{13 * s, Input{Ours: r42, Peers: active(r43)}, false, "revision 43", true},
			{14 * s, Input{Ours: r42, Peers: active(r42)}, true, "", false},
		},
		"the holder goes by itself": {
			{0, Input{Ours: r42, Holder: true, Peers: standby(r43)}, true, "", false},
			{9 * s, Input{Ours: r42, Holder: true, Peers: active(r43)}, true, "", false},
		},
		"a peer without a policy of its own": {
			{0, Input{Ours: r42, Peers: peers(Peer{Active: true})}, true, "", false},
		},
		"the HA settings have changed": {
			{0, Input{Ours: r41, Peers: active(r41)}, true, "", false},
			{-1, Input{}, false, "", false},
			{500 * ms, Input{Ours: r42, Deaf: true}, false, "listening", false},
			{900 * ms, Input{Ours: r42}, false, "listening", false},
			{1100 * ms, Input{Ours: r42, Peers: peers(Peer{Active: true, Mark: r41, Heard: 2 * s})}, false, "revision 41", true},
			{1200 * ms, Input{Ours: r42, Peers: active(r42)}, true, "", false},
		},
		"no policy, and a peer gets one": {
			{0, Input{Why: "nothing anywhere"}, false, "nothing anywhere", false},
			{1 * s, Input{Why: "nothing anywhere", Peers: active(r42)}, false, "nothing anywhere", true},
			{2 * s, Input{Ours: r42, Peers: active(r42)}, true, "", false},
		},
		"hold, until the active one is gone": {
			{0, Input{Hold: "unsynced", Peers: active(r41)}, false, "unsynced", false},
			{1 * s, Input{Hold: "unsynced", Peers: active(r41)}, false, "unsynced", false},
			{2 * s, Input{Hold: "unsynced", Deaf: true}, false, "unsynced", false},
			{3 * s, Input{Hold: "unsynced"}, false, "unsynced", true},
			{4 * s, Input{Ours: r42}, true, "", false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m Machine
			for _, c := range story {
				if c.at < 0 {
					m.Unsettle(0, time.Second)
					continue
				}
				v := m.Step(at(c.at, c.in))
				if v.Eligible != c.eligible || v.Recover != c.recover || !strings.Contains(v.Why, c.why) || c.eligible != (v.Why == "") {
					t.Fatalf("at %v: %+v; want eligible %v, %q, recover %v", c.at, v, c.eligible, c.why, c.recover)
				}
			}
		})
	}
}

// TestNeverByAnother: whatever happens, nobody holds the role without a policy, while waiting for the operator, or for
// longer than an install takes beside an active member that runs another one.
func TestNeverByAnother(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		marks := []Mark{{}, r41, r42, r43}
		var m Machine
		in := Input{Ours: marks[r.IntN(4)]}
		beside := time.Duration(-1) // since when another one is active with another policy
		for now := time.Duration(0); now < 30*time.Second; now += 250 * time.Millisecond {
			switch r.IntN(12) {
			case 0:
				in.Ours = marks[r.IntN(4)]
			case 1:
				in.Holder = !in.Holder
			case 2:
				in.Hold = []string{"", "unsynced"}[r.IntN(2)]
			case 3:
				in.Peers = peers(Peer{Active: r.IntN(2) == 0, Idle: r.IntN(2) == 0, Mark: marks[r.IntN(4)], Heard: time.Duration(r.IntN(6)-1) * time.Second})
			case 4:
				in.Deaf = r.IntN(3) == 0
			case 5:
				in.Left = marks[r.IntN(4)]
			case 6:
				m.Unsettle(now, time.Duration(r.IntN(3000))*time.Millisecond)
			}
			in.Now = now
			other := !in.Holder && len(in.Peers) > 0 && in.Peers[0].heard() && in.Peers[0].Active && in.Peers[0].Mark != (Mark{}) && in.Peers[0].Mark != in.Ours
			if !other {
				beside = -1
			} else if beside < 0 {
				beside = now
			}
			v := m.Step(in)
			switch {
			case !v.Eligible:
			case in.Ours == (Mark{}), in.Hold != "":
				t.Fatalf("seed %d at %v: eligible with %+v", seed, now, in)
			case other && now-beside > Patience+time.Second:
				t.Fatalf("seed %d at %v: eligible beside another policy since %v: %+v", seed, now, beside, in)
			}
		}
	}
}

// TestMissedIsKept: what a member has missed, its next life knows, until the cluster or the member says otherwise.
func TestMissedIsKept(t *testing.T) {
	const s = time.Second
	active := func(m Mark) []Peer { return peers(Peer{Active: true, Mark: m}) }
	var first Machine
	first.Step(at(0, Input{Ours: r42, Peers: active(r42)}))
	first.Step(at(10*s, Input{Ours: r42, Peers: active(r43)}))
	if missed, _ := first.Missed(); missed != (Mark{}) {
		t.Errorf("missed %v while an install may be under way", missed)
	}
	first.Step(at(13*s, Input{Ours: r42, Peers: active(r43)}))
	missed, who := first.Missed()
	if missed != r43 || who != "gw-b" {
		t.Fatalf("missed %v, %q", missed, who)
	}
	for name, c := range map[string]struct {
		in       Input
		eligible bool
	}{
		"alone":                          {Input{Ours: r42}, false},
		"beside one that has it neither": {Input{Ours: r42, Peers: peers(Peer{Mark: r42})}, false},
		"the cluster went back":          {Input{Ours: r42, Peers: active(r42)}, true},
		"it has it by now":               {Input{Ours: r43}, true},
		"it has none yet":                {Input{Why: "looking"}, false},
	} {
		var next Machine
		next.Recall(missed, who)
		next.Step(at(0, c.in))
		v := next.Step(at(10*s, c.in))
		kept, _ := next.Missed()
		if v.Eligible != c.eligible || (kept == Mark{}) != c.eligible {
			t.Errorf("%s: %+v, missed %v", name, v, kept)
		}
	}
}
