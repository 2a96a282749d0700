package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Kind names what a [Fault] does.
type Kind string

// Kinds. The comment names the fields that count besides At, and what For is the time of.
const (
	Loss        Kind = "loss"        // Value: probability per frame; Interface
	Delay       Kind = "delay"       // Value: more delay, in dead times; Interface
	Jitter      Kind = "jitter"      // Value: most of a random delay, in dead times, so frames overtake; Interface
	Corrupt     Kind = "corrupt"     // Value: probability that a frame arrives damaged; Interface
	Cut         Kind = "cut"         // Member to Peer, one way; Interface
	Partition   Kind = "partition"   // Side against all others, both ways, all interfaces; Peer, if not 0, is in touch with both
	Isolate     Kind = "isolate"     // Member against all others but Peer, all interfaces; Value 1: only what it sends, 2: only what it would hear
	Mirror      Kind = "mirror"      // Member's own frames come back on Interface
	Stranger    Kind = "stranger"    // a foreign cluster sends active beats on Interface: Value 0 with our ID and another key, 1 with another ID and our key
	Replay      Kind = "replay"      // at the end of For, what Member sent meanwhile is sent again
	Crash       Kind = "crash"       // Member's process dies and starts again after For (0: never); Value: after how many ms the supervisor says farewell, negative: never
	PowerCut    Kind = "power-cut"   // Member's box dies and starts again after For (0: never); Blank
	Pause       Kind = "pause"       // Member's process stands still for For
	PauseBox    Kind = "pause-box"   // Member's box stands still for For, its clock counts
	Freeze      Kind = "freeze-box"  // Member's box stands still for For, and its clock with it
	Slow        Kind = "slow"        // Member's process gets the CPU late, by up to Value beats
	LinkDown    Kind = "link-down"   // Member has no carrier on Interface
	Sick        Kind = "device"      // a critical device of Member has a problem
	Preparing   Kind = "preparing"   // a critical device of Member is not ready yet
	Silent      Kind = "silent"      // a critical device of Member reports once, and is silent past its timeout until it is unregistered
	Lockdown    Kind = "lockdown"    // a critical device of Member forbids it to hold the role
	OutOfSync   Kind = "not-in-sync" // Member's connections are not those of the active member
	Saturated   Kind = "saturated"   // Member's CPUs are saturated
	Unused      Kind = "unused"      // the operator takes heartbeats and monitoring off Member's Interface
	Busy        Kind = "busy"        // Value: Member's connection count, from At on
	Claim       Kind = "activate"    // operator's command to Member
	GiveUp      Kind = "deactivate"  // operator's command to Member; Peer: to whom, Value: for how many dead times
	Leave       Kind = "leave"       // Member stops in an orderly way and starts again after For (0: never)
	Reconfigure Kind = "reconfigure" // Leave; the next start is with the history's Other settings, also if the member was not there to stop
	Priority    Kind = "priority"    // operator's command to all: Member has priority Value
	Remove      Kind = "remove"      // Member stops in an orderly way, for good; after For the operator has all others forget it
)

// All is the Interface of a fault that concerns all of them.
const All = -1

// Fault is one thing that happens in a [History].
type Fault struct {
	At        Span    `json:"at"`
	For       Span    `json:"for,omitzero"`
	Kind      Kind    `json:"kind"`
	Member    uint8   `json:"member,omitzero"`
	Peer      uint8   `json:"peer,omitzero"`
	Side      []int   `json:"side,omitempty"`
	Interface int     `json:"interface,omitzero"`
	Value     float64 `json:"value,omitzero"`
	// Blank loses the disk with the power: the term is forgotten.
	Blank bool `json:"blank,omitzero"`
	// On, when set, is what the fault waits for from At on, but not for longer than a few dead times; it begins Lag after
	// that. A Member of 0 is whoever did it then. With a Lag of 0 the heartbeat that says so has not left yet.
	On  Moment `json:"on,omitempty"`
	Lag Span   `json:"lag,omitzero"`
}

// Span is a time.Duration that reads as "1.5s" in JSON.
type Span time.Duration

// String returns "1.5s".
func (s Span) String() string { return time.Duration(s).String() }

// MarshalText writes "1.5s".
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads "1.5s".
func (s *Span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*s = Span(d)
	return err
}

// anywhere reports whether the fault is nobody's in particular.
func (f *Fault) anywhere() bool {
	return slices.Contains([]Kind{Loss, Delay, Jitter, Corrupt, Partition, Stranger}, f.Kind)
}

// after is for how long after At a fault may change something, in a cluster with a dead time.
func (f *Fault) after(dead Span) Span {
	end := f.For + f.Lag
	if f.On != "" {
		end += momentPatience * dead
	}
	if f.Kind == Remove || f.Kind == Priority {
		end += (tries/2 + 3) * dead
	}
	return end
}

// String says what happens in a network engineer's words.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	if f.Member != 0 {
		fmt.Fprintf(&b, " %s", gw(f.Member))
	}
	if f.Peer != 0 && f.Kind != Partition && f.Kind != Isolate {
		fmt.Fprintf(&b, " → %s", gw(f.Peer))
	}
	for i, id := range f.Side {
		fmt.Fprintf(&b, "%c %s", " +"[min(i, 1)], gw(id))
	}
	switch {
	case f.Peer != 0 && f.Kind == Partition:
		fmt.Fprintf(&b, ", %s in touch with both sides", gw(f.Peer))
	case f.Peer != 0 && f.Kind == Isolate:
		fmt.Fprintf(&b, " from all but %s", gw(f.Peer))
	}
	switch f.Kind {
	case Loss, Delay, Jitter, Corrupt, Cut, Mirror, Stranger, LinkDown, Unused:
		if f.Interface == All {
			b.WriteString(", all interfaces")
		} else {
			fmt.Fprintf(&b, ", interface %d", f.Interface+1)
		}
	}
	if f.Value != 0 {
		fmt.Fprintf(&b, ", %.3g", f.Value)
	}
	if f.Blank {
		b.WriteString(", disk lost")
	}
	if f.For != 0 {
		fmt.Fprintf(&b, ", for %v", f.For)
	}
	if f.On != "" {
		fmt.Fprintf(&b, ", %v after a %s", f.Lag, f.On)
	}
	return b.String()
}

// ends reports whether the fault is in force for a time, rather than being one event.
func (f *Fault) ends() bool {
	switch f.Kind {
	case Busy, Claim, GiveUp, Priority:
		return false
	}
	return f.For > 0
}

// Inject puts a fault into the future of a world. Faults that overlap add up.
func (w *World) Inject(f Fault) {
	if f.Kind == Replay {
		w.Node(f.Member).tape = &tape{}
	}
	w.After(time.Duration(f.At)-time.Duration(w.Now), func() {
		if f.On != "" {
			w.await(&f)
			return
		}
		w.strike(&f)
	})
}

// strike lets a fault begin.
func (w *World) strike(f *Fault) {
	w.trace("--- %v", *f)
	w.disturb()
	var n *Node
	if f.Member != 0 {
		n = w.Node(f.Member)
	}
	undo := w.begin(f, n)
	if !f.ends() {
		return
	}
	w.active++
	w.After(time.Duration(f.For), func() {
		w.trace("--- end of %v", *f)
		w.active--
		w.disturb()
		if undo != nil {
			undo()
		}
	})
}

// begin makes a fault happen and returns what ends it.
func (w *World) begin(f *Fault, n *Node) (undo func()) {
	switch f.Kind {
	case Loss, Delay, Jitter, Corrupt:
		w.faults = append(w.faults, f)
		return func() {
			for i, g := range w.faults {
				if g == f {
					w.faults = append(w.faults[:i], w.faults[i+1:]...)
					return
				}
			}
		}
	case Cut, Partition, Isolate:
		w.cut(f, 1)
		return func() { w.cut(f, -1) }
	case Mirror:
		w.mirror[n.ID][f.Interface]++
		return func() { w.mirror[n.ID][f.Interface]-- }
	case Stranger:
		w.strange(f, w.Now.Add(time.Duration(f.For)))
	case Replay:
		n.tape.frames = n.tape.frames[:0]
		return func() { w.replay(n) }
	case Reconfigure:
		n.other = w.other
		switch {
		case n.Machine == nil:
			return nil
		case w.Now < n.asleep: // as soon as it answers
			w.After(n.asleep.Sub(w.Now)+1, func() { w.strike(f) })
			return nil
		}
		n.Input(cluster.Leave{})
		return n.restart
	case Crash, PowerCut, Leave:
		if n.Machine == nil || f.Kind != PowerCut && w.Now < n.asleep {
			return nil // nothing of a box that stands still dies
		}
		w.kill(f, n)
		return n.restart
	case Remove:
		if n.removed {
			return nil
		}
		n.removed = true
		n.Input(cluster.Leave{})
		return func() { w.forget(n) }
	case Priority:
		w.prefer(n.ID, uint8(f.Value))
	case Pause:
		n.Pause(time.Duration(f.For))
	case PauseBox, Freeze:
		n.PauseBox(time.Duration(f.For), f.Kind == Freeze)
	case Slow:
		by := time.Duration(f.Value * float64(w.timing.Beat))
		n.slow += by
		return func() { n.slow -= by }
	case LinkDown:
		n.carrier(f.Interface, 1)
		return func() { n.carrier(f.Interface, -1) }
	case Sick:
		name := fmt.Sprintf("device-%v", f.At)
		n.Input(cluster.Device{Name: name, State: cluster.DeviceProblem, Text: "fails"})
		return func() { n.Input(cluster.Device{Name: name}) }
	case Preparing, Lockdown:
		name := fmt.Sprintf("device-%v", f.At)
		n.Input(cluster.Device{Name: name, State: map[Kind]cluster.DeviceState{Preparing: cluster.DeviceInit, Lockdown: cluster.DeviceLockdown}[f.Kind], Text: "says so"})
		return func() { n.Input(cluster.Device{Name: name}) }
	case Silent:
		name := fmt.Sprintf("device-%v", f.At)
		n.Input(cluster.Device{Name: name, Timeout: time.Duration(f.For) / 2})
		return func() { n.Input(cluster.Unregister{Name: name}) }
	case OutOfSync:
		n.Input(cluster.SyncState{Text: "loading"})
		return func() { n.Input(cluster.SyncState{InSync: true}) }
	case Saturated:
		n.Input(cluster.Busy(true))
		return func() { n.Input(cluster.Busy(false)) }
	case Unused:
		n.Input(cluster.Watch{Interface: f.Interface})
		return func() { n.Input(cluster.Watch{Interface: f.Interface, Heartbeat: true, Monitored: true}) }
	case Busy:
		n.Input(cluster.Connections(f.Value))
	case Claim:
		n.Input(cluster.Activate{})
	case GiveUp:
		away := time.Duration(f.Value * float64(w.timing.Dead))
		n.Input(cluster.Deactivate{To: f.Peer, For: away})
		w.After(away, w.disturb) // it asks for the role again
	default:
		panic("sim: unknown kind of fault " + string(f.Kind))
	}
	return nil
}

// restart boots a member that is not there, once its box is awake.
func (n *Node) restart() {
	switch {
	case n.w.Now < n.asleep:
		n.w.After(n.asleep.Sub(n.w.Now)+1, n.restart)
	case n.Machine == nil && !n.removed:
		n.w.disturb()
		n.Boot()
	}
}

func (w *World) kill(f *Fault, n *Node) {
	switch f.Kind {
	case PowerCut:
		n.PowerCut()
		if f.Blank {
			n.disk, n.led = 0, 0
		}
	case Crash:
		last, boots := n.Crash(), n.boots
		if f.Value >= 0 {
			w.After(time.Duration(f.Value*float64(time.Millisecond)), func() {
				if n.boots == boots && n.asleep <= w.Now {
					n.Farewell(last)
				}
			})
		}
	case Leave:
		n.Input(cluster.Leave{})
	}
}

// cut changes the number of cuts on every path the fault concerns.
func (w *World) cut(f *Fault, by int8) {
	side := [maxID + 1]bool{}
	for _, id := range f.Side {
		side[id] = true
	}
	parted := func(a, b uint8) bool {
		return f.Kind == Partition && side[a] != side[b] && (f.Peer == 0 || a != f.Peer && b != f.Peer)
	}
	for _, a := range w.Nodes {
		for _, b := range w.Nodes {
			hit := f.Kind == Cut && a.ID == f.Member && b.ID == f.Peer || parted(a.ID, b.ID) || f.isolates(a.ID, b.ID)
			for i := range maxIface {
				if hit && (f.Kind != Cut || f.Interface == All || f.Interface == i) {
					w.cuts[a.ID][b.ID][i] += by
				}
			}
		}
	}
}

// isolates reports whether the fault is one that keeps what a sends from b.
func (f *Fault) isolates(a, b uint8) bool {
	return f.Kind == Isolate && a != b && (a == f.Member && b != f.Peer && f.Value != 2 || b == f.Member && a != f.Peer && f.Value != 1)
}

// carrier changes the number of faults that take an interface's carrier away.
func (n *Node) carrier(iface int, by int8) {
	was := n.down[iface] == 0
	n.down[iface] += by
	if up := n.down[iface] == 0; up != was {
		n.Input(cluster.Link{Interface: iface, Up: up})
	}
}

// strange is a foreign cluster's active member 1 on the same wire.
func (w *World) strange(f *Fault, until cluster.Instant) {
	b := wire.Beat{Version: wire.Version, Flags: wire.Holder | wire.InSync, Cluster: clusterID, Member: 1, State: wire.Active, Interface: uint8(f.Interface + 1),
		Nonce: 4711, Term: 1 << 40, Priority: 255, Order: wire.Keep}
	key := stranger
	if f.Value != 0 {
		b.Cluster, key = clusterID+1, 0
	}
	var beat func()
	beat = func() {
		b.Seq++
		sealed := w.seal(f.Interface, b.Member, &b, key)
		for _, to := range w.Nodes {
			// It says nothing about any path of ours, so it comes from the receiver itself.
			w.post(&event{kind: evFrame, to: to, from: to.ID, iface: uint8(f.Interface), frame: sealed}, w.Net.Delay)
		}
		w.release(sealed)
		if w.Now < until {
			w.After(w.timing.Beat, beat)
		}
	}
	beat()
}
