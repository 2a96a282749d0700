// Package fetch gets a recovering member the policy that it must run.
//
// [Machine] decides, from which source and whether at all, in the order of ClusterXL: an active peer first; when none
// gives one, the newer of the local policy and the management server's; with no local one, the server's; with nothing,
// the member stays closed. [Get] moves the bytes, [Fetcher] connects both to the store.
package fetch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// Source of a policy: an active member by its ID, or the management server.
type Source uint8

// Server is the management server.
const Server Source = 0

// String names the source.
func (s Source) String() string {
	if s == Server {
		return "the management server"
	}
	return fmt.Sprintf("member %d", uint8(s))
}

// Local is what the member has of its own.
type Local struct {
	artifact.Ref        // verified and usable; zero: none
	Floor        uint64 // highest revision that was ever in force here
	// Unsynced are commits that were acknowledged here and that some member did not get.
	Unsynced []artifact.Ref
	// Refused are not taken from the server: they were rolled back, or did not apply.
	Refused []digest.Digest
	// Resumed: the operator has said that what is unsynced may be overwritten, or a setting does.
	Resumed bool
}

// Head is what a source has.
type Head struct {
	artifact.Ref // in force there; zero: none
	// Known and Refused are a peer's history; a server has none.
	Known   []artifact.Ref  `json:"known,omitempty"`
	Refused []digest.Digest `json:"refused,omitempty"`
	// Confirm is set while a peer runs a policy that goes back by itself unless an operator confirms it.
	Confirm *Confirm `json:"confirm,omitempty"`
}

// Confirm is how far such a policy is.
type Confirm struct {
	Transaction string        `json:"transaction"`
	Previous    artifact.Ref  `json:"previous"` // what it goes back to; zero: none
	Remaining   time.Duration `json:"remaining_ns"`
}

// Kind of an action.
type Kind int

// Kinds of actions.
const (
	Ask    Kind = iota + 1 // ask From for its head, and give Answered the result
	Take                   // transfer Ref from From, verify and apply it, and give Taken the result
	Run                    // run the local policy Ref: the end
	Taken                  // Ref from From is in force: the end
	Hold                   // stay as it is until the operator decides about Unsynced: the end
	Closed                 // nothing to run: stay down and closed, and start again after a while: the end
)

// Action is what the machine wants done next. After an end, Reasons say how it came to it, for the console.
type Action struct {
	Kind     Kind
	From     Source
	Ref      artifact.Ref
	Unsynced []artifact.Ref
	Reasons  []string
}

// Machine is one run of the recovery order. It is pure: each method gives the next action.
type Machine struct {
	local   Local
	sources []Source // still to be asked, in order; the first is being asked
	head    Head
	reasons []string
}

// Start begins. active are the members that heartbeats show active, the best first; server says whether there is a
// management server in the settings.
func (m *Machine) Start(local Local, active []uint8, server bool) Action {
	*m = Machine{local: local}
	for _, id := range active {
		m.sources = append(m.sources, Source(id))
	}
	if len(active) == 0 {
		m.note("no member is active")
	}
	if server {
		m.sources = append(m.sources, Server)
	}
	return m.next()
}

func (m *Machine) note(format string, args ...any) {
	m.reasons = append(m.reasons, fmt.Sprintf(format, args...))
}

// next asks the first source left, or makes do with the local policy.
func (m *Machine) next() Action {
	if len(m.sources) > 0 {
		return Action{Kind: Ask, From: m.sources[0]}
	}
	if !m.local.IsZero() {
		return m.end(Action{Kind: Run, Ref: m.local.Ref})
	}
	m.note("there is no usable policy on this member")
	return m.end(Action{Kind: Closed})
}

func (m *Machine) end(a Action) Action {
	a.Reasons = m.reasons
	m.sources = nil
	return a
}

func (m *Machine) skip(format string, args ...any) Action {
	m.note(format, args...)
	m.sources = m.sources[1:]
	return m.next()
}

// Answered gives the answer to Ask.
func (m *Machine) Answered(h Head, err error) Action {
	from := m.sources[0]
	switch {
	case err != nil:
		return m.skip("%s: %v", from, err)
	case h.IsZero():
		return m.skip("%s has no policy", from)
	}
	m.head = h
	if from == Server {
		return m.server(h)
	}
	return m.peer(from, h)
}

// peer judges what an active member runs. That is what the cluster runs, so it wins, but for a commit that never
// reached it, and for a revision that this member has left behind.
func (m *Machine) peer(from Source, h Head) Action {
	if h.Digest == m.local.Digest {
		m.note("%s runs the same", from)
		return m.end(Action{Kind: Run, Ref: m.local.Ref})
	}
	if lost := Unsynced(m.local.Unsynced, h.Known); len(lost) > 0 && !m.local.Resumed {
		m.note("%s runs %s, and %s of this member never reached it", from, h.Ref, list(lost))
		return m.end(Action{Kind: Hold, From: from, Ref: h.Ref, Unsynced: lost})
	}
	rolledBack := !m.local.IsZero() && slices.Contains(h.Refused, m.local.Digest)
	if h.Revision >= m.wanted() || rolledBack || m.local.Resumed {
		return Action{Kind: Take, From: from, Ref: h.Ref}
	}
	return m.skip("%s runs the older %s: refused, this member has had revision %d", from, h.Ref, m.local.Floor)
}

// wanted is the lowest revision that is worth taking.
func (m *Machine) wanted() uint64 {
	if m.local.IsZero() {
		return m.local.Floor // what was in force here may come back; nothing older
	}
	return max(m.local.Floor, m.local.Revision) + 1
}

func (m *Machine) server(h Head) Action {
	switch {
	case slices.Contains(m.local.Refused, h.Digest):
		return m.skip("%s has %s, which was refused or rolled back here", Server, h.Ref)
	case h.Digest == m.local.Digest:
		return m.skip("%s has the same", Server)
	case h.Revision < m.wanted() && h.Revision == m.local.Revision:
		return m.skip("%s has another revision %d than this member (%s): refused", Server, h.Revision, artifact.Short(h.Digest))
	case h.Revision < m.wanted():
		return m.skip("%s has the older %s: refused", Server, h.Ref)
	}
	return Action{Kind: Take, From: Server, Ref: h.Ref}
}

// Done gives the result of Take: nil when the policy is verified, stored and in force.
func (m *Machine) Done(err error) Action {
	from := m.sources[0]
	if err != nil {
		return m.skip("%s: %v", from, err)
	}
	m.note("%s from %s", m.head.Ref, from)
	return m.end(Action{Kind: Taken, From: from, Ref: m.head.Ref})
}

func list(refs []artifact.Ref) string {
	var s []string
	for _, r := range refs {
		s = append(s, r.String())
	}
	return strings.Join(s, ", ")
}

// Unsynced are those of local that are not among known.
func Unsynced(local, known []artifact.Ref) []artifact.Ref {
	var out []artifact.Ref
	for _, r := range local {
		if !slices.Contains(known, r) {
			out = append(out, r)
		}
	}
	return out
}

// Limits of Backoff.
const (
	FirstRetry = 2 * time.Second
	LastRetry  = 2 * time.Minute
)

// Backoff is how long to wait after so many failed attempts, from 1. random is in [0, 1) and spreads a fleet that lost
// its server in one moment: the wait is between half of the full one and all of it.
func Backoff(attempt int, random float64) time.Duration {
	full := LastRetry
	if attempt < 10 {
		full = min(FirstRetry<<max(attempt-1, 0), LastRetry)
	}
	return full/2 + time.Duration(random*float64(full/2))
}
