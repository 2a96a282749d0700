package member

import (
	"fmt"
	"net/netip"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// SetPolicy says which policy this member runs, for its heartbeats and for CCP. ha: the policy changes the cluster's own
// settings, which another life of this member takes in.
func (m *Member) SetPolicy(p cluster.Policy, ha bool) (cluster.Reply, error) {
	r, err := m.ask(p)
	if err == nil && m.ccp != nil {
		m.ccp.SetPolicy(p.Revision, ha)
	}
	return r, err
}

func policyStatus(p cluster.Policy) PolicyStatus {
	if p == (cluster.Policy{}) {
		return PolicyStatus{}
	}
	return PolicyStatus{Revision: p.Revision, Digest: fmt.Sprintf("%016x", p.Digest)}
}

// origin notes where a heartbeat that echoes this boot came from: whoever sends it hears us now.
func (m *Member) origin(iface int, src netip.Addr, b *wire.Beat) {
	if !src.Is4() || src.IsUnspecified() || iface >= len(m.ports) || b.Member > cluster.MaxMembers || b.Member == m.cfg.Self || b.Cluster != m.cfg.ClusterID {
		return
	}
	if at := &m.ports[iface].origins[b.Member]; *at != src {
		for _, h := range b.Heard {
			if h.Member == m.cfg.Self && h.Nonce == m.nonce {
				*at = src
				return
			}
		}
	}
}

// addresses are those of a peer, interface by interface.
func (m *Member) addresses(p cluster.PeerView, now cluster.Instant) []PeerAddress {
	if p.ID > cluster.MaxMembers {
		return nil
	}
	var out []PeerAddress
	for i, port := range m.ports {
		if a := port.origins[p.ID]; a.IsValid() && p.HeardOn[i] >= 0 {
			out = append(out, PeerAddress{Interface: port.Name, Sync: port.Sync, Address: a, LastHeard: Duration(now.Sub(p.HeardOn[i]))})
		}
	}
	return out
}
