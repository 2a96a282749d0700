package policy

import (
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// defaulted is implemented by what has defaults; they are set before the document is read over them. Every default of
// the policy is in this file, and nowhere else.
type defaulted interface{ defaults() }

func (c *Cluster) defaults() {
	c.Mode, c.Checksums = node.ModeActiveUp, node.ChecksumsInvalid
	c.Timing.defaults()
	c.Lock.defaults()
	c.Prefer = PreferAvailability
}

func (t *Timing) defaults() {
	*t = Timing{Beat: 10 * time.Millisecond, Lease: 40 * time.Millisecond, Dead: 60 * time.Millisecond, Silence: 500 * time.Millisecond}
}

func (l *Lock) defaults() { *l = Lock{After: LockNever, Resume: ResumeManual} }

func (m *ClusterMember) defaults() { m.Priority = 100 }

func (z *Zone) defaults() { z.Ping, z.Spoofing = true, SpoofingDrop }

func (n *NIC) defaults() { n.Heartbeat = true }

func (n *NAT) defaults() { n.Ports = node.PortsKeep }

func (f *Filter) defaults() { f.Flowtable = true }

func (l *Limit) defaults() { l.Burst, l.Per = 5, PerRule }

func (s *SSH) defaults() { s.Enabled, s.Port = true, node.DefaultSSHPort }

func (s *Services) defaults() {
	s.SSH.defaults()
	s.API = API{Port: node.DefaultAPIPort}
}

func (m *Monitor) defaults() {
	m.Probe = Probe{Kind: node.ProbeICMP}
	m.Interval, m.Loss, m.Grace = 250*time.Millisecond, 7, 45*time.Second
}
