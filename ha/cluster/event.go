package cluster

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Input is something that happened; see [Machine.Step].
type Input interface{ input() }

// Tick says only that time has passed.
type Tick struct{}

// BeatReceived is a heartbeat whose tag was right. Interface is the index of where it arrived. A pointer to one does as
// well; nothing of it is kept after the Step.
type BeatReceived struct {
	Interface int
	Beat      wire.Beat
}

// Refused is a frame that the codec refused.
type Refused struct {
	Interface int
	Reason    wire.Reason
}

// Link is a change (or the first report) of an interface's carrier. Missing means the NIC is not there.
type Link struct {
	Interface int
	Up        bool
	Missing   bool
}

// Connections is the size of the connection table.
type Connections uint32

// Activate is the operator's wish that this member take the role (`ha -activate`).
type Activate struct {
	// Force takes the role without the majority that a witness or safety mode demands. The operator knows that no
	// other member serves.
	Force bool
}

// SyncState says whether this member's connection table equals the active member's.
type SyncState struct {
	InSync bool
	Text   string // why not
}

// Busy says whether this member's CPUs are saturated: what it takes for silence may be its own.
type Busy bool

// Watch changes at run time how an interface is used, as the operator wants it.
type Watch struct {
	Interface int
	Heartbeat bool // it sends heartbeats
	Monitored bool // its carrier counts
}

// BarrierPassed answers [Barrier].
type BarrierPassed struct{}

// ClearLock is the operator's word that the role may be given back.
type ClearLock struct{}

// Deactivate is the operator's wish that this member give the role away (`ha -deactivate`, `cluster failover`).
type Deactivate struct {
	// To is the member that is to have it, 0 for the best.
	To uint8
	// For is how long this member stays away; then it asks for the role back, whatever the mode. 0: it does not
	// ask, in mode primary-up not before DefaultAway has passed.
	For time.Duration
}

// DefaultAway is how long the primary stays away after an operator took the role from it.
const DefaultAway = 10 * time.Minute

// Leave says that this member is about to stop: shut the gate and bid farewell.
type Leave struct{}

// GateLost says that the kernel's gate is shut although this member holds the role: its lease ran out
// before the next beat left, or no beat could leave.
type GateLost struct{ Why string }

// ShutLate says that the last order to shut the gate or let it drain left just now, later than [ShutMargin] after the
// Step that asked for it: it stands in the kernel for a lease from now, and no gate opens before.
type ShutLate struct{}

func (Tick) input()          {}
func (BeatReceived) input()  {}
func (Refused) input()       {}
func (Link) input()          {}
func (Connections) input()   {}
func (Activate) input()      {}
func (Deactivate) input()    {}
func (Leave) input()         {}
func (GateLost) input()      {}
func (ShutLate) input()      {}
func (SyncState) input()     {}
func (Busy) input()          {}
func (Watch) input()         {}
func (ClearLock) input()     {}
func (BarrierPassed) input() {}

// Action is something the driver must do, in order.
type Action interface{ action() }

// Send is one heartbeat to send on one interface. Its order works the gate (ha/wire). As the list it is in, its Heard is
// valid until the next Step.
type Send struct {
	Interface int
	Beat      wire.Beat
	// By is the latest instant at which a beat that keeps or opens the gate may leave: the majority's support ends
	// then. Later it is dropped, as in duty 3. Never, if there is no such end.
	By Instant
}

// Announce sends gratuitous ARP and unsolicited neighbour advertisements for every virtual address.
type Announce struct{}

// KeepTerm asks that the term be remembered across restarts. It need not be done before the next action.
type KeepTerm uint64

// Barrier asks that the connection table be confirmed by the successor before the role is handed over; [BarrierPassed] says
// that it is, or cannot be. The role is handed over after [BarrierPatience] in any case.
type Barrier struct{ Successor uint8 }

// BarrierPatience bounds the wait for [BarrierPassed]; meanwhile this member serves.
const BarrierPatience = 200 * time.Millisecond

// Reply answers an operator's input.
type Reply struct {
	OK      bool
	Message string
}

// Log is an event for the journal.
type Log struct {
	Severity Severity
	Name     string // in the wording of the field, e.g. peer_gone
	Text     string // one sentence with the evidence
}

func (Send) action()     {}
func (Barrier) action()  {}
func (Announce) action() {}
func (KeepTerm) action() {}
func (Reply) action()    {}
func (Log) action()      {}

// Severity of a [Log], in syslog's words.
type Severity string

// Severities in use.
const (
	Info    Severity = "info"
	Notice  Severity = "notice"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Names of events. Where a vendor has a name for it, it is that name (reference/vendors.md §1.7, seeds).
const (
	EvAssumed      = "Master role assumed - failover"
	EvReclaimed    = "Master role reclaimed by expected master"
	EvInitial      = "Master role assumed - start"
	EvResumed      = "Master role resumed"
	EvClaim        = "role_claimed"
	EvReleased     = "Master role released"
	EvState        = "state_change"
	EvPeerGone     = "peer_gone"
	EvPeerAlive    = "peer_alive"
	EvBothActive   = "conflict_both_peers_active"
	EvMyself       = string(wire.Myself)
	EvSyncIface    = "disallowed_on_sync_iface"
	EvNonSyncIface = "sync_packet_on_nonsync_iface"
	EvRefused      = "heartbeat_refused"
	EvStalled      = "stalled"
	EvLink         = "link"
	EvDevice       = "critical_device"
	EvHardware     = "hardware_mismatch"
	EvUnheard      = "unheard_by_peer"
	EvQuorum       = "quorum"
	EvLock         = "lock"
	EvSync         = "sync_state"
	EvPolicy       = "policy_differs"
)
