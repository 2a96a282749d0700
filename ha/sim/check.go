package sim

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// checker holds the invariants of DESIGN §7 against a [World] after every event. Their numbers are those of that
// list; 5, about policies, is not in the core.
type checker struct {
	// Violation is the first broken invariant with its evidence, Broken its number; empty and 0 if none.
	Violation string
	Broken    int
	// DualTime is for how long two gates were open at once. Of it, OneWayTime passed while only one direction was
	// deaf, and ThawTime after a box woke up with a clock that had stood still.
	DualTime, OneWayTime, ThawTime time.Duration

	// told is set while every disturbance is a [Fault], so that calm can be known. In stories it cannot.
	told   bool
	quorum bool // nobody holds the role without a majority
	timing cluster.Timing
	// settle is how long a cluster may take to come to rest after the last disturbance.
	settle time.Duration
	gates  uint8           // bit ID-1: whose gate was open last
	since  cluster.Instant // when they came to be so
	vacant cluster.Instant // since when no gate is open
	edge   cluster.Instant // the last disturbance
	stir   cluster.Instant // when a member logged or asked for something last
	// until is before when no gate changes by itself, unless unsure is set: somebody has changed one meanwhile.
	until  cluster.Instant
	unsure bool
	active int // faults in force
	apart  [maxID + 1][maxID + 1]cluster.Instant
	doubt  doubt
}

// doubt is a time of two open gates that has ended: the one that is left has to announce again.
type doubt struct {
	winner, loser uint8 // 0: none
	since, ended  cluster.Instant
	told          cluster.Instant // when the first heartbeat of the loser arrived that it sent after that, 0 if none has
}

// facts are what is known of one boot of a member.
type facts struct {
	said     wire.Beat // its last beat, at saidAt
	saidAt   cluster.Instant
	prepared cluster.Instant            // since when its beats say that it could take the role in sync
	term     uint64                     // the highest it has shown or written down
	opened   cluster.Instant            // when it opened its gate without having announced yet, 0 if it has
	rival    [maxID + 1]cluster.Instant // when it last read of each other member that it holds the role
	seen     [maxID + 1]uint64          // the newest sequence it has read of each other member's boot
	proven   [maxID + 1]uint64          // the boot of each other member that has proved to hear it
	// When it took the role last: rival, and when the newest beat of each other member was sent that had arrived.
	aware, arrived [maxID + 1]cluster.Instant
	// Then too: when its own newest beat was sent that had arrived at each other member, and whether that was cut off from it.
	reached [maxID + 1]cluster.Instant
	deafTo  [maxID + 1]bool
	overdue [maxID + 1]bool // and whether one of that one's was overdue here
	read    uint64          // the highest it has read in a beat that proves to be fresh
	took    cluster.Instant // when it opened its gate last
	openAt  cluster.Instant // its clock at the step in which it opened the gate
}

func (c *checker) init(t cluster.Timing, members int) {
	c.timing = t
	// Listening after a start, a dead time per rank, a yield (3), one to find out.
	c.settle = t.Silence + time.Duration(members+4)*t.Dead
	for i := range c.apart {
		for j := range c.apart[i] {
			c.apart[i][j] = -1 << 60
		}
	}
}

// grace is how long two gates may stay open after paths have come back: the worse member hears the better one
// with its next beat, proves a new boot in two more, or loses its lease.
func (c *checker) grace() time.Duration { return c.timing.Lease + 4*c.timing.Beat }

func (w *World) violate(invariant int, format string, args ...any) {
	if w.Broken != 0 {
		return
	}
	evidence := fmt.Sprintf(format, args...)
	w.Broken = invariant
	w.Violation = fmt.Sprintf("%v: invariant %d: %s", time.Duration(w.Now), invariant, evidence)
	w.trace("VIOLATION of invariant %d: %s", invariant, evidence)
}

// disturb says that something happened from which the cluster has to come to rest again.
func (w *World) disturb() { w.edge = w.Now }

// calm reports whether the cluster should be at rest.
func (w *World) calm() bool { return w.told && w.active == 0 && w.Now.Sub(w.edge) > w.settle }

// restTime is after how many quiet dead times a cluster is at rest: more than any agreement takes.
const restTime = 6

// stirring is what a heartbeat says when something is going on.
const stirring = wire.Farewell | wire.Yielding | wire.Claiming | wire.Bidding | wire.Ceded

// rests reports whether one gate is open and nothing has been going on for a while.
func (w *World) rests() bool {
	for _, n := range w.Nodes {
		if n.Machine != nil && n.Machine.State() == wire.Init {
			return false
		}
	}
	return w.active == 0 && len(w.awaited) == 0 && bits.OnesCount8(w.gates) == 1 && w.doubt.winner == 0 && w.Now.Sub(max(w.edge, w.stir, w.since)) > restTime*w.timing.Dead
}

// advance moves time, from one change of a gate to the next.
func (w *World) advance(to cluster.Instant) {
	for w.Now < to {
		if !w.unsure && w.Now < w.until && to <= w.until && w.gates&(w.gates-1) == 0 {
			w.Now = to
			if w.gates == 0 {
				w.checkVacant()
			}
			w.checkDoubt()
			return
		}
		mask, next := uint8(0), cluster.Never
		for i, n := range w.Nodes {
			if n.Gate.lease <= w.Now {
				continue
			}
			if n.open(w.Now) {
				mask |= 1 << i
			}
			for _, edge := range [...]cluster.Instant{n.Gate.lease, n.Gate.shut, n.asleep} {
				if edge > w.Now && edge < next {
					next = edge
				}
			}
		}
		w.until, w.unsure = next, false
		next = min(next, to)
		if mask != w.gates {
			w.turned(mask)
		}
		if mask&(mask-1) != 0 {
			w.dual(mask, next.Sub(w.Now))
		}
		w.Now = next
		if mask == 0 {
			w.checkVacant()
		}
		w.checkDoubt()
	}
}

// turned is called when other gates are open than before.
func (w *World) turned(mask uint8) {
	was := w.gates
	w.gates = mask
	if w.Trace != nil {
		w.trace("open gates: %v", w.Open())
	}
	if mask == 0 {
		w.vacant = w.Now
	}
	if w.calm() {
		w.violate(2, "the open gates changed from %v to %v, %v after the last disturbance", list(was), list(mask), w.Now.Sub(w.edge))
	}
	if w.doubt.winner != 0 && mask != 1<<(w.doubt.winner-1) {
		w.doubt = doubt{}
	}
	if bits.OnesCount8(was) > 1 && bits.OnesCount8(mask) == 1 && mask&was != 0 {
		w.doubt = doubt{winner: list(mask)[0], loser: list(was &^ mask)[0], since: w.since, ended: w.Now}
	}
	w.since = w.Now
}

func list(mask uint8) (ids []uint8) {
	for id := uint8(1); mask != 0; id, mask = id+1, mask>>1 {
		if mask&1 != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// heard is called before a newer beat than any before arrives.
func (w *World) heard(from, to uint8) {
	if w.deaf(from, to) {
		w.apart[from][to], w.apart[to][from] = w.Now, w.Now
	}
}

// dual judges a time d during which several gates are open.
func (w *World) dual(mask uint8, d time.Duration) {
	w.DualTime += d
	ids := list(mask)
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			ab, ba := w.deaf(a, b), w.deaf(b, a)
			if (ab && ba || w.drowned()) && !w.quorum {
				w.apart[a][b], w.apart[b][a] = w.Now.Add(d), w.Now.Add(d)
				continue
			}
			if !w.quorum && w.unwarned(a, b) {
				w.apart[a][b], w.apart[b][a] = w.Now.Add(d), w.Now.Add(d)
				w.OneWayTime += d
				continue
			}
			thawed := max(w.Node(a).thawed, w.Node(b).thawed)
			switch {
			case w.AllowDual || w.Now.Sub(w.apart[a][b]) <= w.grace() && !w.quorum:
			case !w.Strict && thawed > 0 && w.Now.Sub(thawed) <= w.thawGrace(a, b):
				w.ThawTime += d
			default:
				w.violate(1, "the gates of %s and %s are both open; %s; the newest beat that arrived was %v old that way, %v old the other (lease %v)",
					gw(a), gw(b), w.how(a, b), w.Now.Sub(w.path[a][b].newest), w.Now.Sub(w.path[b][a].newest), w.timing.Lease)
			}
		}
	}
}

// drowned reports whether so much is lost on every interface that no member can tell the others from dead ones, although a beat gets through at times.
func (w *World) drowned() bool {
	return slices.ContainsFunc(w.faults, func(f *Fault) bool { return f.Kind == Loss && f.Interface < 0 && f.Value >= 0.8 })
}

// thawGrace is for how long a box that woke up with a clock that had stood still may hold what it held: its lease, and with a quorum votes that were given
// before, which count for up to a dead time less a beat with the lease after them. If one of the two stands still again as it steps down, its lease is over later.
func (w *World) thawGrace(a, b uint8) time.Duration {
	grace := w.grace()
	if w.quorum {
		grace = max(grace, w.timing.Dead)
	}
	if max(w.Node(a).resume, w.Node(b).resume) > w.Now {
		grace += w.timing.Lease
	}
	return grace
}

// unwarned reports whether the one of two members that opened its gate first could not know in time that the other, which
// did not hear it, was about to: no heartbeat that the other sent in the beat before had arrived, or its process stood
// still, so that it learns of it afterwards, or died with the order to shut in hand; or nothing that the first one sent since then has arrived either; or one
// of the two is a boot that has never proved to hear the other, which counts for nothing because it may be a recording; or, when the warning has taken more than a
// beat, a heartbeat of the first one was under way for longer than the timing has room for beside a stop of the process.
func (w *World) unwarned(a, b uint8) bool {
	first, second := w.Node(a), w.Node(b)
	if first.took > second.took {
		first, second = second, first
	}
	ab, ba := w.deaf(first.ID, second.ID), w.deaf(second.ID, first.ID)
	if (ab || ba) && (first.proven[second.ID] != second.nonce || second.proven[first.ID] != first.nonce) {
		return true
	}
	if path := &w.path[first.ID][second.ID]; ba && path.lost > first.took && path.newest < first.took {
		return true
	}
	herald := second.took.Add(-w.timing.Beat)
	if second.overdue[first.ID] && second.reached[first.ID] <= herald { // slow both ways
		return w.Now.Sub(second.took) <= w.grace()
	}
	if !second.deafTo[first.ID] || second.reached[first.ID] > herald && first.resume <= herald && first.Machine != nil {
		return false
	}
	return w.Now.Sub(second.took) <= w.grace() || ab && w.path[second.ID][first.ID].newest <= second.took
}

// how says how two gates came to be open, as far as that is known.
func (w *World) how(a, b uint8) string {
	m, n := w.Node(a), w.Node(b)
	first, second := m, n
	if m.took > n.took {
		first, second = n, m
	}
	inFlight := second.arrived[first.ID] < first.took || second.took.Sub(first.took) <= 2*w.timing.Beat
	if inFlight && second.aware[first.ID] < first.took && w.Now.Sub(second.took) <= w.grace()+w.timing.Lease {
		return "they took the role at once, neither having heard of the other"
	}
	return fmt.Sprintf("%s since %v, %s since %v", gw(a), time.Duration(m.took), gw(b), time.Duration(n.took))
}

// majority reports whether a cluster that needs one can have it.
func (w *World) majority() bool {
	if !w.quorum {
		return true
	}
	n := 0
	for _, v := range w.Nodes {
		if v.Machine != nil && w.Now.Sub(v.resume) > w.settle && v.slow == 0 {
			n++
		}
	}
	return w.active == 0 && n > len(w.Nodes)/2
}

// barred reports whether a member may not take the role by its own account.
func (n *Node) barred() bool {
	v := n.Machine.View()
	return v.Demotion == wire.Ineligible || v.State == wire.Ready
}

// checkVacant: nobody's gate is open.
func (w *World) checkVacant() {
	if since := max(w.vacant, w.edge); w.told && w.Now.Sub(since) > w.settle && w.majority() {
		for _, n := range w.Nodes[:w.members] {
			if n.Machine != nil && !n.barred() && w.Now.Sub(n.resume) > w.settle && n.slow == 0 {
				inv := 6
				if w.active == 0 {
					inv = 2
				}
				w.violate(inv, "no gate has been open for %v, although %s runs; the last disturbance was %v ago (states %s)",
					w.Now.Sub(w.vacant), gw(n.ID), w.Now.Sub(w.edge), w.States())
				return
			}
		}
	}
}

// checkDoubt: whoever is left after two gates were open must announce again, once it can know of the other: when a
// heartbeat has arrived that the other sent afterwards, in a boot that has proved itself, or when it heard it hold the role
// at the same time and then no more.
func (w *World) checkDoubt() {
	d := &w.doubt
	if d.winner == 0 {
		return
	}
	n := w.Node(d.winner)
	if d.told == 0 {
		switch {
		case w.path[d.loser][d.winner].newest >= d.ended && n.proven[d.loser] == w.Node(d.loser).nonce:
			d.told = w.Now
		case n.rival[d.loser] >= max(d.since, d.ended.Add(-w.timing.Dead)) && w.Now.Sub(d.ended) > 2*w.timing.Dead: // it has seen the contest, and the silence after it
			d.told = d.ended
		}
		return
	}
	if since := max(d.told, n.resume); w.Now.Sub(since) <= w.timing.Dead+w.grace() || n.slow != 0 || w.deaf(d.loser, d.winner) {
		return
	}
	if n.AnnouncedAt < d.ended {
		w.violate(3, "%s has not announced since %s's gate, open with its own, was shut %v ago; %v ago it heard from it again", gw(n.ID), gw(d.loser),
			w.Now.Sub(d.ended), w.Now.Sub(d.told))
	}
	*d = doubt{}
}

// whyShut says what a late driver has to do with a gate that is shut.
func (n *Node) whyShut() string {
	if n.Gate.shut > n.w.Now && n.shutLate > cluster.ShutMargin {
		return "; a shut order that left late still stands"
	}
	return ""
}

// reads notes what a member is about to learn from a heartbeat.
func (w *World) reads(n *Node, b *wire.Beat) {
	if !w.known(b.Member) || b.Nonce != w.Node(b.Member).nonce || b.Seq <= n.seen[b.Member] {
		return // a stranger, a recording, or overtaken by newer news
	}
	n.seen[b.Member] = b.Seq
	if b.Seq == wire.FinalSeq {
		return // a farewell: written before the rest, and nothing counts after it
	}
	for _, h := range b.Heard {
		if h.Member == n.ID && h.Nonce == n.nonce {
			n.proven[b.Member] = b.Nonce
		}
	}
	if n.proven[b.Member] != b.Nonce {
		return
	}
	n.read = max(n.read, b.Term)
	if b.Has(wire.Holder) {
		n.rival[b.Member] = w.Now
	}
}

// checkTerm: the term of a boot, as it shows it, never goes back.
func (w *World) checkTerm(n *Node, term uint64) {
	if term < n.term {
		w.violate(3, "the term of %s went back from %d to %d", gw(n.ID), n.term, term)
	}
	n.term = max(n.term, term)
}

// checkKept: what is written down is never below what was shown. It is written before it is shown.
func (w *World) checkKept(n *Node, term uint64) {
	if term < n.term {
		w.violate(3, "the term that %s writes down went back from %d to %d", gw(n.ID), n.term, term)
	}
}

// checkBeat looks at a heartbeat that has passed its sender's gate.
func (w *World) checkBeat(n *Node, b *wire.Beat) {
	if b.Order == wire.Open && n.openAt != n.decided {
		n.openAt, n.opened, n.took = n.decided, w.Now, w.Now
		if known := max(n.term, n.read, n.led); b.Term <= known {
			w.violate(3, "%s took the role with term %d, it knew of term %d", gw(n.ID), b.Term, known)
		}
		n.led = b.Term
		n.aware = n.rival
		for _, p := range w.Nodes {
			n.arrived[p.ID], n.reached[p.ID], n.deafTo[p.ID] = w.path[p.ID][n.ID].newest, w.path[n.ID][p.ID].newest, w.deaf(p.ID, n.ID)
			n.overdue[p.ID] = w.overdue(p, n)
		}
		w.checkSync(n)
	}
	w.checkTerm(n, b.Term)
	switch open := n.Gate.Open(w.Now); {
	case b.Has(wire.Holder) && !open:
		w.violate(1, "%s says that it holds the role, but its gate is shut (order %d%s)", gw(n.ID), b.Order, n.whyShut())
	case !b.Has(wire.Holder) && open:
		w.violate(1, "%s says that it does not hold the role, but its gate is open (state %s)", gw(n.ID), b.State)
	}
	if was := prepared(&n.said); !was || n.said.Nonce != b.Nonce {
		n.prepared = w.Now
	}
	n.said = *b
	n.saidAt = w.Now
}

// prepared reports whether a beat says that its sender could take the role and is in sync.
func prepared(b *wire.Beat) bool {
	return b.Has(wire.InSync) && b.State == wire.Standby && !b.Has(wire.Yielding) && b.Demotion == 0
}

// stormy is how many heartbeats of a member within the time of one are too many.
const stormy = 1000

// checkStorm: members do not answer each other's news with news for ever.
func (w *World) checkStorm(n *Node) {
	if w.Now.Sub(n.stormAt) >= w.timing.Beat {
		n.storm, n.stormAt = 0, w.Now
	}
	if n.storm++; n.storm == stormy {
		w.violate(6, "%s has sent %d heartbeats in %v", gw(n.ID), stormy, w.Now.Sub(n.stormAt))
		n.resume = cluster.Never
	}
}

// checkSync: invariant 4, as far as beats tell who is in sync; of the member that takes the role they do not any more. When
// the better one has not acted for a dead time, the next one may.
func (w *World) checkSync(n *Node) {
	if n.Machine.View().InSync || w.gates == 0 && w.Now.Sub(w.vacant) > 2*w.timing.Dead-w.timing.Lease-w.timing.Beat {
		return
	}
	for _, p := range w.Nodes {
		if p != n && p.Machine != nil && prepared(&p.said) && w.couldTake(p, n) {
			w.violate(4, "%s took the role out of sync, %s is in sync, fit and heard", gw(n.ID), gw(p.ID))
		}
	}
}

// couldTake reports whether a member that is prepared could have taken the role instead of n, and n known so: it has said that it is prepared for a
// lease, n has heard it all that time and could believe its boot, which proves itself by an echo of n's heartbeats, as has a majority where one is needed; it
// knows for as long that nobody holds the role, and it is not quiet because it slept (then the next one's turn comes before its own).
func (w *World) couldTake(p, n *Node) bool {
	t := &w.timing
	if w.Now.Sub(p.prepared) <= t.Lease || w.Now.Sub(p.saidAt) >= t.Lease || p.local().Sub(p.Machine.View().Vacant) <= t.Lease || w.Now.Sub(p.resume) <= t.Dead+t.Beat+t.Lease ||
		!w.hears(n, p) || !w.hears(p, n) && !believes(n, p) {
		return false
	}
	voters := 1
	for _, v := range w.Nodes {
		if v != p && v.Machine != nil && w.hears(v, p) && w.hears(p, v) {
			voters++
		}
	}
	return !w.quorum || voters > len(w.Nodes)/2
}

// believes reports whether a member takes what another one says now for that member's word.
func believes(n, from *Node) bool {
	return slices.ContainsFunc(n.Machine.View().Peers, func(v cluster.PeerView) bool { return v.ID == from.ID && v.Boot == from.said.Nonce })
}

// hears reports whether a member has received every beat of another for a lease.
func (w *World) hears(n, from *Node) bool {
	path := &w.path[from.ID][n.ID]
	return w.Now.Sub(path.newest) < w.timing.Lease && w.Now.Sub(path.lost) > w.timing.Lease
}

// checkAnnounced is called when everything that a step asked for has been done.
func (w *World) checkAnnounced(n *Node) {
	if n.opened != 0 {
		w.violate(3, "%s opened its gate and did not announce", gw(n.ID))
	}
}
