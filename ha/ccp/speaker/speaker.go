// Package speaker speaks the Cluster Control Protocol for one member: sockets on its NICs, authentication, replay windows,
// limits and counters, around the pure parts ha/ccp (bytes) and ha/probe (whose side failed). It is told what the
// member knows, several times a second, and keeps what peers think of the cluster. Nothing here moves the role: a
// verdict is a value that others may make a critical device of.
//
// A packet counts only when it is of the boot of its sender that the heartbeats have proved (docs/decisions/0003), so no
// recording of an earlier boot is believed, without a proof of its own.
//
// had runs in real time as a whole, and so does this package: a thread of lower priority in the same process would
// stop the garbage collector, and with it the heartbeats, whenever it is kept from the CPU (docs/decisions/0050). What
// keeps it from disturbing them is its budget: see rate.
package speaker

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/probe"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Interface is one NIC that CCP is spoken on.
type Interface struct {
	Name      string
	Device    string // kernel name
	Number    uint8
	Sync      bool
	Heartbeat bool
	Address   netip.Prefix // private address, IPv4
}

// Config of a speaker.
type Config struct {
	Cluster, Self uint8
	Members       []probe.Member
	Key           []byte // the cluster key
	Mode          ccp.Mode
	Interfaces    []Interface
	// Silence is how long a living member must not be heard on an interface for the questions to begin.
	Silence time.Duration
	// Policy is the revision of the policy in force, 0 for none.
	Policy uint64
	// Look asks the member what it knows now; false when it is gone.
	Look func() (View, bool)
	// Event is told of verdicts and refusals, at a limited rate.
	Event func(cluster.Log)
}

// View is what the member knows.
type View struct {
	Nonce uint64 // of this boot
	State wire.State
	Peers []Peer
	Links []Link // by interface index
}

// Peer is another member by its heartbeats.
type Peer struct {
	ID    uint8
	Alive bool
	Boot  uint64 // nonce that is believed in, 0 if none
	State wire.State
	Heard []time.Duration // age of the newest heartbeat by interface index, -1 if none
}

// Link is an interface.
type Link struct{ Present, Up bool }

// Timing of the speaker.
const (
	lookPeriod  = 200 * time.Millisecond
	statePeriod = time.Second
	// fresh is how long a MY_STATE counts as its sender's opinion: three are lost then.
	fresh = 3*statePeriod + statePeriod/2
	// hold is how long a side of ours that had failed must be good again to count as good.
	hold     = 5 * time.Second
	timeUnit = 100 * time.Millisecond
	// countPeriod is how often a NIC's counters are read.
	countPeriod = 500 * time.Millisecond
	// knownPeriod is how often the kernel is asked for neighbours while all is well.
	knownPeriod = 30 * time.Second
	maxKnown    = 2 * ccp.MaxReported
)

// Names of events.
const (
	EvProbe   = "interface_probe"
	EvOpen    = "ccp_not_open"
	EvRefused = "ccp_refused"
	EvPolicy  = "policy_change"
)

// Group is the multicast group of a cluster, 239.255.0.x with x its ID (RFC 2365, the local scope).
func Group(cluster uint8) netip.Addr { return netip.AddrFrom4([4]byte{239, 255, 0, cluster}) }

// Speaker is one member's CCP.
type Speaker struct {
	cfg   Config
	start time.Time
	group netip.Addr

	frames  chan received
	answers chan probe.Answer

	mu       sync.Mutex // everything below
	key      *ccp.Key
	view     View
	probe    *probe.Machine
	ifaces   []*iface
	peers    map[uint8]*peer
	seq      uint64
	states   []ccp.State // as last sent
	stateAt  time.Duration
	payload  []byte
	frame    []byte
	sent     uint64
	received uint64
	refusals map[ccp.Reason]*refusal
	policy   uint64 // revision in force
}

// peer is another member.
type peer struct {
	boot   uint64
	window ccp.Window
	states []ccp.State // its newest MY_STATE, by member ID - 1
	at     time.Duration
	// Its newest POLICY_CHANGE that was logged.
	said       saying
	saidSeq    uint64
	saidBudget bucket
}

func newPeer(boot uint64) *peer {
	return &peer{boot: boot, at: -fresh, saidBudget: bucket{rate: policyLogRate, burst: policyLogBurst}}
}

// New prepares a speaker; nothing is open yet.
func New(cfg Config) (*Speaker, error) {
	key, err := ccp.NewKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	pc := probe.Config{Self: cfg.Self, Members: cfg.Members, Silence: cfg.Silence, Hold: hold}
	s := &Speaker{cfg: cfg, key: key, start: time.Now(), group: Group(cfg.Cluster), peers: map[uint8]*peer{}, refusals: map[ccp.Reason]*refusal{},
		frames: make(chan received, 32), answers: make(chan probe.Answer, 64), stateAt: -statePeriod, policy: cfg.Policy}
	for _, f := range cfg.Interfaces {
		pc.Interfaces = append(pc.Interfaces, probe.Interface{Number: f.Number, Name: f.Name, Heartbeat: f.Heartbeat})
		s.ifaces = append(s.ifaces, &iface{Interface: f, addresses: map[uint8]netip.Addr{}, openAt: -reopen, knownAt: -knownPeriod})
	}
	for _, m := range cfg.Members {
		if m.ID != cfg.Self {
			s.peers[m.ID] = newPeer(0)
		}
	}
	s.probe = probe.New(pc, 0)
	return s, nil
}

func (s *Speaker) now() time.Duration { return time.Since(s.start) }

// Run speaks until stop is closed or the member is gone.
func (s *Speaker) Run(stop <-chan struct{}) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	defer wg.Wait()
	defer func() {
		close(done)
		for _, f := range s.ifaces {
			f.close()
		}
	}()
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case f := <-s.frames:
			s.locked(func() { s.handle(&f) })
		case a := <-s.answers:
			s.locked(func() { s.do(s.probe.Step(probe.Instant(s.now()), a)) })
		case <-tick.C:
			v, ok := s.cfg.Look()
			if !ok {
				return
			}
			s.locked(func() {
				s.look(v)
				for i, f := range s.ifaces {
					s.open(i, f, &wg, done)
				}
				s.speak()
				s.tell()
			})
		}
	}
}

func (s *Speaker) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// look takes in what the member knows.
func (s *Speaker) look(v View) {
	s.view = v
	for _, p := range v.Peers {
		if q := s.peers[p.ID]; q != nil && q.boot != p.Boot {
			*q = *newPeer(p.Boot)
			for _, f := range s.ifaces {
				delete(f.addresses, p.ID)
				f.asked, f.query = 0, p.Boot != 0
			}
		}
	}
	facts := probe.Facts{}
	for _, p := range v.Peers {
		facts.Peers = append(facts.Peers, probe.Peer{ID: p.ID, Alive: p.Alive, Heard: p.Heard})
	}
	for i, f := range s.ifaces {
		l := probe.Link{Present: v.Links[i].Present, Up: v.Links[i].Up, Neighbours: f.known}
		if l.Present && f.Heartbeat {
			if s.now()-f.countedAt >= countPeriod {
				f.frames, f.countedAt = f.framesReceived(), s.now()
			}
			if s.now()-f.knownAt >= knownPeriod {
				f.refresh(s.now())
			}
		}
		l.Frames = f.frames
		facts.Links = append(facts.Links, l)
	}
	s.do(s.probe.Step(probe.Instant(s.now()), facts))
}

// do carries out what the machine asks for.
func (s *Speaker) do(actions []probe.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case probe.Ask:
			s.send(a.Interface, ccp.Everyone, a.ID, ccp.IfProbeReq{Interface: a.About}, ccp.AppendReport(nil, a.Report))
		case probe.Tell:
			s.send(a.Interface, a.To, a.ID, ccp.IfProbeReply{Interface: a.About}, ccp.AppendReport(nil, a.Report))
		case probe.Solicit:
			s.solicit(a.Interface, a.Also)
		}
	}
}

// own are the states of all members as this one sees them, by member ID - 1.
func (s *Speaker) own() []ccp.State {
	out := make([]ccp.State, 0, ccp.MaxMembers)
	set := func(id uint8, state wire.State) {
		for len(out) < int(id) {
			out = append(out, ccp.Down)
		}
		out[id-1] = ccp.StateOf(state)
	}
	set(s.cfg.Self, s.view.State)
	for _, p := range s.view.Peers {
		set(p.ID, p.State)
	}
	return out
}

// speak sends MY_STATE once a second and when it has changed, and asks peers for theirs and for their addresses.
func (s *Speaker) speak() {
	for i, f := range s.ifaces {
		if f.query && f.current() != nil {
			f.query = false
			s.send(i, ccp.Everyone, 0, ccp.QueryState{}, nil)
		}
	}
	states := s.own()
	changed := !slices.Equal(states, s.states)
	if !changed && s.now()-s.stateAt < statePeriod {
		return
	}
	s.states = states
	periodic := s.now()-s.stateAt >= statePeriod
	if periodic {
		s.stateAt = s.now()
	}
	for i, f := range s.ifaces {
		if f.Heartbeat {
			s.send(i, ccp.Everyone, 0, s.myState(i), nil)
			if periodic {
				s.askAddresses(i, f)
			}
		}
	}
}

func (s *Speaker) myState(i int) ccp.MyState {
	in, assumedIn, out, assumedOut := s.probe.Proved()
	r := &ccp.InterfaceReport{InUp: uint8(in), InAssumedUp: uint8(assumedIn), OutUp: uint8(out), OutAssumedUp: uint8(assumedOut)}
	now := probe.Instant(s.now())
	for id := range s.states {
		units := uint8(ccp.Never)
		if age := s.probe.LastHeard(now, i, uint8(id+1)); age >= 0 && age < ccp.Never*timeUnit {
			units = uint8(age / timeUnit)
		}
		if uint8(id+1) == s.cfg.Self {
			units = 0
		}
		r.LastSeen = append(r.LastSeen, units)
	}
	return ccp.MyState{Mode: s.cfg.Mode, TimeUnit: uint16(timeUnit / time.Millisecond), States: s.own(), Interfaces: r}
}
