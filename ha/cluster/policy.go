package cluster

import (
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Policy says which policy a member runs: its revision and the first eight bytes of its digest. Zero is none. The machine
// only tells it and compares: what follows from it is for a critical device to say.
type Policy struct{ Revision, Digest uint64 }

func (Policy) input() {}

// String names the policy for people.
func (p Policy) String() string {
	if p == (Policy{}) {
		return "no policy"
	}
	return fmt.Sprintf("policy revision %d (%016x)", p.Revision, p.Digest)
}

// policyPatience is for how long two members may run different policies before that is an event: an install switches
// them one after the other.
const policyPatience = 2 * time.Second

// differing is since when a peer runs another policy than this member.
type differing struct {
	since Instant
	on    bool
	said  Policy // what was logged; zero: nothing
}

func (m *Machine) setPolicy(p Policy) {
	m.policy = p
	m.reply(true, p.String())
}

// comparePolicy takes in what a peer's accepted heartbeat says of its policy.
func (m *Machine) comparePolicy(p *peer, b *wire.Beat) {
	theirs, d := Policy{b.PolicyRevision, b.PolicyDigest}, &p.differing
	switch {
	case p.id > MaxMembers || m.cfg.Self > MaxMembers:
		return // a witness runs none
	case theirs == m.policy:
		if d.said != (Policy{}) {
			m.log(Notice, EvPolicy, fmt.Sprintf("%s and this member run the same again: %s", m.name(p.id), theirs))
		}
		*d = differing{}
	case !d.on:
		*d = differing{since: m.now, on: true}
	case m.now.Sub(d.since) >= policyPatience && d.said != theirs.orNone():
		d.said = theirs.orNone()
		m.log(Warning, EvPolicy, fmt.Sprintf("%s runs %s, this member %s; see 'policy status' on both", m.name(p.id), theirs, m.policy))
	}
}

// orNone tells none from nothing said.
func (p Policy) orNone() Policy {
	if p == (Policy{}) {
		return Policy{Digest: 1}
	}
	return p
}
