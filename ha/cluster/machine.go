package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Machine is one member's view of the cluster and its role in it. See the package documentation for the
// driver's duties. The zero value is of no use; see [New].
type Machine struct {
	cfg   Config
	slots []int

	now      Instant
	state    wire.State
	since    Instant
	reason   string
	term     uint64
	seq      uint64
	slot     int
	nextBeat Instant

	// listenUntil ends INIT: before it the member only listens. It is put off once (prolonged) for boots that had no time to prove themselves.
	listenUntil Instant
	prolonged   bool
	// tookAt is when this member took the role last, tookTerm with which term.
	tookAt   Instant
	tookTerm uint64
	// heardTerm is the highest term in any authentic heartbeat, of a boot that we believe in or not: somebody had the role with it.
	heardTerm uint64
	// lastHold is when our newest holder's beat was handed out; the lease runs from there.
	lastHold Instant
	// vacant is since when nobody alive holds the role, Never while somebody does.
	vacant Instant
	// handover is a planned one that waits for the barrier.
	handover handover
	// yieldUntil keeps a member that gave the role away from taking it back at once.
	yieldUntil Instant
	// successorID is whom this member has given the role to, while it yields; 0 if to the best.
	successorID uint8
	// awayUntil keeps the primary from asking for the role back; backAt is when a member asks for it in any mode.
	awayUntil, backAt Instant
	// quietUntil keeps a member from taking the role while what it knows may be old (it slept, and reads
	// what arrived meanwhile) or while the shut order it gave its gate still stands.
	quietUntil Instant
	// claimUntil is the end of a request to be handed the role, claimLog when one was logged last.
	claimUntil, claimLog Instant
	// cededUntil is how long the beats say that the role was lost without a hand-over, so that whoever holds it announces
	// again: this member may have answered for the addresses beside it.
	cededUntil Instant
	// bid is the agreement to take the vacant role, see agreed.
	bid bid
	// heralded is since when the beats say that this member is about to take the role, Never if they do not.
	heralded Instant
	// contested is set while another holder is heard: whoever keeps the role announces again afterwards.
	contested bool
	// lastHolder is the member that held the role last, ourselves included; 0 if nobody was seen.
	lastHolder uint8

	// order is what our beats tell our gate at orderAt; at other times it is Keep while active.
	order   wire.Order
	orderAt Instant

	announceAt   Instant
	announceStep int

	// ballot is whom this member supports, from voteFrom on; a vote for it counts when it echoes more than voteFloor,
	// our sequence when we claimed the role last without still doing so (claimed).
	ballot    ballot
	voteFrom  Instant
	voteFloor uint64
	claimed   bool
	news      bool      // the vote has changed, the others shall know at once
	forced    bool      // the operator gave us the role without a majority
	counted   []Instant // see support
	doubt     doubt
	// locked is why the role is not given back by itself, empty if it is not locked.
	locked    string
	busy      bool
	busySince Instant

	peers       [MaxID + 1]*peer // by ID, nil where there is none
	others      []*peer          // the same, without gaps
	heldBy      *peer            // see holder
	holderKnown bool
	links       []link
	devices     []*device // in the order of their names
	connections uint32
	inSync      bool
	policy      Policy

	refused   map[wire.Reason]*refusal
	failovers []Failover
	count     uint64

	out  []Action
	told []wire.Heard // whom the heartbeats of out say that we hear

	// sent is when our last heartbeats were sent, by sequence.
	sent [sentRing]Instant
}

// Failover is one change of the holder as this member saw it.
type Failover struct {
	At     Instant
	Holder uint8
	Term   uint64
	Reason string
}

// announceAfter is when a new holder announces again: switches and neighbours lose single frames, and a
// one-shot announcement has left networks pointing at the loser (reference/peers.md, fault 2).
var announceAfter = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// AnnouncePeriod is how often a holder announces in steady state, so that switches do not age the shared
// MAC out.
const AnnouncePeriod = 5 * time.Second

// cededFor is for how many dead times a member says that it ceded the role.
const cededFor = 3

// ShutMargin is added to how long a shut order stands in the kernel: one jiffy at the slowest tick (HZ=100). A driver whose
// order left later than that says so, see [ShutLate].
const ShutMargin = 10 * time.Millisecond

// New starts a member in INIT. It returns an error when cfg is not valid.
func New(cfg Config, now Instant) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cluster configuration: %w", err)
	}
	m := &Machine{
		cfg: cfg, slots: cfg.schedule(), now: now, term: cfg.Term,
		state: wire.Init, since: now, reason: "listening for the active member",
		listenUntil: now.Add(cfg.Timing.Silence), nextBeat: now, vacant: now, announceAt: Never,
		lastHold: -1 << 62, yieldUntil: now, quietUntil: now, claimUntil: now, claimLog: longAgo, cededUntil: now, awayUntil: now, backAt: Never,
		links:   make([]link, len(cfg.Interfaces)),
		refused: map[wire.Reason]*refusal{}, inSync: true, voteFrom: now.Add(cfg.Timing.Dead), heralded: Never,
	}
	m.cfg.Interfaces = slices.Clone(cfg.Interfaces)
	for _, c := range append(slices.Clone(cfg.Members), cfg.Witnesses...) {
		if c.ID != cfg.Self {
			m.peers[c.ID] = newPeer(c)
			m.others = append(m.others, m.peers[c.ID])
		}
	}
	return m, nil
}

// Step tells the machine what happened at now and returns what to do about it. The returned slice is valid
// until the next Step. An instant before the last one is taken as the last one.
func (m *Machine) Step(now Instant, in Input) []Action {
	m.out, m.told = m.out[:0], m.told[:0]
	gap := now.Sub(m.now)
	m.now = max(now, m.now)
	m.checkStall(gap)
	switch in := in.(type) {
	case *BeatReceived:
		m.receive(in.Interface, &in.Beat)
	case BeatReceived:
		m.receive(in.Interface, &in.Beat)
	case Refused:
		m.refuse(in.Interface, in.Reason, "")
	case Link:
		m.setLink(in)
	case Device:
		m.setDevice(in)
	case Unregister:
		m.unregister(in)
	case Connections:
		m.connections = uint32(in)
	case Activate:
		m.activate(in)
	case ClearLock:
		m.clearLock()
	case BarrierPassed:
		m.handover.until = m.now
	case Policy:
		m.setPolicy(in)
	case SyncState:
		m.setSync(in)
	case Busy:
		m.setBusy(bool(in))
	case Watch:
		m.watch(in)
	case Deactivate:
		m.deactivate(in)
	case Leave:
		m.leave()
	case GateLost:
		m.loseRole(in.Why)
	case ShutLate:
		m.quietUntil = max(m.quietUntil, m.now.Add(m.cfg.Timing.Lease+ShutMargin))
	}
	m.silentDevices()
	m.silence()
	m.judge()
	m.decide()
	m.claims()
	m.herald()
	m.beat()
	m.announceDue()
	return m.out
}

// Deadline is when the next Tick is due at the latest.
func (m *Machine) Deadline() Instant {
	d := min(m.nextBeat, m.announceAt)
	if m.state == wire.Init {
		d = min(d, m.listenUntil)
	}
	for _, p := range m.others {
		if p.alive {
			d = min(d, p.lastHeard.Add(m.dead()))
		}
	}
	for _, v := range m.devices {
		d = min(d, v.deadline())
	}
	if m.active() && m.quorum() {
		d = min(d, m.mandate())
	}
	d = min(d, m.nextHerald())
	if m.handover.to != 0 {
		d = min(d, m.handover.until)
	}
	return d
}

func (m *Machine) active() bool { return m.state == wire.Active || m.state == wire.ActiveAttention }

// checkStall notices that this member itself did not run. An active one whose lease ran out meanwhile has
// lost the role; one that was only waiting cannot judge its peers' silence by that time.
func (m *Machine) checkStall(gap time.Duration) {
	t := &m.cfg.Timing
	if m.active() && m.now.Sub(m.lastHold) > t.Lease {
		m.loseRole(fmt.Sprintf("this member slept %v, longer than its lease of %v", m.now.Sub(m.lastHold).Round(100*time.Microsecond), t.Lease))
	}
	if gap <= t.Beat {
		return
	}
	for _, p := range m.others {
		if !p.alive {
			continue
		}
		p.lastHeard = min(m.now, p.lastHeard.Add(gap)) // what arrived meanwhile may be lost: silence counts only while we listen
		// What a peer echoes then is older by the gap. A short one leaves the lease room enough, and a member that is late every time has to judge, too.
		if gap > max(t.Beat, t.Lease-2*t.Beat) {
			p.steady = m.now
		}
	}
	if gap <= t.Lease {
		return
	}
	m.quietUntil = max(m.quietUntil, m.now.Add(t.Dead+t.Beat))
}

// loseRole is for a member whose gate the kernel has shut or may have shut: silence, then listen.
func (m *Machine) loseRole(why string) {
	if !m.active() {
		return
	}
	m.log(Warning, EvStalled, why+"; the role is taken as lost, listening")
	m.listenUntil = m.now.Add(m.cfg.Timing.Dead + m.cfg.Timing.Beat)
	m.quietUntil = m.listenUntil
	m.cede()
	m.enter(wire.Init, why)
	m.beatAll()
}

// cede makes the beats of the next dead times say that the role was lost without a hand-over.
func (m *Machine) cede() { m.cededUntil = m.now.Add(cededFor * m.cfg.Timing.Dead) }

// enter changes the state and logs it.
func (m *Machine) enter(s wire.State, why string) {
	if m.state == s {
		m.reason = why
		return
	}
	wasActive := m.active()
	m.log(Info, EvState, fmt.Sprintf("%s -> %s: %s", m.state, s, why))
	m.state, m.since, m.reason = s, m.now, why
	if wasActive && !m.active() {
		m.order, m.orderAt = wire.Shut, m.now
		m.quietUntil = max(m.quietUntil, m.now.Add(m.cfg.Timing.Lease+ShutMargin))
		m.vacant, m.announceAt, m.contested, m.forced, m.handover, m.doubt = m.now, Never, false, false, handover{}, doubt{}
		m.unlock("the role is given up")
	}
	m.nextBeat = m.now // peers learn of it at once
}

// take opens the gate: the order travels in the first beats. Whoever takes the role does so with a term above every term it has seen.
func (m *Machine) take(why string) {
	m.term = max(m.term, m.heardTerm) + 1
	previous := m.lastHolder
	m.lastHolder = m.cfg.Self
	m.lastHold, m.tookAt, m.tookTerm, m.vacant = m.now, m.now, m.term, Never
	m.claimUntil, m.yieldUntil, m.cededUntil, m.awayUntil, m.backAt = m.now, m.now, m.now, m.now, Never
	s := wire.Active
	if m.demotion() > 0 {
		s = wire.ActiveAttention
	}
	name := EvAssumed
	switch {
	case previous == 0:
		name = EvInitial
	case previous == m.cfg.Self:
		name = EvResumed
	case m.designated() == m.cfg.Self:
		name = EvReclaimed
	}
	m.enter(s, why)
	m.emit(KeepTerm(m.term)) // before it is used
	m.order, m.orderAt = wire.Open, m.now
	m.beatAll()
	m.emit(Announce{})
	m.log(Notice, name, fmt.Sprintf("%s is active with term %d: %s", m.name(m.cfg.Self), m.term, why))
	m.recordFailover(m.cfg.Self, why)
	m.announceStep = 0
	m.announceAt = m.now.Add(announceAfter[0])
	if p := m.peer(previous); p != nil && !p.orderly && !(p.alive && p.view.Has(wire.Yielding)) {
		m.setLock(why)
	}
}

// release gives the role away in an orderly manner, to the member to or, if that is 0, to the best; the gate drains
// while the peer takes over.
func (m *Machine) release(to uint8, why string) {
	m.yieldUntil = m.now.Add(3 * m.cfg.Timing.Dead)
	m.successorID = to
	m.log(Notice, EvReleased, why)
	m.rest(why)
	m.judge()
	m.order = wire.Drain
	m.beatAll()
}

// resting is the state of a member that is not active, with its reason if that is its own.
func (m *Machine) resting() (wire.State, string) {
	if m.witness() {
		return wire.Witness, ""
	}
	if m.demotion() > 0 {
		return wire.Down, fmt.Sprint(m.problems())
	}
	if d := m.preparing(); d != "" {
		return wire.Ready, d + " is not ready yet"
	}
	return wire.Standby, ""
}

// rest enters the resting state.
func (m *Machine) rest(why string) {
	s, own := m.resting()
	if own != "" {
		why = own
	}
	m.enter(s, why)
}

func (m *Machine) recordFailover(holder uint8, why string) {
	m.count++
	m.failovers = append(m.failovers, Failover{At: m.now, Holder: holder, Term: m.term, Reason: why})
	if n := len(m.failovers) - 32; n > 0 {
		m.failovers = slices.Delete(m.failovers, 0, n)
	}
}

func (m *Machine) announceDue() {
	if m.now < m.announceAt || !m.active() {
		return
	}
	m.emit(Announce{})
	m.announceStep++
	next := AnnouncePeriod
	if m.announceStep < len(announceAfter) {
		next = announceAfter[m.announceStep] - announceAfter[m.announceStep-1]
	}
	m.announceAt = m.now.Add(next)
}

// announceAgain starts the announcements over, after any doubt about who holds the role.
func (m *Machine) announceAgain() {
	m.emit(Announce{})
	m.announceStep = 0
	m.announceAt = m.now.Add(announceAfter[0])
}

func (m *Machine) emit(a Action) { m.out = append(m.out, a) }

func (m *Machine) reply(ok bool, msg string) { m.emit(Reply{OK: ok, Message: msg}) }

func (m *Machine) log(s Severity, name, text string) {
	m.emit(Log{Severity: s, Name: name, Text: text})
}

// name of a member, for people.
func (m *Machine) name(id uint8) string {
	for _, c := range append(m.cfg.Members[:len(m.cfg.Members):len(m.cfg.Members)], m.cfg.Witnesses...) {
		if c.ID == id {
			if c.Name != "" {
				return fmt.Sprintf("%s (%d)", c.Name, id)
			}
			return fmt.Sprintf("member %d", id)
		}
	}
	return fmt.Sprintf("member %d", id)
}

// designated is the member that is expected to hold the role: highest priority, then lowest ID.
func (m *Machine) designated() uint8 {
	best := m.cfg.Members[0]
	for _, c := range m.cfg.Members[1:] {
		if c.Priority > best.Priority || c.Priority == best.Priority && c.ID < best.ID {
			best = c
		}
	}
	return best.ID
}
