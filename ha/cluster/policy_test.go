package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// TestPolicyInHeartbeats: what this member runs is in its heartbeats, and a peer that runs something else for longer than
// an install takes is an event that names both.
func TestPolicyInHeartbeats(t *testing.T) {
	m := machine(t, testConfig())
	ours, theirs := Policy{42, 0xaaaa}, Policy{41, 0xbbbb}
	sent := false
	for _, a := range m.Step(0, ours) {
		if s, ok := a.(Send); ok {
			sent = true
			if s.Beat.PolicyRevision != ours.Revision || s.Beat.PolicyDigest != ours.Digest {
				t.Errorf("a heartbeat with %d, %x", s.Beat.PolicyRevision, s.Beat.PolicyDigest)
			}
		}
	}
	if !sent || m.View().Policy != ours {
		t.Errorf("sent %v, %v", sent, m.View().Policy)
	}
	var events []string
	seq := uint64(0)
	listen := func(until time.Duration, p Policy) {
		t.Helper()
		for ; time.Duration(m.now) < until; seq++ {
			for _, a := range hear(m, m.now.Add(50*time.Millisecond), seq+1, func(b *wire.Beat) { b.PolicyRevision, b.PolicyDigest = p.Revision, p.Digest }) {
				if l, ok := a.(Log); ok && l.Name == EvPolicy {
					events = append(events, l.Text)
				}
			}
		}
	}
	listen(time.Second, theirs)
	listen(2*time.Second, ours) // an install that was a moment slower there
	if len(events) > 0 {
		t.Errorf("events %v", events)
	}
	listen(6*time.Second, theirs)
	if len(events) != 1 || !strings.Contains(events[0], "gw-b (2) runs policy revision 41 (000000000000bbbb), this member policy revision 42 (000000000000aaaa)") {
		t.Errorf("events %v", events)
	}
	if p := m.View().Peers[0].Policy; p != theirs {
		t.Errorf("the peer runs %v", p)
	}
	listen(10*time.Second, Policy{})
	if len(events) != 2 || !strings.Contains(events[1], "runs no policy") {
		t.Errorf("events %v", events)
	}
	listen(11*time.Second, ours)
	if len(events) != 3 || !strings.Contains(events[2], "the same again") {
		t.Errorf("events %v", events)
	}
}
