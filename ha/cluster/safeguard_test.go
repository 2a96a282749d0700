package cluster

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// scene is one machine whose peers speak by the test's words. It shows what one safeguard does by itself: in whole clusters others often stand behind it, so
// that no history can tell whether it is there (ha/sim, TestMutations).
type scene struct {
	*testing.T
	m   *Machine
	now Instant
	seq map[uint8]uint64
}

// set starts the machine of the given ID, four members, the first with the highest priority, after its time of listening.
func set(t *testing.T, self uint8, change func(*Config)) *scene {
	t.Helper()
	cfg := testConfig()
	cfg.Self = self
	cfg.Members = []Member{{ID: 1, Priority: 140}, {ID: 2, Priority: 130}, {ID: 3, Priority: 120}, {ID: 4, Priority: 110}}
	if change != nil {
		change(&cfg)
	}
	return &scene{T: t, m: machine(t, cfg), seq: map[uint8]uint64{}}
}

// witnessed is a change for set: a witness judges, so the role takes a majority.
func witnessed(c *Config) {
	c.Witnesses = []Member{{ID: 9}}
	c.Timing = Timing{Beat: 10 * time.Millisecond, Lease: 30 * time.Millisecond, Dead: 80 * time.Millisecond, Silence: 500 * time.Millisecond}
}

// hear is a heartbeat of a member in the state and with the flags given; it echoes all that the machine has said. It reaches the machine a moment after
// the last input.
func (s *scene) hear(id uint8, state wire.State, flags wire.Flags, change func(*wire.Beat)) []Action {
	s.Helper()
	s.now++
	s.seq[id]++
	b := wire.Beat{Version: 1, Cluster: s.m.cfg.Cluster, Member: id, State: state, Interface: 1, NN: 1, Nonce: 100 + uint64(id), Seq: s.seq[id], Flags: flags, Priority: s.m.cfg.priorityOf(id),
		Heard: []wire.Heard{{Member: s.m.cfg.Self, Nonce: s.m.cfg.Nonce, Seq: s.m.seq}}}
	if change != nil {
		change(&b)
	}
	return s.m.Step(s.now, BeatReceived{Interface: 0, Beat: b})
}

func (c *Config) priorityOf(id uint8) uint8 {
	for _, m := range c.Members {
		if m.ID == id {
			return m.Priority
		}
	}
	return 0
}

// run lets time pass, and lets say speak for the peers once a beat; it returns when the machine took the role, Never if it did not.
func (s *scene) run(d time.Duration, say func()) (took Instant) {
	took = Never
	for end, next := s.now.Add(d), s.now; s.now < end; s.now = min(end, next, max(s.m.Deadline(), s.now+1)) {
		if s.now >= next {
			next = s.now.Add(s.m.cfg.Timing.Beat)
			if say != nil {
				say()
			}
		}
		if s.m.Step(s.now, Tick{}); took == Never && s.m.Holds() {
			took = s.now
		}
	}
	return took
}

func opens(actions []Action) bool {
	for _, a := range actions {
		if x, ok := a.(Send); ok && x.Beat.Order == wire.Open {
			return true
		}
	}
	return false
}

func announces(actions []Action) bool {
	for _, a := range actions {
		if _, ok := a.(Announce); ok {
			return true
		}
	}
	return false
}

// active brings the machine to the role, alone.
func (s *scene) active() {
	s.Helper()
	s.run(s.m.cfg.Timing.Silence+10*s.m.cfg.Timing.Dead, nil)
	if !s.m.Holds() {
		s.Fatalf("a member alone is %s: %s", s.m.state, s.m.reason)
	}
}

// listened lets the machine listen to the end while a member holds the role.
func (s *scene) listened(holder uint8, others ...uint8) {
	s.Helper()
	s.run(2*s.m.cfg.Timing.Silence, func() {
		s.hear(holder, wire.Active, wire.InSync|wire.Holder, func(b *wire.Beat) { b.Term = 1 })
		for _, id := range others {
			s.hear(id, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Vote = holder })
		}
	})
	if h := s.m.View().Holder; h != holder {
		s.Fatalf("member %d holds the role, not %d", h, holder)
	}
}

func TestSleeperKnowsByItself(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	s.now = s.m.lastHold.Add(s.m.cfg.Timing.Lease + time.Millisecond)
	if s.m.Step(s.now, Tick{}); s.m.state != wire.Init {
		t.Errorf("an active member that slept for longer than its lease is %s", s.m.state)
	}
}

func TestOwnSleepIsNotSilenceOfOthers(t *testing.T) {
	s := set(t, 1, nil)
	s.listened(2, 3)
	s.now = s.now.Add(10 * s.m.cfg.Timing.Dead)
	if gone := logsOf(s.m.Step(s.now, Tick{}), EvPeerGone); gone != nil {
		t.Errorf("a member that slept says: %q", gone)
	}
}

func TestListensAfterALostRole(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	lost := s.now
	s.m.Step(lost, GateLost{Why: "the kernel shut it"})
	if at, d := s.run(time.Second, nil), s.m.cfg.Timing.Dead+s.m.cfg.Timing.Beat; at < lost.Add(d) || at == Never {
		t.Errorf("taken back after %v; it has to listen for %v", at.Sub(lost), d)
	}
}

func TestAnnouncesAfterAContest(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	s.hear(2, wire.Active, wire.InSync|wire.Holder, nil)
	if !s.m.Holds() {
		t.Fatal("the better one stepped down")
	}
	if !announces(s.hear(2, wire.Standby, wire.InSync, nil)) {
		t.Error("the other one has stepped down, and nothing was announced")
	}
}

func TestAnnouncesWhenTheRoleWasCeded(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	s.hear(2, wire.Standby, wire.InSync, nil)
	if !announces(s.hear(2, wire.Standby, wire.InSync|wire.Ceded, nil)) {
		t.Error("a member says that it has lost the role, and nothing was announced")
	}
}

// freed is a voter of five that has voted for the successor 2, named by 4, and turned from it when that one was out of sync.
func freed(t *testing.T) *scene {
	s := set(t, 9, witnessed)
	s.listened(4, 1, 2, 3)
	named := func(b *wire.Beat) { b.Term, b.Successor = 1, 2 }
	s.hear(4, wire.Standby, wire.InSync|wire.Yielding, named)
	if s.m.ballot.member != 2 {
		t.Fatalf("the vote is for %d, not for the successor", s.m.ballot.member)
	}
	if s.hear(2, wire.Standby, 0, nil); s.m.ballot.member != 0 || s.m.ballot.bound <= s.now {
		t.Fatalf("the vote is for %d, bound until %v, now is %v: want it free and bound by its promise", s.m.ballot.member, s.m.ballot.bound, s.now)
	}
	return s
}

func TestPromiseBindsAFreeVote(t *testing.T) {
	s := freed(t)
	if s.hear(3, wire.Standby, wire.InSync|wire.Bidding, nil); s.m.ballot.member != 0 {
		t.Errorf("the vote was given to %d before the promise to 2 was over", s.m.ballot.member)
	}
	bound := s.m.ballot.bound
	s.run(2*s.m.cfg.Timing.Dead, func() { s.hear(3, wire.Standby, wire.InSync|wire.Bidding, nil) })
	if s.m.ballot.member != 3 || s.now < bound {
		t.Errorf("the vote is for %d when the promise is over", s.m.ballot.member)
	}
}

func TestPromiseIsNotGivenToABidderAgain(t *testing.T) {
	s := freed(t)
	if s.hear(2, wire.Standby, wire.Bidding, nil); s.m.ballot.member != 0 {
		t.Errorf("a bidder out of sync has the vote of %d again, by an older promise", s.m.cfg.Self)
	}
}

func TestSuccessorDoesNotPassABid(t *testing.T) {
	s := set(t, 1, nil)
	s.listened(4, 2, 3)
	s.hear(2, wire.Standby, wire.InSync|wire.Bidding, nil)
	named := s.hear(4, wire.Standby, wire.InSync|wire.Yielding, func(b *wire.Beat) { b.Term, b.Successor = 1, 1 })
	if opens(named) {
		t.Error("the successor took the role while another member's bid stood, which has our echo")
	}
}

func TestYieldingMemberIsNotWaitedFor(t *testing.T) {
	s := set(t, 2, nil)
	s.listened(1, 3)
	given := s.now
	at := s.run(time.Second, func() {
		s.hear(1, wire.Standby, wire.InSync|wire.Yielding, func(b *wire.Beat) { b.Term = 1 })
		s.hear(3, wire.Standby, wire.InSync, nil)
	})
	if d := at.Sub(given); d >= s.m.cfg.Timing.Dead {
		t.Errorf("the role was taken after %v: the one that gave it away was waited for", d)
	}
}

func TestHigherTermIsAnnounced(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	s.hear(2, wire.Standby, wire.InSync, nil)
	if !announces(s.hear(2, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Term = 9 })) || s.m.term != 10 {
		t.Errorf("somebody held the role with a higher term, and nothing was announced; the term is %d", s.m.term)
	}
}

func TestVacancyBeginsAnew(t *testing.T) {
	s := set(t, 3, nil)
	s.listened(1, 2)
	s.run(s.m.cfg.Timing.Dead+2*s.m.cfg.Timing.Beat, func() { s.hear(2, wire.Standby, wire.InSync, nil) })
	before := s.m.vacant
	if s.hear(2, wire.Standby, wire.InSync|wire.Ceded, nil); s.m.vacant <= before || s.m.vacant != s.now {
		t.Errorf("a member says that it has just lost the role: vacant since %v, want %v", s.m.vacant, s.now)
	}
}

func TestNamingIsAsOldAsItWasSaid(t *testing.T) {
	s := set(t, 3, nil)
	s.listened(4, 1, 2)
	named := func(term uint64) func(*wire.Beat) { return func(b *wire.Beat) { b.Term, b.Successor = term, 2 } }
	if s.hear(4, wire.Standby, wire.InSync|wire.Yielding, named(1)); s.m.chosen() != 2 {
		t.Fatalf("the successor is %d", s.m.chosen())
	}
	s.hear(1, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Term = 2 }) // somebody had the role meanwhile
	if s.hear(4, wire.Standby, wire.InSync|wire.Yielding, named(2)); s.m.chosen() != 0 {
		t.Errorf("%d may take the role by a naming that another tenure has ended", s.m.chosen())
	}
}

func TestQuietMemberKeepsItsVoteFromOneOutOfSync(t *testing.T) {
	s := set(t, 1, witnessed)
	s.listened(4, 2, 3)
	for _, id := range []uint8{2, 3} {
		s.hear(id, wire.Standby, 0, nil)
	}
	s.m.quietUntil = s.now.Add(5 * time.Millisecond)
	if s.hear(4, wire.Standby, wire.InSync|wire.Yielding, func(b *wire.Beat) { b.Term, b.Successor = 1, 2 }); s.m.ballot.member == 2 {
		t.Error("a member in sync that is quiet for a moment has voted for a successor out of sync, and is bound for longer")
	}
}

func TestOldEchoIsNoLife(t *testing.T) {
	s := set(t, 1, nil)
	s.active()
	first := s.m.seq
	s.hear(2, wire.Standby, wire.InSync, nil)
	s.run(10*s.m.cfg.Timing.Beat, func() { s.hear(2, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Heard[0].Seq = first + 1 }) })
	p, at := s.m.peers[2], s.m.peers[2].echoAt
	// An interface that was slow brings what was sent soon after that one.
	if s.hear(2, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Heard[0].Seq = first + 2 }); p.echoAt != at || p.echoed != first+2 {
		t.Errorf("an echo of old counts as heard at %v, the one before at %v (echoed %d)", p.echoAt, at, p.echoed)
	}
}

// TestWarningStandsForABeat: a holder that knows another member to hear it counts on that one to say so. Where nobody has said so for as long as the holder is
// silent, a standby says a beat before it takes the role that it counts on nobody, whether or not it hears others.
func TestWarningStandsForABeat(t *testing.T) {
	s := set(t, 3, nil)
	s.listened(1, 2, 4)
	t0, warned := s.now, Never
	for next := s.now; s.now < t0.Add(2*s.m.cfg.Timing.Dead) && !s.m.Holds(); s.now = s.now.Add(100 * time.Microsecond) {
		if s.now >= next {
			next = s.now.Add(s.m.cfg.Timing.Beat)
			for _, id := range []uint8{2, 4} { // they cannot take it, and hear the holder as little
				s.hear(id, wire.Ready, 0, func(b *wire.Beat) { b.Vote = 1 })
			}
		}
		s.m.Step(s.now, Tick{})
		if warned == Never && s.m.heralded != Never && s.m.ballot.member != 1 {
			warned = s.now
		}
	}
	if !s.m.Holds() || s.now.Sub(warned) < s.m.cfg.Timing.Beat {
		t.Errorf("holds %v, %v after the silence began, warned %v before", s.m.Holds(), s.now.Sub(t0), s.now.Sub(warned))
	}
}

// TestOutOfSyncWaitsForPromises: who is in sync and silent about the role may have promised its vote, as this member has.
func TestOutOfSyncWaitsForPromises(t *testing.T) {
	s := set(t, 3, witnessed)
	s.listened(4, 1, 2)
	s.m.inSync = false
	dead := s.m.cfg.Timing.Dead
	s.run(dead+2*s.m.cfg.Timing.Beat, func() { s.hear(1, wire.Standby, wire.InSync, nil) })
	bound := s.now.Add(3 * dead)
	s.m.ballot.bound = bound
	bid := Never
	s.run(6*dead, func() {
		if s.hear(1, wire.Standby, wire.InSync, nil); s.m.bid.on && bid == Never {
			bid = s.now
		}
	})
	if bid == Never || bid < bound.Add(dead) {
		t.Errorf("bids %v after its promise was over, want a dead time of %v", bid.Sub(bound), dead)
	}
}

// TestNamingEndsWithTheTenure: who named a successor may not know that this one has had the role since and lost it again.
func TestNamingEndsWithTheTenure(t *testing.T) {
	s := set(t, 1, witnessed)
	s.listened(4, 2, 3)
	if s.hear(4, wire.Standby, wire.InSync|wire.Yielding, func(b *wire.Beat) { b.Term, b.Successor = 1, 2 }); s.m.ballot.member != 2 {
		t.Fatalf("the vote is for %d, not for the successor", s.m.ballot.member)
	}
	s.hear(2, wire.Active, wire.InSync|wire.Holder, func(b *wire.Beat) { b.Term = 2 })
	if s.hear(2, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Term = 2 }); s.m.ballot.member == 2 {
		t.Error("the vote is for a successor whose tenure is over, and the best member cannot have it")
	}
}

// TestBidderOutOfSyncLetsVotesGo: a bidder that loses its sync while another member has it stops to bid, so that the votes for it are free for that one.
func TestBidderOutOfSyncLetsVotesGo(t *testing.T) {
	s := set(t, 3, witnessed)
	s.listened(4, 1)
	dead, last := s.m.cfg.Timing.Dead, s.m.seq
	peers := func() { s.hear(1, wire.Standby, wire.InSync, func(b *wire.Beat) { b.Heard[0].Seq = last }) } // it does not hear the bid
	s.hear(4, wire.Standby, wire.InSync|wire.Yielding, func(b *wire.Beat) { b.Term = 1 })
	vacant := s.now
	for s.now < vacant.Add(5*dead/2) {
		s.run(s.m.cfg.Timing.Beat, peers)
	}
	if !s.m.bid.on {
		t.Fatalf("it does not bid: %s, %s", s.m.state, s.m.reason)
	}
	s.m.inSync = false
	s.run(dead/2, func() {
		if peers(); s.m.bid.on {
			t.Errorf("it bids %v after the vacancy, out of sync", s.now.Sub(vacant))
		}
	})
}
