package probe

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
)

// Instant is a moment on the monotonic clock: the time since any fixed point.
type Instant time.Duration

// Sub returns t-u.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Add returns t+d.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// never is before every Instant in use.
const never = Instant(-1 << 62)

// Member is one configured member.
type Member struct {
	ID   uint8 // 1..ccp.MaxMembers
	Name string
}

// Interface is one interface of this member. Its index in [Config] is how inputs and actions name it.
type Interface struct {
	Number    uint8 // the same on all members for the same LAN
	Name      string
	Heartbeat bool // one without heartbeats cannot fall silent
}

// Config of a [Machine].
type Config struct {
	Self       uint8
	Members    []Member // with Self
	Interfaces []Interface
	// Silence is how long a member must not be heard on an interface for that interface to be in trouble.
	Silence time.Duration
	// Hold is how long an interface whose side had failed must be proved good again before it counts as good.
	Hold time.Duration
}

// Timing of the questions.
const (
	// Round is the time between two rounds of questions; after FastRounds without news it doubles up to MaxRound.
	Round      = time.Second
	FastRounds = 10
	MaxRound   = 10 * time.Second
	// ReplyMargin is how much later than our own silence a peer's proof must be.
	ReplyMargin = 500 * time.Millisecond
	// RoundsOurs and RoundsOther are how many rounds a finding must last to become a verdict.
	RoundsOurs  = 3
	RoundsOther = 1
	// MaxHold bounds the doubling of Config.Hold.
	MaxHold = 5 * time.Minute
)

// Input is something that happened; see [Machine.Step].
type Input interface{ input() }

// Facts is what the member knows by itself now. The machine wants them several times a second.
type Facts struct {
	Links []Link // by interface index
	Peers []Peer // other members
}

// Link is one interface.
type Link struct {
	Present, Up bool
	// Frames is the NIC's counter of received frames.
	Frames uint64
	// Neighbours are IPv4 hosts on that LAN the member knows; the first few are told to peers.
	Neighbours []netip.Addr
}

// Peer is one other member, by its heartbeats.
type Peer struct {
	ID    uint8
	Alive bool // heard on any interface within the dead time
	// Heard is the age of its newest heartbeat by interface index, [ccp.Unheard] if none.
	Heard []time.Duration
}

// Asked is an IF_PROBE_REQ of a peer.
type Asked struct {
	Interface int    // where it arrived
	Left      uint8  // number of the interface it left by
	From      uint8  // member
	About     uint8  // number of the interface in question
	ID        uint16 // random ID
	Report    *ccp.Report
}

// Told is an IF_PROBE_REPLY of a peer to a question of ours.
type Told struct {
	Interface int
	Left      uint8
	From      uint8
	About     uint8
	ID        uint16
	Report    *ccp.Report
}

// State is a MY_STATE of a peer: how long ago it has heard us on the interface it left by.
type State struct {
	Interface int
	Left      uint8
	From      uint8
	Heard     time.Duration
}

// Answer is an answer of a neighbour to this member on an interface.
type Answer struct {
	Interface int
	From      netip.Addr
}

func (Facts) input()  {}
func (Asked) input()  {}
func (Told) input()   {}
func (State) input()  {}
func (Answer) input() {}

// Action is something to do.
type Action interface{ action() }

// Ask sends an IF_PROBE_REQ to all members by an interface.
type Ask struct {
	Interface int   // to send it by
	About     uint8 // number of the interface in question
	ID        uint16
	Report    ccp.Report
}

// Tell sends an IF_PROBE_REPLY.
type Tell struct {
	Interface int
	To        uint8
	About     uint8
	ID        uint16
	Report    ccp.Report
}

// Solicit asks neighbours on an interface: those the member knows, and these.
type Solicit struct {
	Interface int
	Also      []netip.Addr
}

// Changed says that an interface has another verdict.
type Changed struct{ Verdict Verdict }

func (Ask) action()     {}
func (Tell) action()    {}
func (Solicit) action() {}
func (Changed) action() {}

// Kind of a verdict.
type Kind uint8

const (
	// OK: all living members are heard, or nothing is known to the contrary.
	OK Kind = iota
	// Probing: there is trouble, and no verdict yet.
	Probing
	// Alone: no other member is alive to compare with.
	Alone
	// Unknown: the evidence does not suffice.
	Unknown
	// LAN: nothing arrives here nor at the peers: the switch or the cable between.
	LAN
	// Split: the interface works here and at the peer, but the way between them does not.
	Split
	// OneWay: one direction of the way between two members is cut.
	OneWay
	// Filtered: other frames of the peer arrive, its heartbeats do not.
	Filtered
	// Theirs: the peer's side has failed.
	Theirs
	// Carrier: no carrier here, or no NIC.
	Carrier
	// Ours: our side has failed although there is carrier.
	Ours
)

var kindNames = [...]string{OK: "ok", Probing: "probing", Alone: "alone", Unknown: "unknown", LAN: "lan", Split: "split", OneWay: "one-way",
	Filtered: "filtered", Theirs: "theirs", Carrier: "no-carrier", Ours: "ours"}

// String is the word for it in the API.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Verdict on one interface.
type Verdict struct {
	Interface int
	Kind      Kind
	Text      string // with the evidence, for people; empty when OK
	Since     Instant
}
