// Package sim runs whole clusters of production machines (ha/cluster) over virtual time: frames go through
// the production codec (ha/wire), the kernel's gate is modelled rule by rule as ha/gate installs it, and the
// invariants of DESIGN §7 are checked after every event. The same seed gives the same history.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Key of every simulated cluster.
var Key = []byte("0123456789abcdef0123456789abcdef")

// Net is the behaviour of all links, changeable while running.
type Net struct {
	Loss, Duplicate float64 // probability per frame and receiver
	Delay, Jitter   time.Duration
}

// World is a cluster under simulation.
type World struct {
	Now   cluster.Instant
	Net   Net
	Nodes []*Node // index = member ID - 1
	// Cut says whether frames from one member to another on an interface index are lost.
	Cut func(from, to uint8, iface int) bool
	// Trace, when set, is told everything that happens.
	Trace func(line string)
	// AllowDual switches invariant 1 off, for stories in which no path is left.
	AllowDual bool
	// Violation is the first broken invariant, empty if none.
	Violation string
	// DualTime is for how long two gates were open at once.
	DualTime time.Duration

	rng    *rand.Rand
	queue  eventQueue
	serial uint64
}

// Node is one simulated member.
type Node struct {
	ID      uint8
	Config  cluster.Config
	Machine *cluster.Machine // nil while crashed
	Gate    Gate
	Logs    []cluster.Log
	// Announced counts announcements, AnnouncedAt is the last.
	Announced   int
	AnnouncedAt cluster.Instant

	w       *World
	key     *wire.Key
	disk    uint64 // the remembered term
	boots   uint64
	paused  cluster.Instant // not running before this
	backlog []func()
	tick    uint64
	down    map[int]bool // interfaces without carrier
	topTerm uint64
}

// Gate models the kernel's lease set: the instants at which its three keys run out.
type Gate struct{ lease, drain, shut cluster.Instant }

// Open reports whether frames to and from the shared MAC pass both ways.
func (g Gate) Open(now cluster.Instant) bool { return g.lease > now && g.shut <= now }

// New makes a cluster of n members with three interfaces (G1, G2, Sync), all starting at time 0.
func New(seed uint64, n int, t cluster.Timing) *World {
	w := &World{rng: rand.New(rand.NewPCG(seed, 0x7477696e)), Net: Net{Delay: 100 * time.Microsecond, Jitter: 200 * time.Microsecond},
		Cut: func(uint8, uint8, int) bool { return false }}
	var members []cluster.Member
	for i := range n {
		members = append(members, cluster.Member{ID: uint8(i + 1), Name: "gw-" + string(rune('a'+i)), Priority: uint8(120 - 10*i)})
	}
	for i := range n {
		key, err := wire.NewKey(Key)
		if err != nil {
			panic("sim: " + err.Error())
		}
		node := &Node{ID: uint8(i + 1), w: w, key: key, down: map[int]bool{}, Config: cluster.Config{
			Cluster: 7, Self: uint8(i + 1), Members: members, Timing: t, Interfaces: []cluster.Interface{
				{Number: 1, Name: "G1", NN: 0x11, Heartbeat: true},
				{Number: 2, Name: "G2", NN: 0x21, Heartbeat: true},
				{Number: 3, Name: "G3", NN: 0x31, Heartbeat: true, Sync: true},
			}}}
		w.Nodes = append(w.Nodes, node)
		node.Boot()
	}
	return w
}

// Node returns the member with the ID.
func (w *World) Node(id uint8) *Node { return w.Nodes[id-1] }

// After schedules f.
func (w *World) After(d time.Duration, f func()) {
	w.serial++
	heap.Push(&w.queue, event{at: w.Now.Add(d), serial: w.serial, f: f})
}

// Run lets d pass.
func (w *World) Run(d time.Duration) {
	end := w.Now.Add(d)
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.advance(e.at)
		e.f()
		w.check()
	}
	w.advance(end)
}

// advance moves time and adds up how long two gates were open.
func (w *World) advance(to cluster.Instant) {
	for at := w.Now; at < to; {
		open, next := 0, to
		for _, n := range w.Nodes {
			if n.Gate.Open(at) {
				open++
			}
			for _, edge := range []cluster.Instant{n.Gate.lease, n.Gate.shut} {
				if edge > at && edge < next {
					next = edge
				}
			}
		}
		if open > 1 {
			w.DualTime += next.Sub(at)
			w.violate("two gates open")
		}
		at = next
	}
	w.Now = max(w.Now, to)
}

func (w *World) violate(what string) {
	if w.Violation == "" && !w.AllowDual {
		w.Violation = fmt.Sprintf("%v: %s", time.Duration(w.Now), what)
	}
}

// Open lists the members whose gate is open.
func (w *World) Open() []uint8 {
	var ids []uint8
	for _, n := range w.Nodes {
		if n.Gate.Open(w.Now) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

func (w *World) check() {
	for _, n := range w.Nodes {
		if n.Machine == nil {
			continue
		}
		if t := n.Machine.View().Term; t < n.topTerm {
			w.violate(fmt.Sprintf("term of member %d went back from %d to %d", n.ID, n.topTerm, t))
		} else {
			n.topTerm = t
		}
	}
}

func (w *World) trace(format string, args ...any) {
	if w.Trace != nil {
		w.Trace(fmt.Sprintf("%12v  ", time.Duration(w.Now)) + fmt.Sprintf(format, args...))
	}
}

// Boot starts a crashed member. Its gate is installed shut, its term read from disk.
func (n *Node) Boot() {
	n.boots++
	c := n.Config
	c.Term = n.disk
	c.Nonce = uint64(n.ID)<<32 | n.boots
	m, err := cluster.New(c, n.w.Now)
	if err != nil {
		panic("sim: " + err.Error())
	}
	n.Machine, n.Gate, n.topTerm = m, Gate{}, n.disk
	n.backlog, n.paused = nil, 0
	for i := range c.Interfaces {
		n.Input(cluster.Link{Interface: i, Up: !n.down[i]})
	}
	n.schedule()
}

// Crash kills the process without a farewell; the kernel's gate lives on and runs out by itself.
func (n *Node) Crash() {
	n.w.trace("member %d crashes", n.ID)
	n.Machine = nil
	n.tick++
}

// PowerCut is a crash of the whole box.
func (n *Node) PowerCut() {
	n.Crash()
	n.Gate = Gate{}
}

// Farewell is what the supervisor does when the process has died.
func (n *Node) Farewell(last *cluster.Machine) {
	for i, f := range n.Config.Interfaces {
		if f.Heartbeat {
			n.transmit(n.w.Now, cluster.Send{Interface: i, Beat: last.Farewell(i)})
		}
	}
}

// Pause stops the member's process for d, as SIGSTOP or a hypervisor would. Its kernel runs on.
func (n *Node) Pause(d time.Duration) {
	n.w.trace("member %d stands still for %v", n.ID, d)
	n.paused = n.w.Now.Add(d)
	n.w.After(d, func() {
		if n.w.Now < n.paused {
			return
		}
		backlog := n.backlog
		n.backlog = nil
		for _, f := range backlog {
			f()
		}
		n.Input(cluster.Tick{})
	})
}

// SetLink changes an interface's carrier.
func (n *Node) SetLink(iface int, up bool) {
	n.down[iface] = !up
	n.Input(cluster.Link{Interface: iface, Up: up})
}

// Input gives the machine an input now, as its driver would.
func (n *Node) Input(in cluster.Input) {
	if n.Machine == nil {
		return
	}
	if n.w.Now < n.paused {
		n.backlog = append(n.backlog, func() { n.Input(in) })
		return
	}
	decided := n.w.Now
	lost := false
	for _, a := range append([]cluster.Action(nil), n.Machine.Step(decided, in)...) {
		switch a := a.(type) {
		case cluster.Send:
			lost = n.transmit(decided, a) || lost
		case cluster.Announce:
			n.Announced++
			n.AnnouncedAt = n.w.Now
			if !n.Gate.Open(n.w.Now) {
				n.w.violate(fmt.Sprintf("member %d announces behind a shut gate", n.ID))
			}
		case cluster.KeepTerm:
			n.disk = uint64(a)
		case cluster.Log:
			n.Logs = append(n.Logs, a)
			n.w.trace("gw-%c %-7s %s: %s", 'a'+n.ID-1, a.Severity, a.Name, a.Text)
		case cluster.Reply:
			n.w.trace("gw-%c reply   %v %s", 'a'+n.ID-1, a.OK, a.Message)
		}
	}
	if lost {
		n.Input(cluster.GateLost{Why: "the kernel refused a heartbeat"})
	}
	n.schedule()
}

// schedule arms the next tick, a little late as real timers are.
func (n *Node) schedule() {
	n.tick++
	mine := n.tick
	d := max(n.Machine.Deadline().Sub(n.w.Now), 0) + time.Duration(n.w.rng.Int64N(int64(200*time.Microsecond)))
	n.w.After(d, func() {
		if n.tick == mine {
			n.Input(cluster.Tick{})
		}
	})
}

// transmit passes a heartbeat through the gate's egress rules and the wire. It reports whether the gate
// refused it.
func (n *Node) transmit(decided cluster.Instant, a cluster.Send) (refused bool) {
	w, t := n.w, n.Config.Timing
	switch a.Beat.Order {
	case wire.Keep:
		if !n.Gate.Open(w.Now) {
			return true
		}
		n.Gate.lease = w.Now.Add(t.Lease)
	case wire.Open:
		n.Gate.lease = w.Now.Add(t.Lease)
	case wire.Drain:
		n.Gate.drain = w.Now.Add(t.Dead)
		n.Gate.shut = w.Now.Add(t.Lease)
	case wire.Shut:
		n.Gate.shut = w.Now.Add(t.Lease)
	}
	if n.down[a.Interface] {
		return false
	}
	f := n.Config.Interfaces[a.Interface]
	frame := wire.AppendFrame(nil, wire.Envelope{Dst: wire.BeatMAC(f.NN, n.Config.Cluster), Src: wire.MAC{2, 0, 0, 0, 0, n.ID},
		SrcIP: netip.AddrFrom4([4]byte{10, 0, byte(a.Interface), n.ID}), DstIP: netip.AddrFrom4([4]byte{10, 0, byte(a.Interface), 255})}, n.key.Seal(a.Beat.Append(nil)))
	for _, to := range w.Nodes {
		if to == n || w.Cut(n.ID, to.ID, a.Interface) {
			continue
		}
		copies := 1
		if w.rng.Float64() < w.Net.Loss {
			copies = 0
		} else if w.rng.Float64() < w.Net.Duplicate {
			copies = 2
		}
		for range copies {
			d := w.Net.Delay
			if w.Net.Jitter > 0 {
				d += time.Duration(w.rng.Int64N(int64(w.Net.Jitter)))
			}
			w.After(d, func() { to.Deliver(a.Interface, frame) })
		}
	}
	return false
}

// Deliver gives a member a frame that arrived on an interface.
func (n *Node) Deliver(iface int, frame []byte) {
	if n.Machine == nil || n.down[iface] {
		return
	}
	_, p, err := wire.ParseFrame(frame)
	if err == nil {
		p, err = n.key.Open(p)
	}
	var b wire.Beat
	if err == nil {
		b, err = wire.ParseBeat(p)
	}
	if err != nil {
		n.Input(cluster.Refused{Interface: iface, Reason: err.(wire.Reason)})
		return
	}
	n.Input(cluster.BeatReceived{Interface: iface, Beat: b})
}

// States is a line like "ACTIVE STANDBY" over all members, LOST for a crashed one.
func (w *World) States() string {
	var s []string
	for _, n := range w.Nodes {
		if n.Machine == nil {
			s = append(s, wire.Lost.String())
		} else {
			s = append(s, n.Machine.State().String())
		}
	}
	return strings.Join(s, " ")
}

type event struct {
	at     cluster.Instant
	serial uint64
	f      func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].serial < q[j].serial
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}
