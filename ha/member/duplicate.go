package member

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// evDuplicate is the event of an address of ours that somebody else uses.
const evDuplicate = "duplicate_address"

const (
	claimAsk    = 30 * time.Second // between two questions who has our addresses
	claimFirst  = 2 * time.Second  // the first one after the start
	claimRate   = 20               // frames that are looked at in a second and NIC
	claimLog    = 10 * time.Minute // between two events of one address and MAC
	claimForget = 2 * time.Minute  // without a sign it is no problem any more
	maxDoubles  = 64               // addresses and MACs remembered of one NIC
)

// doubles is who else uses our addresses on one NIC. It belongs to the machine's goroutine.
type doubles map[vip.Claim]*double

type double struct{ seen, logged cluster.Instant }

// watchClaims watches one NIC for others with our addresses, until the member is done.
func (m *Member) watchClaims(p *portState) {
	shared := wire.SharedMAC(p.NN, m.cfg.ClusterID)
	for {
		var vips []netip.Addr
		if !m.do(func() { vips = p.VIPs }) {
			return
		}
		c, err := vip.OpenClaims(p.Device, shared, p.Address.Addr(), vips)
		if err == nil {
			gone := make(chan struct{})
			m.do(func() { p.claims = c })
			go m.askClaims(c, gone)
			for {
				claim, foreign, err := c.Receive()
				if err != nil {
					break
				}
				if foreign && !m.do(func() { m.doubled(p, claim) }) {
					break
				}
				time.Sleep(time.Second / claimRate) // the rest waits in the socket, or is dropped there
			}
			close(gone)
			m.do(func() { p.claims = nil })
			c.Close()
		}
		select {
		case <-m.stop:
			return
		case <-time.After(time.Second): // the NIC is missing or down
		}
	}
}

// askClaims asks for our addresses until the watch is over, and ends it when the member is done.
func (m *Member) askClaims(c *vip.Claims, gone <-chan struct{}) {
	t := time.NewTimer(claimFirst)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.Ask() // fails while the NIC is down
			t.Reset(claimAsk)
		case <-gone:
			return
		case <-m.stop:
			c.Close()
			return
		}
	}
}

// doubled takes in that somebody else uses an address of ours.
func (m *Member) doubled(p *portState, c vip.Claim) {
	now := m.now()
	if p.doubles == nil {
		p.doubles = doubles{}
	}
	d := p.doubles[c]
	if d == nil {
		if len(p.doubles) >= maxDoubles {
			return // somebody invents MACs; the first ones say enough
		}
		d = &double{logged: -cluster.Instant(claimLog)}
		p.doubles[c] = d
	}
	d.seen = now
	if now.Sub(d.logged) < claimLog {
		return
	}
	d.logged = now
	mac := net.HardwareAddr(c.MAC[:])
	what, remedy := "the shared address "+c.Addr.String(), "take the address from that host, or choose another one in 'vips' on all members"
	switch {
	case c.Addr == p.Address.Addr():
		what = "this member's own address " + c.Addr.String()
		remedy = "compare 'address' in the node files: two members have the same one, or another host has it"
	case c.MAC == wire.SharedMAC(c.MAC[4], m.cfg.ClusterID):
		remedy = "it is the shared MAC of a peer whose NIC sits in another PCI place, or of another cluster with our ID; compare 'hardware' and 'cluster.id'"
	}
	m.event(cluster.Log{Severity: cluster.Warning, Name: evDuplicate, Text: fmt.Sprintf("%s on %s is used by %s too; %s", what, p.Name, mac, remedy)})
}

// duplicate names who else has used an address of ours lately, empty if nobody has.
func (p *portState) duplicate(now cluster.Instant) string {
	for c, d := range p.doubles {
		if now.Sub(d.seen) < claimForget {
			return fmt.Sprintf("%s is used by %s too", c.Addr, net.HardwareAddr(c.MAC[:]))
		}
		delete(p.doubles, c)
	}
	return ""
}
