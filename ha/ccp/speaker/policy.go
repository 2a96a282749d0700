package speaker

import (
	"fmt"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
)

// saying is what a POLICY_CHANGE says. The same one leaves by every interface, so it is logged once.
type saying struct {
	status ccp.PolicyStatus
	policy uint16
}

// Budget of the logs of one peer's policy changes: so many a second, and so many at once.
const (
	policyLogRate  = 5
	policyLogBurst = 10
)

// SetPolicy tells which policy revision is in force now, 0 for none. When that is another one, POLICY_CHANGE leaves by every
// interface with heartbeats before SetPolicy returns; ha says that it changes the cluster's own settings. Any goroutine may
// call it.
func (s *Speaker) SetPolicy(revision uint64, ha bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision == s.policy {
		return
	}
	s.policy = revision
	m := ccp.PolicyChange{Status: ccp.NewPolicy}
	if ha {
		m.Status = ccp.NewPolicyCluster
	}
	for i, f := range s.ifaces {
		if f.Heartbeat {
			s.send(i, ccp.Everyone, 0, m, nil)
		}
	}
}

// hearPolicy logs what a peer says of its policy. Nothing else follows: the policy that a member runs is known by the
// digest in its heartbeats. seq is the packet's: another interface may bring an older one later.
func (s *Speaker) hearPolicy(from uint8, seq uint64, said saying) {
	p := s.peers[from]
	if seq < p.saidSeq || said == p.said {
		return
	}
	if p.saidBudget.take(s.now()) > 0 {
		return
	}
	p.said, p.saidSeq = said, seq
	text := fmt.Sprintf("%s runs another policy now, policy ID %d", s.name(from), said.policy)
	switch {
	case said.status == ccp.ReadyToChange:
		text = fmt.Sprintf("%s is ready to change to the policy of ID %d", s.name(from), said.policy)
	case said.policy == 0:
		text = s.name(from) + " runs no policy any more"
	case said.status == ccp.NewPolicyCluster:
		text += "; it changes the cluster's settings"
	}
	s.cfg.Event(cluster.Log{Severity: cluster.Notice, Name: EvPolicy, Text: text})
}

// name is a member's name.
func (s *Speaker) name(id uint8) string {
	for _, m := range s.cfg.Members {
		if m.ID == id {
			return m.Name
		}
	}
	return fmt.Sprintf("member %d", id)
}
