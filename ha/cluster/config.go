package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Instant is a moment on the monotonic clock: the time since any fixed point.
type Instant time.Duration

// Add returns t+d.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns t-u.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Never is later than every Instant in use.
const Never = Instant(1<<63 - 1)

// MaxMembers is the most members one cluster can have; member IDs are 1..MaxMembers.
const MaxMembers = wire.MaxMembers

// MaxID is the highest ID of a witness; theirs are MaxMembers+1..MaxID.
const MaxID = wire.MaxID

// MaxInterfaces is the most interfaces one member can send heartbeats on.
const MaxInterfaces = 32

// Timing of a cluster. All members have the same.
type Timing struct {
	// Beat is the interval between heartbeats on one normal interface. The sync interface carries one
	// after each of any other (G1, Sync, G2, Sync, …), and never fewer than two a Beat.
	Beat time.Duration
	// Lease is how long the gate stays open after the holder's last beat.
	Lease time.Duration
	// Dead is how long a peer must be silent on all interfaces to be taken for dead.
	Dead time.Duration
	// Silence is how long a member listens after its start before it may take the role: at least two dead times.
	Silence time.Duration
}

// DefaultTiming is the timing of a node file that gives none.
var DefaultTiming = Timing{Beat: 10 * time.Millisecond, Lease: 40 * time.Millisecond, Dead: 60 * time.Millisecond, Silence: 500 * time.Millisecond}

// MinLease is the shortest lease the kernel can keep: set timeouts are counted in jiffies of 4 ms
// (HZ=250), and reference/gate.md saw frames dropped below this.
const MinLease = 12 * time.Millisecond

// Validate refuses any timing under which two gates could be open at once, or under which one late beat
// would cost the role.
func (t Timing) Validate() error {
	switch {
	case t.Beat < time.Millisecond:
		return fmt.Errorf("beat %v is shorter than 1ms", t.Beat)
	case t.Lease < MinLease:
		return fmt.Errorf("lease %v is shorter than %v, the least the kernel can keep", t.Lease, MinLease)
	case t.Lease < 2*t.Beat:
		return fmt.Errorf("lease %v is shorter than two beats (%v): one late beat would shut the gate", t.Lease, 2*t.Beat)
	case t.Lease+t.Beat >= t.Dead:
		return fmt.Errorf("dead %v must be longer than lease + beat (%v): a peer could open its gate before ours has shut", t.Dead, t.Lease+t.Beat)
	case t.Silence < 2*t.Dead:
		return fmt.Errorf("silence %v is shorter than two times dead %v: members that start together would not have proved themselves to each other", t.Silence, t.Dead)
	case t.Dead > time.Minute || t.Silence > 10*time.Minute:
		return fmt.Errorf("dead %v or silence %v is longer than makes sense (1m, 10m)", t.Dead, t.Silence)
	}
	return nil
}

// Mode says who holds the role when more than one member is fit.
type Mode uint8

const (
	// ActiveUp leaves the role with the member that has it.
	ActiveUp Mode = iota
	// PrimaryUp gives it back to the member with the highest priority, once that is in sync and has been fit for
	// PrimaryHold.
	PrimaryUp
)

// String returns the mode as the node file has it.
func (m Mode) String() string {
	if m == PrimaryUp {
		return "primary-up"
	}
	return "active-up"
}

// PrimaryHold is how long a member must have been on standby before it asks for the role back, in dead times: a
// member that comes and goes must not take the role with it each time.
const PrimaryHold = 20

// Member is one configured member.
type Member struct {
	ID       uint8 // 1..MaxMembers
	Name     string
	Priority uint8 // higher is preferred
}

// Interface is one interface the machine sends on or watches. Its index in [Config.Interfaces] is how
// events and actions name it.
type Interface struct {
	Number    uint8 // 1.., the same on all members for the same network
	Name      string
	NN        uint8
	Sync      bool
	Heartbeat bool
	// Routed is no interface of its own but the path over routers to a witness elsewhere. Its heartbeats carry no order to
	// the gate, and the lease does not live by them.
	Routed bool
}

// Config of one member.
type Config struct {
	Cluster uint8
	Self    uint8
	Members []Member
	// Witnesses only judge. With one the role needs a majority of members and witnesses.
	Witnesses []Member
	// Safety demands that majority without a witness as well; of two members the survivor then waits for the operator.
	Safety bool
	// Lock keeps the role with the member that took it unplanned, until the operator clears the lock.
	Lock bool
	// Barrier makes a planned hand-over wait until the successor has every connection, see [Barrier].
	Barrier    bool
	Serial     uint64
	Interfaces []Interface
	Timing     Timing
	Mode       Mode
	// Term is the highest term this member remembers from before (state directory), 0 if none.
	Term uint64
	// Nonce names this boot; random, never 0.
	Nonce uint64
}

// Validate checks what [New] relies on.
func (c Config) Validate() error {
	if c.Cluster == 0 {
		return fmt.Errorf("cluster ID 0: use 1..255")
	}
	if c.Nonce == 0 {
		return fmt.Errorf("boot nonce is 0")
	}
	if len(c.Interfaces) > MaxInterfaces {
		return fmt.Errorf("%d interfaces, at most %d", len(c.Interfaces), MaxInterfaces)
	}
	self, seen := false, [MaxID + 1]bool{}
	for i, m := range append(slices.Clone(c.Members), c.Witnesses...) {
		switch judges := i >= len(c.Members); {
		case !judges && (m.ID < 1 || m.ID > MaxMembers):
			return fmt.Errorf("member ID %d: use 1..%d", m.ID, MaxMembers)
		case judges && (m.ID <= MaxMembers || m.ID > MaxID):
			return fmt.Errorf("witness ID %d: use %d..%d", m.ID, MaxMembers+1, MaxID)
		}
		if seen[m.ID] {
			return fmt.Errorf("member ID %d is given twice", m.ID)
		}
		seen[m.ID] = true
		self = self || m.ID == c.Self
	}
	if !self {
		return fmt.Errorf("own member ID %d is not among the members", c.Self)
	}
	if err := c.Timing.Validate(); err != nil {
		return err
	}
	if t := c.Timing; c.Quorum() && t.vote() < minVote*t.Beat {
		return fmt.Errorf("dead %v must be at least lease + %d beats (%v) with a witness or in safety mode: a vote must outlive the loss of a heartbeat, and the lease after it",
			t.Dead, minVote+1, t.Lease+(minVote+1)*t.Beat)
	}
	return nil
}

// schedule is the order in which interfaces send: every normal interface once a round, the sync
// interface after each of them.
func (c Config) schedule() []int {
	var normal, slots []int
	sync := -1
	for i, f := range c.Interfaces {
		switch {
		case !f.Heartbeat:
		case f.Sync && sync < 0:
			sync = i
		default:
			normal = append(normal, i)
		}
	}
	if sync < 0 {
		return normal
	}
	if len(normal) == 0 {
		return []int{sync, sync}
	}
	if len(normal) == 1 {
		return []int{sync, normal[0], sync}
	}
	for _, i := range normal {
		slots = append(slots, i, sync)
	}
	return slots
}
