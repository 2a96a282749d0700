package cluster

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// clocks compares our clock with a peer's heartbeats, which it sends at a known rate and counts. A hypervisor that stops a machine for a snapshot may stop
// its clock as well: then the machine cannot know that it slept. But its peers' heartbeats are further on than its clock allows, and its own are less far
// than the peers' clocks allow. When both are active afterwards, that tells who has served last (settle).
type clocks struct {
	// ahead is by how much the peer's heartbeats have run ahead of our clock, negative while they lag behind it.
	ahead time.Duration
	// leapt is when they were found ahead by more than a lease: we slept. slept is when the peer was heard again, after a dead time at least, with fewer
	// heartbeats sent meanwhile than a member sends that is awake: it slept.
	leapt, slept Instant
}

// compareClocks takes in one more heartbeat of a peer, before anything else of it.
func (m *Machine) compareClocks(p *peer, b *wire.Beat) {
	c, t := &p.clocks, &m.cfg.Timing
	if b.Nonce != p.view.Nonce || p.lastOn < 0 || len(m.slots) == 0 {
		*c = clocks{leapt: longAgo, slept: longAgo}
		return
	}
	const most = 1 << 20 // heartbeats: hours at any timing
	sent := time.Duration(min(b.Seq-p.view.Seq, most)) * (t.Beat / time.Duration(len(m.slots)))
	passed := m.now.Sub(p.lastHeard)
	if passed >= t.Dead && sent+t.Lease < passed {
		c.slept = m.now
	}
	// A queue on the way delays, then delivers much at once: what lags is kept against what comes ahead. Extra heartbeats, for news, are forgotten in time.
	forget := passed / 8
	c.ahead -= min(max(c.ahead, -forget), forget)
	if c.ahead = max(c.ahead+sent-passed, -2*t.Dead); c.ahead > t.Lease {
		c.leapt = m.now
	}
}

// slept reports whether this member's clock has stood still for longer than a lease just now, as far as a peer's heartbeats tell.
func (m *Machine) slept(p *peer) bool { return m.now.Sub(p.clocks.leapt) < m.cfg.Timing.Dead }

// sleeper reports whether a peer that claims the role stood still as a whole until just now, and this member has taken the role meanwhile. One that raises its
// term to stay does not think so, and hears enough to know: then the order of merit decides.
func (m *Machine) sleeper(p *peer) bool {
	return m.now.Sub(p.clocks.slept) < m.cfg.Timing.Dead && m.tookTerm > p.view.Term
}
