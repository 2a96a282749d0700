package statesync

import (
	"slices"
	"time"
)

// Stats count since the start.
type Stats struct {
	Events       uint64            `json:"events"`        // of the kernel, that concern the cluster
	Local        uint64            `json:"local"`         // of the kernel, that concern this member only
	Told         uint64            `json:"told"`          // changes sent, once for all peers
	Taken        uint64            `json:"taken"`         // changes received
	Loaded       uint64            `json:"loaded"`        // entries received by repairs
	Repaired     uint64            `json:"repaired"`      // entries sent by repairs
	Refreshed    uint64            `json:"refreshed"`     // entries sent again because copies would run out
	Found        uint64            `json:"found"`         // entries that a walk found changed without an event
	Gone         uint64            `json:"gone"`          // entries that a walk found ended without an event
	Removed      uint64            `json:"removed"`       // entries removed because the holder does not have them
	Expired      uint64            `json:"expired"`       // entries that ran out here before the holder ended them
	Lost         uint64            `json:"lost"`          // times that the kernel dropped events: resynchronisations
	Gaps         uint64            `json:"gaps"`          // deltas of peers that did not arrive
	Overflows    uint64            `json:"overflows"`     // deltas not sent because a peer's queue was full
	Compared     uint64            `json:"compared"`      // digests compared
	Differed     uint64            `json:"differed"`      // of which not equal
	Repairs      uint64            `json:"repairs"`       // received to their end
	RepairsGiven uint64            `json:"repairs_given"` // begun for peers
	Passes       uint64            `json:"passes"`        // walks through the table
	PassTook     time.Duration     `json:"pass_took_ns"`  // the last one
	Refused      map[Reason]uint64 `json:"refused"`       // changes of peers that were not applied, by reason

	kernelSaid time.Duration
}

// PeerStatus is the session with one peer.
type PeerStatus struct {
	Member    uint8
	Up        bool
	Since     time.Duration // machine's time
	Holder    bool
	Term      uint64
	State     PeerState
	Unacked   uint64 // deltas
	Lag, Peak time.Duration
	Differs   int           // buckets, at the last comparison with it
	Compared  time.Duration // machine's time, 0 if never
	Repairing bool          // in either direction
}

// Status is a snapshot of a machine.
type Status struct {
	InSync       bool
	Text         string
	Since        time.Duration // machine's time
	Role         Role
	Entries      int
	Expectations int
	Full         bool
	Loaded       bool
	Doomed       int
	Peers        []PeerStatus
	Stats        Stats
}

// Status gives a snapshot that shares nothing with the machine.
func (m *Machine) Status() Status {
	s := Status{
		InSync: m.inSync, Text: m.text, Since: m.since, Role: m.role, Entries: len(m.table.entries) - m.table.expects, Expectations: m.table.expects,
		Full: m.full, Loaded: m.loaded, Doomed: m.table.doomed, Stats: m.Stats,
	}
	s.Stats.Refused = make(map[Reason]uint64, len(m.Stats.Refused))
	for r, n := range m.Stats.Refused {
		s.Stats.Refused[r] = n
	}
	for _, p := range m.peers {
		s.Peers = append(s.Peers, PeerStatus{
			Member: p.id, Up: p.up, Since: p.since, Holder: p.holder, Term: p.term, State: p.state, Unacked: p.sent - p.sentAcked, Lag: p.lag, Peak: p.peak,
			Differs: p.differs, Compared: p.compared, Repairing: p.repairing || !p.repair.Empty(),
		})
	}
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int { return int(a.Member) - int(b.Member) })
	return s
}
