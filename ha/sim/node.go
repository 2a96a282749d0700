package sim

import (
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Node is one simulated member: the box with its kernel and clock, and the process around the machine.
type Node struct {
	ID      uint8
	Config  cluster.Config
	Machine *cluster.Machine // nil while the process is not there
	Gate    Gate
	Logs    []cluster.Log
	// Announced counts announcements, AnnouncedAt is the last.
	Announced   int
	AnnouncedAt cluster.Instant

	w     *World
	disk  uint64 // the remembered term
	led   uint64 // the term it took the role with last, as long as the disk remembers
	boots uint64
	nonce uint64         // of this boot
	down  [maxIface]int8 // how many faults take the carrier away
	tape  *tape          // nil when nobody listens in
	// clock is what the box's monotonic clock is ahead of the world's; asleep is until when the whole box stands
	// still, thawed when it last woke up with a clock that had stood still as well.
	clock          time.Duration
	asleep, thawed cluster.Instant

	// The process, as the loop of ha/member: it carries out what the last step asked for, then takes the next
	// input, and steps with a tick when nothing waits.
	inbox    []message
	todo     []cluster.Action // the machine's list
	next     int              // in todo
	due      cluster.Instant  // the machine's deadline
	decided  cluster.Instant  // when todo was decided, box's clock
	lastLive cluster.Instant  // when the last beat left that keeps the gate open, box's clock
	shutLate time.Duration    // how late the last order to shut left
	lost     string           // why the role is to be given up after todo
	late     bool             // an order to shut left late, to be told after todo
	resume   cluster.Instant  // it does not run before this
	timer    cluster.Instant  // when the armed timer fires, Never if none is armed
	slow     time.Duration    // it gets the CPU up to this late
	newer    bool             // of the next version
	hasty    bool             // after a stop: its timer is seen before what waits in the sockets
	left     bool             // it has said farewell by itself
	removed  bool             // it never starts again
	other    *Settings        // for the next start
	storm    int              // heartbeats since stormAt
	stormAt  cluster.Instant

	facts
}

// message is an input, and the frame that it came in.
type message struct {
	cluster.Input
	frame *frame // nil: it came in none
}

// maxInbox is how many frames wait for a process that does not run, about what the sockets' buffers hold; the
// kernel drops what comes after them.
const maxInbox = 512

// local is the box's monotonic clock.
func (n *Node) local() cluster.Instant { return n.w.Now.Add(n.clock) }

// open reports whether the world sees the gate open: a box that stands still forwards nothing.
func (n *Node) open(now cluster.Instant) bool { return n.Gate.Open(now) && n.asleep <= now }

// order gives the box's gate an order that leaves in a heartbeat now.
func (n *Node) order(o wire.Order) bool {
	from := n.w.Now
	if j := cluster.Instant(n.w.Jiffy); j > 0 {
		from -= n.local() % j
	}
	ok := n.Gate.order(o, n.w.Now, from, &n.Config.Timing)
	if o != wire.Keep || n.Gate.lease < n.w.until { // that one nearly always puts off the end of a lease
		n.w.unsure = true
	}
	return ok
}

// Boot starts a member that is not running. Its gate is installed shut, its term read from disk.
func (n *Node) Boot() {
	n.boots++
	if n.other != nil {
		n.other.set(&n.Config)
	}
	c := n.Config
	c.Term = n.disk
	c.Nonce = uint64(n.ID)<<32 | n.boots
	n.nonce = c.Nonce
	for _, p := range n.w.Nodes {
		p.seen[n.ID] = 0
	}
	m, err := cluster.New(c, n.local())
	if err != nil {
		panic("sim: " + err.Error())
	}
	if n.boots > 1 {
		n.w.trace("%s starts", gw(n.ID))
	}
	n.Machine, n.Gate, n.facts, n.due = m, Gate{}, facts{term: n.disk, openAt: -1 << 62}, m.Deadline()
	n.inbox, n.todo, n.next, n.lost, n.late, n.left = n.inbox[:0], nil, 0, "", false, false
	n.w.unsure = true
	n.resume, n.lastLive, n.timer = n.asleep, 0, cluster.Never
	for i := range c.Interfaces {
		n.Input(cluster.Link{Interface: i, Up: n.down[i] == 0})
	}
	n.wake()
}

// Crash kills the process without a farewell; the kernel's gate lives on and runs out by itself. It returns the
// machine that died, for its supervisor.
func (n *Node) Crash() *cluster.Machine {
	n.w.trace("%s dies", gw(n.ID))
	last := n.Machine
	n.Machine = nil
	return last
}

// PowerCut is a crash of the whole box.
func (n *Node) PowerCut() {
	n.Crash()
	n.Gate, n.asleep = Gate{}, n.w.Now
	n.w.unsure = true
}

// Farewell is what the supervisor does when the process has died.
func (n *Node) Farewell(last *cluster.Machine) {
	n.w.trace("%s's supervisor says farewell for it", gw(n.ID))
	for i, f := range n.Config.Interfaces {
		if f.Heartbeat {
			b := last.Farewell(i)
			n.order(b.Order)
			n.w.transmit(n, i, &b)
		}
	}
}

// Pause stops the member's process for d, as SIGSTOP would. Its kernel runs on.
func (n *Node) Pause(d time.Duration) {
	n.w.trace("%s's process stands still for %v", gw(n.ID), d)
	n.stop(d)
}

// PauseBox stops the whole machine for d, as a hypervisor would. Its clock counts on, or stands still as well,
// which is the worst case: neither the process nor the kernel's lease can know that time has passed.
func (n *Node) PauseBox(d time.Duration, frozen bool) {
	w, since := n.w, n.w.Now
	w.trace("%s stands still for %v as a whole, clock %s", gw(n.ID), d, map[bool]string{false: "counting", true: "frozen"}[frozen])
	if since < n.asleep {
		return
	}
	until := since.Add(d)
	n.asleep = until
	w.unsure = true
	if frozen {
		w.queue.push(&event{at: until, f: func() {
			if n.asleep != until {
				return // it lost its power meanwhile
			}
			n.clock -= d
			n.thawed = w.Now
			n.Gate.sleep(since, d)
			w.unsure = true
		}})
	}
	n.stop(d)
}

// stop keeps the process from running for d.
func (n *Node) stop(d time.Duration) {
	n.resume = max(n.resume, n.w.Now.Add(d))
	n.hasty = n.w.rng.Uint64N(2) == 0
	n.w.queue.push(&event{at: n.w.Now.Add(d), kind: evWake, to: n})
}

// SetLink changes an interface's carrier.
func (n *Node) SetLink(iface int, up bool) {
	was := n.down[iface] == 0
	n.down[iface] = map[bool]int8{false: 1, true: 0}[up]
	if was != up {
		n.Input(cluster.Link{Interface: iface, Up: up})
	}
}

// Input gives the process something to do, as its driver would.
func (n *Node) Input(in cluster.Input) { n.receive(message{in, nil}) }

func (n *Node) receive(in message) {
	if n.Machine == nil || len(n.inbox) >= maxInbox {
		n.w.release(in.frame)
		return
	}
	n.inbox = append(n.inbox, in)
	if n.slow > 0 && n.resume <= n.w.Now && n.next >= len(n.todo) {
		n.stop(n.w.upTo(n.slow))
	}
	n.wake()
}

// fire is the timer.
func (n *Node) fire() {
	if n.w.Now < n.timer {
		return // of a boot before
	}
	n.timer = cluster.Never
	if n.slow > 0 && n.resume <= n.w.Now {
		n.stop(n.w.upTo(n.slow))
	}
	n.wake()
}

// maxTicks is how many ticks at one instant are too many.
const maxTicks = 100

// wake lets the process do all it can do now.
func (n *Node) wake() {
	taken, ticks := 0, 0
	for n.Machine != nil && n.w.Now >= n.resume {
		switch {
		case n.next < len(n.todo):
			if len(n.w.awaited) > 0 && n.spring(n.todo[n.next]) {
				continue
			}
			n.next++
			n.act(n.todo[n.next-1])
			if n.slow > 0 && n.w.rng.Uint64N(4) == 0 {
				n.stop(n.w.upTo(n.slow / 4)) // preempted in the middle of it
			}
			continue
		case n.left: // and the process ends
			n.Machine = nil
			return
		case n.lost != "":
			why := n.lost
			n.lost = ""
			n.step(cluster.GateLost{Why: why})
			continue
		case n.late:
			n.late = false
			n.step(cluster.ShutLate{})
			continue
		case n.hasty && n.due <= n.local():
			n.hasty = false // for what happens first is a matter of the scheduler
			n.step(cluster.Tick{})
			continue
		case taken < len(n.inbox):
			in := n.inbox[taken]
			taken++
			n.step(in.Input)
			n.w.release(in.frame)
			continue
		case n.due <= n.local():
			if ticks++; ticks > maxTicks {
				n.w.violate(6, "%s's process spins: after %d ticks its deadline is still in the past", gw(n.ID), maxTicks)
				n.resume = cluster.Never
				return
			}
			n.step(cluster.Tick{})
			continue
		}
		n.arm()
		break
	}
	if taken > 0 {
		n.inbox = n.inbox[:copy(n.inbox, n.inbox[taken:])]
	}
}

// arm sets the timer, which is a little late as real ones are.
func (n *Node) arm() {
	if n.due == cluster.Never {
		return
	}
	due := n.due.Add(-n.clock)
	if due >= n.timer {
		return // it fires earlier than needed, and is armed again then
	}
	at := max(due, n.w.Now).Add(n.w.upTo(200 * time.Microsecond))
	if at < n.timer {
		n.timer = at
		n.w.queue.push(&event{at: at, kind: evTimer, to: n})
	}
}

// step lets the machine decide.
func (n *Node) step(in cluster.Input) {
	n.w.checkAnnounced(n)
	n.decided = n.local()
	n.todo, n.next = n.Machine.Step(n.decided, in), 0
	n.due = n.Machine.Deadline()
	switch in := in.(type) {
	case *cluster.BeatReceived:
		n.w.reads(n, &in.Beat)
	case cluster.Leave:
		n.left = true
	}
}

// act carries one action out.
func (n *Node) act(a cluster.Action) {
	switch a := a.(type) {
	case cluster.Send:
		n.send(&a)
	case cluster.Announce:
		n.announce()
	case cluster.Barrier:
		if boots := n.boots; n.w.rng.Uint64N(4) != 0 { // or its state sync does not answer
			n.w.After(n.w.upTo(2*n.w.timing.Dead), func() {
				if n.boots == boots {
					n.Input(cluster.BarrierPassed{})
				}
			})
		}
	case cluster.KeepTerm:
		n.disk = uint64(a)
		n.w.checkKept(n, uint64(a))
	case cluster.Log:
		n.Logs, n.w.stir = append(n.Logs, a), n.w.Now
		if n.w.Trace != nil {
			n.w.trace("%s %-7s %s: %s", gw(n.ID), a.Severity, a.Name, a.Text)
		}
	case cluster.Reply:
		if n.w.Trace != nil {
			n.w.trace("%s reply   %v %s", gw(n.ID), a.OK, a.Message)
		}
	}
}

// gateWatch is how long the role must be held before ha/member believes what it reads in the kernel.
const gateWatch = 200 * time.Millisecond

// send sends one heartbeat, unless its order has become stale between the decision and now (duty 3 of
// ha/cluster) or the kernel refuses it.
func (n *Node) send(a *cluster.Send) {
	w, t, o := n.w, &n.Config.Timing, a.Beat.Order
	live := o == wire.Keep || o == wire.Open
	if live {
		since := n.lastLive
		if o == wire.Open {
			since = n.decided
		}
		if n.local() > a.By {
			n.lost = "a heartbeat would have left after the majority's support had ended"
			return
		}
		if late := n.local().Sub(since); late > t.Lease {
			n.lost = fmt.Sprintf("a heartbeat would have left %v after the last one", late)
			return
		}
	}
	if !n.order(o) {
		w.After(300*time.Microsecond, n.doubt)
		return
	}
	if live {
		n.lastLive = n.local()
	} else if o != wire.NoOrder {
		n.shutLate = n.local().Sub(n.decided)
		n.late = n.late || n.shutLate > cluster.ShutMargin
	}
	if a.Beat.Flags&stirring != 0 {
		w.stir = w.Now
	}
	w.checkStorm(n)
	w.checkBeat(n, &a.Beat)
	w.transmit(n, a.Interface, &a.Beat)
}

// doubt is the look at the kernel's gate that a refused heartbeat asks for (gateSeen in ha/member).
func (n *Node) doubt() {
	if m := n.Machine; m != nil && m.Holds() && !n.Gate.Open(n.w.Now) && n.local().Sub(m.Since()) > max(gateWatch, 2*n.Config.Timing.Lease) {
		n.Input(cluster.GateLost{Why: "the kernel's gate is shut although this member holds the role"})
	}
}

func (n *Node) announce() {
	if !n.Gate.Open(n.w.Now) {
		// A lease that ran out early by the kernel's rounding is nothing the machine could know.
		if n.local() == n.decided && n.local().Sub(n.lastLive) < n.Config.Timing.Lease-n.w.Jiffy {
			n.w.violate(1, "%s announces behind a shut gate%s", gw(n.ID), n.whyShut())
		}
		n.opened = 0
		return // the gate drops it
	}
	n.Announced++
	n.AnnouncedAt = n.w.Now
	n.opened = 0
}
