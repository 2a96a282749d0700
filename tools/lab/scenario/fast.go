package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// fastPatience is how long a connection may take to enter the flow table, and to be replicated.
const fastPatience = 10 * time.Second

// Fast is where the TCP connection of the stories is in the kernels of the gateways.
type Fast struct {
	Active  string // the member that serves
	Offload bool   // the connection is in its flow table, past the packet filter
	Port    uint16 // the outside port there
	Standby uint16 // the outside port in the kernel of the other member; 0 when that has none, or no power
}

// complete is what a pair shows at rest.
func (f Fast) complete(both bool) bool {
	return f.Offload && f.Port != 0 && (!both || f.Standby == f.Port)
}

func (f Fast) String() string {
	return fmt.Sprintf("gw-%s: outside port %d, in the flow table: %v; the other member: %d", f.Active, f.Port, f.Offload, f.Standby)
}

// fast looks for the TCP connection in both kernels until it is as it should be, or patience ends.
func (s *stage) fast(ctx context.Context) (f Fast, err error) {
	both := s.Machines[Gateways[0]].Running() && s.Machines[Gateways[1]].Running()
	for end := time.Now().Add(fastPatience); ; {
		if f, err = s.lookFast(ctx); err == nil && f.complete(both) || time.Now().After(end) {
			return f, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return f, err
		}
	}
}

func (s *stage) lookFast(ctx context.Context) (f Fast, err error) {
	for _, g := range Gateways {
		if !s.Machines[g].Running() {
			continue
		}
		st, err := s.Status(ctx, g)
		if err != nil {
			return f, err
		}
		c, err := s.Agent(ctx, g)
		if err != nil {
			return f, err
		}
		var list api.Connections
		if err := c.GetJSON(ctx, "/run/twinkeep/gatewayd.sock", fmt.Sprintf("/v1/connections?proto=tcp&dport=%d", storyPort), &list); err != nil {
			return f, fmt.Errorf("connections of gw-%s: %w", g, err)
		}
		for _, x := range list.Connections {
			if activeState(st.State) {
				f.Active, f.Port, f.Offload = g, x.Reply.DstPort, x.Offload
			} else {
				f.Standby = x.Reply.DstPort
			}
		}
	}
	return f, nil
}

// checkFast: the connection was in the flow table of whoever served, before and after, and came out of the same port.
func (v *Verdict) checkFast() {
	before, after := v.Fast[0], v.Fast[1]
	both := !v.offline
	switch {
	case !before.complete(both):
		v.fail("before the event the TCP connection was not in a flow table and at the standby: %v", before)
	case !after.complete(true):
		v.fail("after the event the TCP connection was not in a flow table and at the standby: %v (before: %v)", after, before)
	case after.Port != before.Port:
		v.fail("the TCP connection came out of port %d before, %d after", before.Port, after.Port)
	}
}
