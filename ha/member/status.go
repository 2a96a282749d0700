package member

import (
	"net/netip"
	"time"
)

// Status is what had serves at GET /v1/status: everything the console shows about the cluster. Durations
// are measured on the monotonic clock.
type Status struct {
	ClusterID   uint8  `json:"cluster_id"`
	ClusterName string `json:"cluster_name,omitempty"`
	Member      uint8  `json:"member"`      // own member ID, 1..8; a witness 9..11
	MemberName  string `json:"member_name"` // e.g. "gw-a"
	Designated  bool   `json:"designated"`  // this member is the designated master (highest priority, then lowest ID)
	State       string `json:"state"`       // INIT READY STANDBY ACTIVE ACTIVE! DOWN WITNESS
	Reason      string `json:"reason"`      // why it is in that state, for people
	// StateSince is how long the member has been in State.
	StateSince Duration `json:"state_since"`
	Mode       string   `json:"mode"` // active-up
	Priority   uint8    `json:"priority"`
	Term       uint64   `json:"term"`
	Holder     uint8    `json:"holder"` // member whose gate may be open, 0 if none is known
	InSync     bool     `json:"in_sync"`
	// Problems names every critical device that reports a problem, e.g. "interface G1: no carrier".
	Problems    []string     `json:"problems,omitempty"`
	Connections uint32       `json:"connections"`
	Policy      PolicyStatus `json:"policy,omitzero"`
	// ConfigError is set when the node file could not be used; the member is then DOWN with its gate shut.
	ConfigError string            `json:"config_error,omitempty"`
	Timing      TimingStatus      `json:"timing"`
	Gate        GateStatus        `json:"gate"`
	VIPs        []VIPStatus       `json:"vips"`
	Peers       []PeerStatus      `json:"peers"`
	Interfaces  []InterfaceStatus `json:"interfaces"`
	Devices     []DeviceStatus    `json:"devices,omitempty"` // critical devices that somebody registered
	// Rejected counts received frames that were refused, by reason.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
	// Quorum is nil where the role needs no majority.
	Quorum    *QuorumStatus   `json:"quorum,omitempty"`
	Witnesses []WitnessStatus `json:"witnesses,omitempty"`
	Paths     []PathStatus    `json:"paths,omitempty"` // over routers
	// Lock is whether the cluster locks after an unplanned takeover, Locked why the role is locked here now; empty: it is not.
	Lock     bool           `json:"lock"`
	Locked   string         `json:"locked,omitempty"`
	Failover FailoverStatus `json:"failover"`
	// Opinions is what the other members think of this one.
	Opinions []Opinion `json:"opinions,omitempty"`
	// Control counts the packets of the Cluster Control Protocol.
	Control ControlStatus `json:"ccp"`
	// RSS is the resident memory of had in bytes.
	RSS uint64 `json:"rss"`
}

// TimingStatus is the timing in force. Lease < Dead always.
type TimingStatus struct {
	Beat    Duration `json:"beat"`
	Lease   Duration `json:"lease"`
	Dead    Duration `json:"dead"`
	Silence Duration `json:"silence"` // listening time after start
}

// GateStatus is the kernel's view of the gate.
type GateStatus struct {
	Open     bool `json:"open"`
	Draining bool `json:"draining"`
	// Error is set when the gate could not be read or installed.
	Error string `json:"error,omitempty"`
}

// VIPStatus is one virtual address and the shared MAC that answers for it.
type VIPStatus struct {
	Interface string `json:"interface"`
	Address   string `json:"address"`
	MAC       string `json:"mac"`
	Device    string `json:"device"` // the macvlan that carries it
}

// PeerStatus is what this member knows of one other member.
type PeerStatus struct {
	Member      uint8        `json:"member"`
	Name        string       `json:"name"`
	Alive       bool         `json:"alive"`
	State       string       `json:"state"` // as reported by the peer; LOST when silent
	Term        uint64       `json:"term"`
	Priority    uint8        `json:"priority"`
	Demotion    uint16       `json:"demotion"` // 0 = fit
	InSync      bool         `json:"in_sync"`
	Connections uint32       `json:"connections"`
	Policy      PolicyStatus `json:"policy,omitzero"`
	// Addresses are the private IPv4 addresses it sends heartbeats from.
	Addresses []PeerAddress `json:"addresses,omitempty"`
	LastHeard Duration      `json:"last_heard"`        // age of the newest accepted heartbeat, -1ns if none
	LastOn    string        `json:"last_on"`           // interface it arrived on
	Vote      uint8         `json:"vote,omitempty"`    // whom it supports as holder, 0: nobody
	Differs   string        `json:"differs,omitempty"` // the settings it has other than ours, by its node file or its policy
	// Opinions is what the other members think of it, itself included, but not this one: that is State.
	Opinions []Opinion `json:"opinions,omitempty"`
}

// PolicyStatus is the policy that a member says it runs; zero: none.
type PolicyStatus struct {
	Revision uint64 `json:"revision"`
	Digest   string `json:"digest"` // its first eight bytes, in hexadecimal
}

// PeerAddress is where a peer's heartbeats come from on one interface. Nothing proves it: whoever connects there proves
// himself.
type PeerAddress struct {
	Interface string     `json:"interface"`
	Sync      bool       `json:"sync,omitempty"`
	Address   netip.Addr `json:"address"`
	LastHeard Duration   `json:"last_heard"`
}

// QuorumStatus says whether this member has the majority that the role needs.
type QuorumStatus struct {
	Voters   int `json:"voters"`   // members and witnesses
	Majority int `json:"majority"` // of them
	// Support counts the votes for this member now, its own included; 0 while it supports another one.
	Support int    `json:"support"`
	Vote    uint8  `json:"vote"`              // whom this member supports, 0: nobody
	Missing string `json:"missing,omitempty"` // whose votes are missing and why
	Safety  bool   `json:"safety"`            // by safety mode
	Forced  bool   `json:"forced,omitempty"`  // an operator gave it the role without a majority
}

// WitnessStatus is what this member knows of a witness.
type WitnessStatus struct {
	Member    uint8    `json:"member"`
	Name      string   `json:"name"`
	Alive     bool     `json:"alive"`
	State     string   `json:"state"`
	Vote      uint8    `json:"vote,omitempty"`
	LastHeard Duration `json:"last_heard"` // -1ns if never
	LastOn    string   `json:"last_on"`
	Differs   string   `json:"differs,omitempty"`
}

// PathStatus is a path over routers between a member and a witness.
type PathStatus struct {
	Name      string   `json:"name"`
	Remote    string   `json:"remote"` // the other ends
	Sent      uint64   `json:"sent"`
	Failed    uint64   `json:"failed,omitempty"`
	Received  uint64   `json:"received"`
	LastHeard Duration `json:"last_heard"`
	Problem   string   `json:"problem,omitempty"`
}

// InterfaceStatus is one interface that carries heartbeats or VIPs.
type InterfaceStatus struct {
	Name      string `json:"name"`   // G1
	Device    string `json:"device"` // kernel name
	Number    uint8  `json:"number"`
	Present   bool   `json:"present"`
	Carrier   bool   `json:"carrier"`
	Heartbeat bool   `json:"heartbeat"`
	// Unmonitored: its carrier does not count, by the operator.
	Unmonitored bool   `json:"unmonitored,omitempty"`
	Sync        bool   `json:"sync"`
	MAC         string `json:"mac"`
	BeatMAC     string `json:"beat_mac"`   // 11-00-00-00-NN-MM
	SharedMAC   string `json:"shared_mac"` // 10-00-00-00-NN-MM
	Address     string `json:"address"`
	Sent        uint64 `json:"sent"`
	Received    uint64 `json:"received"`
	// LastHeard is the age of the newest peer heartbeat on this interface, -1ns if none.
	LastHeard Duration `json:"last_heard"`
	Problem   string   `json:"problem,omitempty"`
	// Verdict says whose side failed, with the evidence; empty while all living members are heard.
	Verdict *VerdictStatus `json:"verdict,omitempty"`
}

// DeviceStatus is one critical device.
type DeviceStatus struct {
	Name     string   `json:"name"`
	State    string   `json:"state"` // ok, init, problem
	Text     string   `json:"text,omitempty"`
	Timeout  Duration `json:"timeout"`  // 0s: it may be silent for ever
	Reported Duration `json:"reported"` // age of the last report
}

// FailoverStatus counts role changes since had started.
type FailoverStatus struct {
	Count  uint64   `json:"count"`
	Last   string   `json:"last,omitempty"` // reason and evidence of the last one
	Since  Duration `json:"since"`          // how long ago, -1ns if never
	Reason string   `json:"reason,omitempty"`
	// History is the newest changes of the holder as this member saw them, oldest first, at most 32.
	History []FailoverRecord `json:"history,omitempty"`
}

// FailoverRecord is one change of the holder.
type FailoverRecord struct {
	Ago    Duration `json:"ago"`
	Holder string   `json:"holder"` // who became active
	Term   uint64   `json:"term"`
	Reason string   `json:"reason"` // with the evidence: what was last heard, where, how late
}

// Event is one line of GET /v1/events, oldest first.
type Event struct {
	Seq      uint64   `json:"seq"`
	Uptime   Duration `json:"uptime"`   // monotonic, since boot
	Severity string   `json:"severity"` // info, notice, warning, error
	Name     string   `json:"name"`     // peer_gone, "Master role assumed - failover", …
	Text     string   `json:"text"`     // one sentence with the evidence
}

// Duration is a time.Duration that reads well in JSON ("1.5s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
