package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/crowd"
	"github.com/twinkeep/twinkeep/tools/bench/pair"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// survivalPlan is the traffic of this part.
var survivalPlan = crowd.Plan{
	Direct: topology.Server, Forwarded: topology.LANVIP,
	TCPIdle: 500, TCPBusy: 500, UDP: 1000, ICMP: 50, FTP: true,
}

// survivalRules are the same on all gateways of all systems, beside their own: a translation of the destination, which a
// node file does not have.
var survivalRules = fmt.Sprintf(`table ip survival
delete table ip survival
table ip survival {
	chain destinations {
		type nat hook prerouting priority dstnat
		ip daddr %[1]s tcp dport %[2]d dnat to %[3]s:%[4]d
		ip daddr %[1]s udp dport %[2]d dnat to %[3]s:%[4]d
	}
}
`, topology.LANVIP, crowd.ForwardedPort, topology.Server, crowd.Port)

// act is an event of this part, in this order: the role goes over, comes back, and then its holder dies.
type act struct {
	name  string
	event pair.Event
}

var acts = []act{{"planned handover", pair.Planned}, {"fail-back", pair.Planned}, {"sudden death", pair.Death}}

// Survival is what became of the connections at one act.
type Survival struct {
	Act   string
	Lines []crowd.Line
	FTP   *crowd.FTPResult
}

// survive does all acts to one pair with one crowd of connections.
func (s *SystemResult) survive(ctx context.Context, dir string) error {
	return s.with(ctx, dir, func(b *bench) error {
		if err := b.lab.Client.Set("net/ipv4/ping_group_range=0 0"); err != nil {
			return err
		}
		if err := b.addRules(); err != nil {
			return err
		}
		c, err := crowd.Open(b.lab.Client, b.lab.Server, survivalPlan)
		if err != nil {
			return fmt.Errorf("open connections: %w", err)
		}
		defer c.Close()
		for _, a := range acts {
			got, err := b.act(ctx, a, c)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			s.Survivals = append(s.Survivals, got)
			for _, l := range got.Lines {
				fmt.Fprintf(os.Stderr, "%s, %s: %s\n", s.key, a.name, l)
			}
			fmt.Fprintf(os.Stderr, "%s, %s: FTP %+v\n", s.key, a.name, got.FTP)
		}
		return nil
	})
}

func (b *bench) addRules() error {
	for _, g := range b.lab.Gateways {
		if err := g.NS.Run(survivalRules, "nft", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

// rest is how long a pair has after it is whole and before the next act: enough for everything to be replicated.
const rest = 4 * time.Second

func (b *bench) act(ctx context.Context, a act, c *crowd.Crowd) (got Survival, err error) {
	got.Act = a.name
	victim, survivor, err := pair.Settle(ctx, b.sys, b.lab)
	if err != nil {
		return got, err
	}
	if err := c.Prepare(); err != nil {
		return got, err
	}
	pause(ctx, rest)
	if a.event == pair.Death {
		v, err := victim.Prepare()
		if err != nil {
			return got, err
		}
		defer v.Close()
		if _, err := v.Die(); err != nil {
			return got, err
		}
	} else if err := b.insist(ctx, a.event, victim); err != nil {
		return got, err
	}
	for end := time.Now().Add(window); time.Now().Before(end) && b.sys.Role(survivor) != pair.Active; {
		pause(ctx, 20*time.Millisecond)
	}
	got.Lines = c.Check()
	got.FTP = c.FTP()
	if err := b.restore(a.event, victim); err != nil {
		return got, err
	}
	if _, _, err := pair.Settle(ctx, b.sys, b.lab); err != nil {
		return got, err
	}
	return got, b.addRules()
}

// insist does a planned event; a system may refuse it until its standby has everything.
func (b *bench) insist(ctx context.Context, e pair.Event, victim *topology.Gateway) (err error) {
	for range 50 {
		if err = b.sys.Inflict(e, victim); err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, 200*time.Millisecond)
	}
	return err
}

func (r *Result) survivals(b *strings.Builder) {
	if !slices.ContainsFunc(r.Systems, func(s *SystemResult) bool { return len(s.Survivals) > 0 }) {
		return
	}
	fmt.Fprintf(b, "\n### Connections that survive\n\n")
	fmt.Fprintln(b, "| event | system | connections | through | alive before | survive, same outside address and port | go on from another | reset | silent for 10 s |")
	fmt.Fprintln(b, "|---|---|---|---|---|---|---|---|---|")
	for _, a := range acts {
		for _, s := range r.Systems {
			for _, got := range s.Survivals {
				if got.Act != a.name {
					continue
				}
				for _, l := range got.Lines {
					fmt.Fprintf(b, "| %s | %s | %s | %s | %d | %d | %d | %d | %d |\n", a.name, s.Name, l.Kind, l.Path, l.Before, l.Alive, l.Moved, l.Reset, l.Silent)
				}
				if f := got.FTP; f != nil {
					fmt.Fprintf(b, "| %s | %s | FTP, active mode | SNAT | 2 | transfer that ran: %s; data connection announced before and made after: %s | | | |\n", a.name, s.Name, f.Running, f.Waiting)
				}
			}
		}
	}
	fmt.Fprintf(b, `
- One pair, one crowd of connections, three events in this order; what was lost at one is not asked again at the next. Half of
  TCP and UDP goes to the LAN's VIP and is translated to the server (DNAT) and, as everything, to the WAN's VIP (SNAT, fully
  random ports). The DNAT rule is in a table of the bench's own, the same for all systems;
  the helper of FTP is in each system's own rules (Twinkeep: `+"`helpers: [ftp]`"+` of the node file).
- Busy connections exchange a line each %d ms throughout; idle ones are silent from before the event until they are asked. The
  server answers with the address and port it sees; for ICMP it is the identifier. UDP and ICMP are asked again each 200 ms.
- conntrackd runs with `+"`ExpectationSync { ftp }`"+`, which is not its default.
`, crowd.BusyEvery.Milliseconds())
}
