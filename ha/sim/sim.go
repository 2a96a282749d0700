// Package sim runs whole clusters of production machines (ha/cluster) over virtual time. Frames go through the
// production codec (ha/wire); the process around the machine is modelled after ha/member, the kernel's gate rule by
// rule after ha/gate; the invariants of DESIGN §7 are checked after every event.
//
// A [World] is a running cluster, for stories written by hand. A [History] is a story as a value: members, timing,
// network and a list of [Fault]s. [Generate] makes one from a seed, [History.Play] runs it, [Shrink] makes a failing one
// short. The same history gives the same events, to the last nanosecond.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Key of every simulated cluster.
var Key = []byte("0123456789abcdef0123456789abcdef")

// clusterID of every simulated cluster.
const clusterID = 7

// Net is the behaviour of all links, changeable while running.
type Net struct {
	Loss, Duplicate float64 // probability per frame and receiver
	Delay, Jitter   time.Duration
}

// World is a cluster under simulation.
type World struct {
	Now cluster.Instant
	Net Net
	// Nodes are the members in the order of their IDs, then the witnesses.
	Nodes []*Node
	// Cut, when set, says whether frames from one member to another on an interface index are lost.
	Cut func(from, to uint8, iface int) bool
	// Trace, when set, is told everything that happens.
	Trace func(line string)
	// AllowDual switches invariant 1 off, for stories in which no path is left.
	AllowDual bool
	// Strict excuses two open gates only while neither of the two hears the other; otherwise one deaf direction
	// is enough.
	Strict bool
	// Jiffy is the kernel's tick: its timeouts run out up to this much early.
	Jiffy time.Duration
	// RealKey signs and checks every frame. Otherwise a frame's tag is the name of its key.
	RealKey bool
	// DropAsleep loses frames to a machine that is paused as a whole, instead of queueing them.
	DropAsleep bool

	checker

	members int // of Nodes
	rng     *rand.Rand
	queue   queue
	cuts    [maxID + 1][maxID + 1][maxIface]int8 // how many faults cut this way
	faults  []*Fault                             // in force, of those that work on the network
	awaited []*Fault                             // that wait for their moments
	other   *Settings                            // of the history
	mirror  [maxID + 1][maxIface]int8
	path    [maxID + 1][maxID + 1]path // from, to
	keys    [2]*wire.Key               // ours, a stranger's
	buf     []byte
	frames  []*frame // to be used again
}

const (
	maxMember = cluster.MaxMembers
	maxID     = cluster.MaxID
	maxIface  = 8
)

// Normal is the number of interfaces besides the sync interface that [New] gives a member.
const Normal = 2

// New makes a cluster of n members with three interfaces (G1, G2, Sync), all starting at time 0.
func New(seed uint64, n int, t cluster.Timing) *World {
	w := empty(seed, n, 0, Normal, t)
	w.Net = Net{Delay: 100 * time.Microsecond, Jitter: 200 * time.Microsecond}
	w.start()
	return w
}

// empty makes a cluster whose members and witnesses have not been started.
func empty(seed uint64, n, witnesses, normal int, t cluster.Timing) *World {
	w := &World{members: n, rng: rand.New(rand.NewPCG(seed, 0x7477696e))}
	w.checker.init(t, n)
	var interfaces []cluster.Interface
	for i := range normal {
		interfaces = append(interfaces, cluster.Interface{Number: uint8(i + 1), Name: fmt.Sprintf("G%d", i+1), NN: uint8(i<<4 + 0x11), Heartbeat: true})
	}
	interfaces = append(interfaces, cluster.Interface{Number: uint8(normal + 1), Name: "Sync", NN: uint8(normal<<4 + 0x11), Heartbeat: true, Sync: true})
	var members []cluster.Member
	for i := range n {
		members = append(members, cluster.Member{ID: uint8(i + 1), Name: gw(i + 1), Priority: uint8(120 - 10*i)})
	}
	var judges []cluster.Member
	for i := range witnesses {
		id := uint8(cluster.MaxMembers + 1 + i)
		judges = append(judges, cluster.Member{ID: id, Name: gw(id)})
	}
	for _, c := range slices.Concat(members, judges) {
		w.Nodes = append(w.Nodes, &Node{ID: c.ID, w: w, timer: cluster.Never, Config: cluster.Config{
			Cluster: clusterID, Self: c.ID, Members: members, Witnesses: judges, Timing: t, Interfaces: interfaces}})
	}
	return w
}

func (w *World) start() {
	for _, n := range w.Nodes {
		n.Boot()
	}
}

// Node returns the member with the ID.
func (w *World) Node(id uint8) *Node {
	if id > cluster.MaxMembers {
		return w.Nodes[w.members+int(id)-cluster.MaxMembers-1]
	}
	return w.Nodes[id-1]
}

// known reports whether anybody has the ID.
func (w *World) known(id uint8) bool {
	if id > cluster.MaxMembers {
		return int(id)-cluster.MaxMembers <= len(w.Nodes)-w.members
	}
	return id > 0 && int(id) <= w.members
}

// gw is what a story calls a member or witness.
func gw[T ~uint8 | ~int](id T) string {
	if id > cluster.MaxMembers {
		return fmt.Sprintf("witness-%d", id)
	}
	return "gw-" + string(rune('a'+id-1))
}

// After schedules f.
func (w *World) After(d time.Duration, f func()) { w.queue.push(&event{at: w.Now.Add(d), f: f}) }

// Run lets d pass.
func (w *World) Run(d time.Duration) {
	end := w.Now.Add(d)
	for w.queue.due(end) {
		e := w.queue.pop()
		w.advance(e.at)
		switch e.kind {
		case evCall:
			e.f()
		case evFrame:
			w.arrive(&e)
		case evTimer:
			e.to.fire()
		case evWake:
			e.to.wake()
		}
	}
	w.advance(end)
}

// Open lists the members whose gate is open.
func (w *World) Open() []uint8 {
	var ids []uint8
	for _, n := range w.Nodes {
		if n.open(w.Now) {
			ids = append(ids, n.ID)
		}
	}
	return ids
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

func (w *World) trace(format string, args ...any) {
	if w.Trace != nil {
		w.Trace(fmt.Sprintf("%12v  ", time.Duration(w.Now)) + fmt.Sprintf(format, args...))
	}
}

// upTo is a random duration below d, 0 if d is.
func (w *World) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Uint64N(uint64(d)))
}
