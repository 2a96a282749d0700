package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/traffic"
)

// Frames of the VIPs that may get to a member that is not the master: a switch that is still learning floods one or two.
const (
	straysAtLeast = 2
	strayShare    = 0.01 // of what the master gets
	// expected is so many frames, by the volume before the failover, that none at all is no chance.
	expected = 20
)

// traffic is steps 1b and iv of the document: traffic for the VIPs goes through the master, and through nobody else. Periodic ARP
// is seen everywhere.
func (j *judge) traffic(s *step) {
	m := j.master()
	if m == nil {
		s.doubt("the first step", "nobody is known to carry it")
	}
	var through uint64
	if m != nil {
		for _, f := range m.Frames {
			through += f.In
		}
	}
	j.each(s, "frames", func(o *Member, master bool) {
		var passed uint64
		blind := false
		for _, f := range o.Frames {
			if f.Error != "" {
				blind = true
				s.doubt("ifstat on "+o.Name, "%s %s could not be watched: %s", o.Name, f.Interface, f.Error)
				continue
			}
			s.say("%s %s, %s, in %v: %d in, %d out, %d ARP and broadcasts", o.Name, f.Interface, list(f), j.Watched.Round(time.Second), f.In, f.Out, f.Neighbour)
			passed += f.In + f.Out
			if !master && m != nil {
				j.strays(s, o.Name, f, through)
			}
		}
		switch {
		case !master || blind:
		case passed == 0 && s.Result != api.VerifyFailed:
			j.idle(s, o)
		case j.Spells > 1:
			s.say("%s: traffic in %d of %d spells", o.Name, j.Spells-o.Quiet, j.Spells)
		}
	})
}

// strays judges what a member that is not the master saw.
func (j *judge) strays(s *step, name string, f api.FrameCount, through uint64) {
	if f.Out > 0 {
		s.fail(fmt.Sprintf("take %s off the network: cluster down there; its gate does not hold (cluster explain)", name),
			"%s %s sends for the VIPs although it is not the master", name, f.Interface)
	}
	if f.In > max(straysAtLeast, uint64(strayShare*float64(through))) {
		s.fail(fmt.Sprintf("the switch still sends frames for the VIPs to %s: look at its MAC table, mirrored ports and static entries; cluster failover announces again", name),
			"%s %s gets %d frames for the VIPs, and drops them", name, f.Interface, f.In)
	}
}

// idle judges a master without traffic.
func (j *judge) idle(s *step, m *Member) {
	if t := m.Traffic; t.Before != nil {
		if before := traffic.Total(t.Before); before.Packets*j.Watched.Seconds() >= expected {
			s.fail(fmt.Sprintf("see whether hosts and switches send to %s: traffic, then sniff on the interface; cluster failover moves the role and announces again", m.Name),
				"nothing for the VIPs goes through %s; before the failover there were %s", m.Name, traffic.Words(before))
			return
		}
	}
	s.doubt("send something through the cluster, or watch longer: cluster verify --for 2m", "nothing for the VIPs went through %s", m.Name)
}

func list(f api.FrameCount) string {
	const most = 3
	var out []string
	for i, v := range f.VIPs {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(f.VIPs)-most))
			break
		}
		out = append(out, "host "+v.String())
	}
	return strings.Join(out, " or ")
}
