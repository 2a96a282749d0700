package statesync

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Times of the protocol.
const (
	// Grace is how much longer than the holder's a standby's entries live, so that they end when the holder says so.
	Grace = 30 * time.Second
	// DigestEvery is the time between two digests of the holder.
	DigestEvery = time.Second
	// stateEvery is how often a member says how it is.
	stateEvery = time.Second
	// fresh is how long a comparison counts: so long after the last equal digest a member is in sync.
	fresh = 3 * time.Second
	// repairPatience is after how long without its end a repair is asked for again.
	repairPatience = 30 * time.Second
	// maxBackoff bounds the time between repairs that do not help.
	maxBackoff = 30 * time.Second
	// drainTime is how long a member that has lost the role still tells of connections it makes.
	drainTime = 5 * time.Second
	// ackEvery bounds how often deltas are acknowledged.
	ackEvery = 5 * time.Millisecond
)

// Config of a machine.
type Config struct {
	Cluster, Self uint8
	Members       []uint8      // all of them
	Nonce         uint64       // of this boot
	Secret        [16]byte     // of the table's hash, the same on all members
	Addresses     []netip.Addr // private and broadcast addresses of this member
}

// Output is what a machine does besides changing the kernel's table. None of it may call the machine.
type Output interface {
	// Send queues a frame for a peer; false when the queue is full and the frame is dropped. The frame is not changed
	// afterwards.
	Send(peer uint8, frame []byte) bool
	// Walk asks for a walk through the kernel's table now rather than later.
	Walk()
	// Fetch asks for a connection as the kernel has it in some milliseconds, as an event: it changes without one.
	Fetch(Flow)
	// Log tells the operator.
	Log(Severity, string)
	// BarrierAcked tells that a peer has passed a barrier.
	BarrierAcked(peer uint8, number uint64)
	// DiffDone gives the result of a diff.
	DiffDone(Diff)
}

// Severity of a log line.
type Severity uint8

// Severities.
const (
	Info Severity = iota
	Notice
	Warning
	Error
)

// Role is what the cluster says of this member.
type Role struct {
	Known  bool // there was an answer
	Holder bool // this member holds the role
	Term   uint64
	Other  uint8 // who holds it otherwise; 0 when nobody is known to
}

// Machine is the protocol of one member. It is not safe for use by two goroutines, but for Clock.
type Machine struct {
	cfg    Config
	out    Output
	kernel Kernel
	table  *table
	own    Local // addresses of this member
	local  Local // of all members
	peers  map[uint8]*peer
	role   Role
	lost   time.Duration // when the role was lost; 0 if never
	term   uint64        // the highest heard of
	clock  uint32        // counts what was taken in
	landed atomic.Uint32 // the clock up to which the kernel's table has everything
	now    time.Duration

	seq     uint64
	delta   bundle
	gone    []uint64
	early   map[uint64][]*Expect // expectations by the key of their masters, which are not known yet
	tombs   [3]map[uint64]struct{}
	pass    pass
	loaded  bool // the model has the kernel's table
	hurry   bool // a walk has to find what no event told
	hurried time.Duration
	full    bool // entries were refused for want of room
	inSync  bool
	text    string
	behind  behind        // why it is not in sync, for the log
	since   time.Duration // of inSync
	good    time.Duration // when the holder was last heard and equal
	ops     []KernelOp
	flying  []KernelOp // begun, not ended
	flown   uint32     // the clock at which they were
	landing []KernelOp // memory for the next
	scratch []Change
	nextDig time.Duration
	nextSay time.Duration
	diff    *diffJob
	Stats   Stats
}

// New makes a machine.
func New(cfg Config, kernel Kernel, out Output) (*Machine, error) {
	m := &Machine{
		cfg: cfg, kernel: kernel, out: out, table: newTable(NewHasher(cfg.Secret)), early: map[uint64][]*Expect{}, own: Local{}, local: Local{}, peers: map[uint8]*peer{},
		text: "reading the connection table",
	}
	m.Stats.Refused = map[Reason]uint64{}
	for i := range m.tombs {
		m.tombs[i] = map[uint64]struct{}{}
	}
	for _, a := range cfg.Addresses {
		m.own.Add(a)
		m.local.Add(a)
	}
	for _, id := range cfg.Members {
		if id != cfg.Self {
			m.peers[id] = &peer{id: id}
		}
	}
	if cfg.Self == 0 || len(m.peers) != len(cfg.Members)-1 {
		return nil, fmt.Errorf("state sync: member %d is not exactly once among %v", cfg.Self, cfg.Members)
	}
	return m, nil
}

// Clock counts what the machine has taken in and the kernel's table has. A walk reads it before it fetches a piece of the
// table, to know what is newer than the piece; it may be called from any goroutine.
func (m *Machine) Clock() uint32 { return m.landed.Load() }

// peer is one other member.
type peer struct {
	id        uint8
	up        bool
	hello     Hello
	since     time.Duration
	holder    bool   // it says that it holds the role
	term      uint64 // of which it says so
	state     PeerState
	entries   uint32 // of its table, by its digest
	seqIn     uint64 // of its newest delta
	timeIn    int64
	acked     bool
	ackedAt   time.Duration
	sent      uint64 // sequence of the newest delta sent to it
	sentAcked uint64
	lag, peak time.Duration
	peakAt    time.Duration

	// As standby of it:
	differs   int
	compared  time.Duration
	equal     bool // since it is connected, once
	repairing bool
	askedAt   time.Duration
	nextAsk   time.Duration
	backoff   time.Duration
	start     uint32 // clock at which its repair began
	begun     bool

	// As its holder:
	told         time.Duration // when it got the last digest
	need, repair Bits
	part         bundle
	diffWant     bool // it waits for a walk that answers its diff
	diffAsk      bool // the walk that runs does
	diffBits     Bits
	diffPart     bundle
}

// Hello is this member's.
func (m *Machine) Hello() Hello {
	return Hello{Version: Version, Cluster: m.cfg.Cluster, Member: m.cfg.Self, Nonce: m.cfg.Nonce, Addresses: m.cfg.Addresses}
}

// CheckHello tells whether the sender of a hello may be a peer. Like Hello it may be called from any goroutine.
func (m *Machine) CheckHello(h *Hello) error {
	if h.Cluster != m.cfg.Cluster {
		return because(OtherCluster, "cluster %d", h.Cluster)
	}
	if h.Member == m.cfg.Self || !slices.Contains(m.cfg.Members, h.Member) {
		return because(NotAMember, "member %d", h.Member)
	}
	return nil
}

// PeerUp begins a session with a member whose hello was checked. A session before it has ended.
func (m *Machine) PeerUp(now time.Duration, h Hello) {
	m.now = now
	m.peers[h.Member] = &peer{id: h.Member, up: true, hello: h, since: now}
	before := len(m.local)
	for _, a := range h.Addresses {
		m.local.Add(a)
	}
	if len(m.local) != before && !m.role.Holder {
		// What concerns the peer only leaves the model. At the holder that can wait for the walk that the peer asks for, when
		// it finds a difference: with a large table two walks one after the other would make it wait twice as long.
		m.out.Walk()
	}
	m.sendState(m.peers[h.Member])
	m.sendDigest(m.peers[h.Member])
}

// PeerDown ends a session.
func (m *Machine) PeerDown(now time.Duration, id uint8) {
	m.now = now
	if p := m.peers[id]; p != nil && p.up {
		m.peers[id] = &peer{id: id, state: PeerState{Text: "no connection"}, since: now}
	}
	m.judge()
}

// SetRole tells what the cluster says.
func (m *Machine) SetRole(now time.Duration, r Role) {
	m.now = now
	m.settle()
	was := m.role
	m.role = r
	if r.Holder {
		m.term = max(m.term, r.Term)
	}
	if was.Holder && !r.Holder {
		m.lost = now
	}
	if r.Holder != was.Holder {
		for _, p := range m.peers { // what was on its way belongs to the other role
			p.repairing, p.begun, p.backoff, p.nextAsk = false, false, 0, 0
		}
	}
	if r.Holder && !was.Holder {
		// What packets made before the role was known here is told by a walk, and peers compare at once.
		m.hurry, m.hurried = true, m.now
		m.out.Walk()
		m.digests()
	}
	m.judge()
}

// sharing reports whether peers are told what packets do here.
func (m *Machine) sharing() bool {
	return m.role.Holder || m.lost != 0 && m.now-m.lost < drainTime
}

// Listens reports whether the events of new and changed entries matter: to a standby, all of those are its own doing.
func (m *Machine) Listens() bool { return !m.loaded || !m.role.Known || m.sharing() }

// Tick does what is due. It is to be called every 50 ms or so.
func (m *Machine) Tick(now time.Duration) {
	m.now = now
	m.settle()
	for _, p := range m.peers {
		if p.up && p.acked && now-p.ackedAt >= ackEvery {
			m.ack(p)
		}
		if p.repairing && now-p.askedAt > repairPatience {
			p.repairing, p.begun = false, false
		}
	}
	if now >= m.nextDig {
		m.digests()
	}
	for _, p := range m.peers {
		if p.up && !p.state.InSync && now-p.told >= DigestEvery/4 {
			m.sendDigest(p) // a member that waits for it is not kept waiting
		}
	}
	m.judge()
	if now >= m.nextSay {
		m.sayState()
	}
}

func (m *Machine) digests() {
	m.nextDig = m.now + DigestEvery
	for _, p := range m.peers {
		m.sendDigest(p)
	}
}

// sendDigest tells a peer what this member, as the holder, has at this place of the stream.
func (m *Machine) sendDigest(p *peer) {
	if !p.up || !m.role.Holder || !m.loaded {
		return
	}
	m.flush()
	p.told = m.now
	m.out.Send(p.id, digestFrame(m.role.Term, true, len(m.table.entries), &m.table.digest))
}

func (m *Machine) sayState() {
	m.nextSay = m.now + stateEvery
	for _, p := range m.peers {
		m.sendState(p)
	}
}

func (m *Machine) sendState(p *peer) {
	if p.up {
		s := PeerState{InSync: m.inSync, Full: m.full, Entries: uint32(len(m.table.entries)), Text: m.text}
		m.out.Send(p.id, s.frame())
	}
}

// source is the peer that this member follows: the one that holds the role by the newest term.
func (m *Machine) source() *peer {
	var best *peer
	for _, p := range m.peers {
		if p.up && p.holder && p.term >= m.term && (best == nil || p.term > best.term) {
			best = p
		}
	}
	return best
}

// judge finds out whether this member is in sync, and tells when that changes.
func (m *Machine) judge() {
	ok, text := m.verdict()
	m.behind.note(m, ok, text)
	if ok == m.inSync {
		m.text = text
		return
	}
	m.inSync, m.text, m.since = ok, text, m.now
	if ok {
		m.out.Log(Notice, "in sync: "+text)
	} else {
		m.out.Log(Warning, "not in sync: "+text)
	}
	m.sayState()
}

func (m *Machine) verdict() (bool, string) {
	if !m.loaded {
		return false, "reading the connection table"
	}
	if m.role.Holder {
		m.good = m.now
		return true, "this member holds the role"
	}
	p := m.source()
	why := m.missing(p)
	switch {
	case why != "" && m.inSync && !m.full && m.now-m.good < fresh:
		return true, why // not for long
	case why != "":
		return false, why
	}
	return true, fmt.Sprintf("equal to member %d", p.id)
}

// missing says why the table may not be that of the peer which holds the role.
func (m *Machine) missing(p *peer) string {
	switch {
	case p == nil && !m.role.Known:
		return "the role is not known: had does not answer"
	case p == nil && m.role.Other == 0:
		return "no member holds the role"
	case p == nil:
		return fmt.Sprintf("no connection to the holder, member %d", m.role.Other)
	case m.full:
		count, most := m.kernel.Size()
		return fmt.Sprintf("the connection table is full: %d of %d", count, most)
	case !p.equal && p.repairing:
		return fmt.Sprintf("loading from member %d: %d entries of %d", p.id, len(m.table.entries), p.entries)
	case !p.equal:
		return fmt.Sprintf("comparing with member %d", p.id)
	case m.table.doomed > 0:
		return fmt.Sprintf("removing %d entries that member %d does not have", m.table.doomed, p.id)
	case m.now-p.compared >= fresh:
		return fmt.Sprintf("member %d has sent no digest for %v", p.id, (m.now - p.compared).Round(time.Second))
	case p.differs > 0:
		return fmt.Sprintf("%d of %d buckets differ from member %d", p.differs, Buckets, p.id)
	}
	return ""
}

// InSync tells whether this member's table is that of the holder, and says why or why not.
func (m *Machine) InSync() (bool, string) { return m.inSync, m.text }

// Barrier asks every peer that is in sync to say when it has everything told so far. It gives whom it asked.
func (m *Machine) Barrier(now time.Duration, number uint64) (asked, others []uint8) {
	m.now = now
	m.flush()
	for _, p := range m.peers {
		if p.up && p.state.InSync && m.out.Send(p.id, numberFrame(TypeBarrier, number)) {
			asked = append(asked, p.id)
		} else {
			others = append(others, p.id)
		}
	}
	return asked, others
}
