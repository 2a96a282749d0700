package sim

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/tools/golden"
)

// TestTranscripts tells the stories of the documents from which the product grew (shared/seeds). The time lines in
// testdata/transcripts are for reading; a change in one is a change of the product's behaviour.
func TestTranscripts(t *testing.T) {
	for _, c := range []struct {
		name, about string
		members     int
		witnesses   int
		normal      int
		change      func(*cluster.Config)
		story       func(*teller)
	}{
		{name: "failover", about: "The active member loses its power; the standby takes over. It comes back and stays standby (mode active-up).", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("the power of gw-a fails")
				s.w.Node(1).PowerCut()
				s.run(2 * time.Second)
				s.say("gw-a boots again")
				s.w.Node(1).Boot()
				s.run(5 * time.Second)
			}},
		{name: "failback-primary-up", about: "Mode primary-up: the member with the highest priority takes the role back when it has been fit for a while.", members: 2, normal: 2,
			change: func(c *cluster.Config) { c.Mode = cluster.PrimaryUp },
			story: func(s *teller) {
				s.say("the power of gw-a fails")
				s.w.Node(1).PowerCut()
				s.run(2 * time.Second)
				s.say("gw-a boots again")
				s.w.Node(1).Boot()
				s.run(5 * time.Second)
			}},
		{name: "operator-failover", about: "The operator moves the role by hand, for ten minutes.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("cluster failover --for 10m, on gw-a")
				s.w.Node(1).Input(cluster.Deactivate{For: 10 * time.Minute})
				s.run(11 * time.Minute)
			}},
		{name: "link-of-the-active", about: "An interface of the active member loses its carrier: the fitter member takes over.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("G1 of gw-a is unplugged")
				s.w.Node(1).SetLink(0, false)
				s.run(2 * time.Second)
				s.say("G1 of gw-a is plugged in again")
				s.w.Node(1).SetLink(0, true)
				s.run(2 * time.Second)
			}},
		{name: "sync-cable", about: "The sync cable fails: both members see it. The active one goes on as Active Attention, the standby is down; nobody fails over for the sync interface alone.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("the sync cable is cut")
				s.w.Node(1).SetLink(2, false)
				s.w.Node(2).SetLink(2, false)
				s.run(2 * time.Second)
				s.say("the sync cable is mended")
				s.w.Node(1).SetLink(2, true)
				s.w.Node(2).SetLink(2, true)
				s.run(2 * time.Second)
			}},
		{name: "all-members-have-problems", about: "Every member has a problem: the one that is active goes on as Active Attention, for nobody is fitter.", members: 3, normal: 2,
			story: func(s *teller) {
				for id := uint8(3); id >= 1; id-- {
					s.say("a critical device of %s fails", gw(id))
					s.w.Node(id).Input(cluster.Device{Name: "routed", State: cluster.DeviceProblem, Text: "has not started"})
					s.run(time.Second)
				}
				s.say("that of gw-c recovers")
				s.w.Node(3).Input(cluster.Device{Name: "routed"})
				s.run(2 * time.Second)
			}},
		{name: "objective-node-present", about: "A witness judges (Fortinet's objective node): the pair is cut in two, gw-a alone on one side. The secondary takes over, the original primary accepts that when the cut is mended.", members: 2, witnesses: 1, normal: 2,
			change: func(c *cluster.Config) { c.Timing = voting },
			story: func(s *teller) {
				s.say("gw-a is cut off from gw-b and the witness")
				split(s.w, 3*time.Second, 1)
				s.run(2 * time.Second)
				s.say("(the cut lasts another second)")
				s.run(4 * time.Second)
			}},
		{name: "objective-node-absent", about: "Nobody judges: the pair is cut in two. Availability goes first, both are active until the cut is mended; then the better one stays, and announces again when the other is silent.", members: 2, normal: 2,
			story: func(s *teller) {
				s.w.AllowDual = true
				s.say("gw-a and gw-b are cut off from each other")
				split(s.w, 2*time.Second, 1)
				s.run(2 * time.Second)
				s.run(2 * time.Second)
			}},
		{name: "safety-mode", about: "Nobody judges, safety mode: after a power cut the survivor cannot know, and waits for the operator.", members: 2, normal: 2,
			change: func(c *cluster.Config) { c.Safety, c.Timing = true, voting },
			story: func(s *teller) {
				s.say("the power of gw-a fails")
				s.w.Node(1).PowerCut()
				s.run(10 * time.Second)
				s.say("ha -activate --force, on gw-b")
				s.w.Node(2).Input(cluster.Activate{Force: true})
				s.run(2 * time.Second)
				s.say("gw-a boots again")
				s.w.Node(1).Boot()
				s.run(5 * time.Second)
			}},
		{name: "five-interfaces-two-unlinked", about: "Five interfaces, two of them without a cable at both members: whoever notices first hands over, once; then both are equally unfit and it stays.", members: 2, normal: 5,
			story: func(s *teller) {
				s.say("G4 and G5 lose their carrier at both members")
				for _, i := range []int{3, 4} {
					s.w.Node(1).SetLink(i, false)
					s.w.Node(2).SetLink(i, false)
				}
				s.run(5 * time.Second)
			}},
		{name: "all-but-sync-down", about: "All interfaces but sync lose their carrier at the active member, one after the other.", members: 2, normal: 3,
			story: func(s *teller) {
				for i := range 3 {
					s.say("G%d of gw-a is unplugged", i+1)
					s.w.Node(1).SetLink(i, false)
					s.run(time.Second)
				}
			}},
		{name: "sync-only", about: "Only the sync interface still carries heartbeats, the others are cut in the network: both members are heard, nobody takes over.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("the network drops heartbeats on G1 and G2")
				for i := range 2 {
					s.w.Inject(Fault{At: Span(s.w.Now), For: Span(5 * time.Second), Kind: Cut, Member: 1, Peer: 2, Interface: i})
					s.w.Inject(Fault{At: Span(s.w.Now), For: Span(5 * time.Second), Kind: Cut, Member: 2, Peer: 1, Interface: i})
				}
				s.run(6 * time.Second)
			}},
		{name: "one-way", about: "gw-b stops hearing gw-a, which hears it: gw-a learns in time that its standby is about to take over, and steps down before.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("the path from gw-a to gw-b is cut")
				s.w.Inject(Fault{At: Span(s.w.Now), For: Span(2 * time.Second), Kind: Cut, Member: 1, Peer: 2, Interface: All})
				s.run(3 * time.Second)
			}},
		{name: "paused-active", about: "The active member's process is stopped for ten dead times: it comes back silent.", members: 2, normal: 2,
			story: func(s *teller) {
				s.say("gw-a is stopped (SIGSTOP) for 600 ms")
				s.w.Node(1).Pause(600 * time.Millisecond)
				s.run(3 * time.Second)
			}},
		{name: "lock-after-takeover", about: "Lock after an unplanned takeover: the new active member keeps the role until the operator clears the lock.", members: 2, normal: 2,
			change: func(c *cluster.Config) { c.Lock, c.Mode = true, cluster.PrimaryUp },
			story: func(s *teller) {
				s.say("the power of gw-a fails")
				s.w.Node(1).PowerCut()
				s.run(time.Second)
				s.say("gw-a boots again")
				s.w.Node(1).Boot()
				s.run(10 * time.Second)
				s.say("cluster clear-lock, on gw-b")
				s.w.Node(2).Input(cluster.ClearLock{})
				s.run(3 * time.Second)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := transcript(c.about, c.members, c.witnesses, c.normal, c.change, c.story)
			golden.Check(t, filepath.Join("testdata", "transcripts", c.name+".txt"), got)
			if strings.Contains(got, "VIOLATION") {
				t.Error(got)
			}
		})
	}
}

// teller writes a time line.
type teller struct {
	w *World
	b strings.Builder
}

func (s *teller) say(format string, args ...any) {
	fmt.Fprintf(&s.b, "\n%s  %s\n", at(s.w.Now), fmt.Sprintf(format, args...))
}

func (s *teller) run(d time.Duration) {
	s.w.Run(d)
	fmt.Fprintf(&s.b, "%s  = %s; gates open: %v\n", at(s.w.Now), s.w.States(), names(s.w.Open()))
}

func at(i cluster.Instant) string { return fmt.Sprintf("%10.3f s", time.Duration(i).Seconds()) }

func names(ids []uint8) (out []string) {
	for _, id := range ids {
		out = append(out, gw(id))
	}
	return out
}

func transcript(about string, members, witnesses, normal int, change func(*cluster.Config), story func(*teller)) string {
	s := &teller{w: empty(1, members, witnesses, normal, timing)}
	s.w.Net = Net{Delay: 100 * time.Microsecond}
	for _, n := range s.w.Nodes {
		if change != nil {
			change(&n.Config)
		}
		s.w.timing = n.Config.Timing
		s.w.quorum = n.Config.Quorum()
	}
	t := s.w.timing
	fmt.Fprintf(&s.b, "%s\n\n%d members, %d witnesses, %d interfaces and sync; heartbeat %v, lease %v, dead time %v; mode %v\n", about, members, witnesses, normal, t.Beat, t.Lease, t.Dead,
		s.w.Nodes[0].Config.Mode)
	s.w.start()
	s.w.Run(2 * time.Second)
	fmt.Fprintf(&s.b, "\n%s  = %s; gates open: %v\n", at(s.w.Now), s.w.States(), names(s.w.Open()))
	s.w.Trace = func(line string) {
		line = strings.TrimSpace(line)
		if _, text, ok := strings.Cut(line, "  "); ok {
			fmt.Fprintf(&s.b, "%s    %s\n", at(s.w.Now), strings.TrimSpace(text))
		}
	}
	story(s)
	return s.b.String()
}
