package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/lab/agent"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

const (
	settle        = 2 * time.Second  // of watching after the roles are as they should be
	rolePatience  = 60 * time.Second // for roles, and for being in sync again
	storyLife     = 40 * time.Minute // of the probes
	storyPatience = 5 * time.Minute  // for one story, its preparation included
)

// stage is a lab in which stories are told one after another, with the same probes.
type stage struct {
	*Lab
	host, server *agent.Client
	udp, tcp     agent.Started
	askers       []*asker
}

// openStage starts probes and askers.
func openStage(ctx context.Context, l *Lab) (_ *stage, err error) {
	ctx, cancel := context.WithTimeout(ctx, pathPatience)
	defer cancel()
	s := &stage{Lab: l}
	if s.host, err = l.Agent(ctx, "host"); err != nil {
		return nil, err
	}
	if s.server, err = l.Agent(ctx, "server"); err != nil {
		return nil, err
	}
	// A port of their own, for the echo servers of the demo may be there already.
	target := netip.AddrPortFrom(netip.MustParseAddr(serverAddr), storyPort)
	if _, err = s.server.ServeUDP(ctx, target); err != nil {
		return nil, fmt.Errorf("WAN server: %w", err)
	}
	if _, err = s.server.ServeTCP(ctx, target); err != nil {
		return nil, fmt.Errorf("WAN server: %w", err)
	}
	if s.udp, err = s.host.StartUDP(ctx, probe.UDPConfig{Target: target, Interval: udpInterval, Duration: storyLife}); err != nil {
		return nil, fmt.Errorf("LAN host: %w", err)
	}
	if s.tcp, err = s.host.StartTCP(ctx, probe.TCPConfig{Target: target, Interval: tcpInterval, Duration: storyLife}); err != nil {
		return nil, fmt.Errorf("LAN host: %w", err)
	}
	s.askers, err = l.startAskers(1)
	return s, err
}

// connected waits until the TCP connection has carried a message, and reports on it.
func (s *stage) connected(ctx context.Context) (t probe.TCPReport, err error) {
	for t.Received == 0 {
		if t, err = s.host.TCPReport(ctx, s.tcp.Handle); err != nil {
			return t, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return t, fmt.Errorf("no TCP connection between host and server: %w (last error %q)", err, t.LastError)
		}
	}
	return t, nil
}

// close ends probes and askers.
func (s *stage) close(ctx context.Context) error {
	closeAskers(s.askers)
	_, uerr := s.host.StopUDP(ctx, s.udp.Handle)
	_, terr := s.host.StopTCP(ctx, s.tcp.Handle)
	return errors.Join(uerr, terr)
}

// pair waits until one gateway is ACTIVE and the other STANDBY, both in sync and hearing each other.
func (s *stage) pair(ctx context.Context) (active, standby string, err error) {
	err = s.until(ctx, "an ACTIVE and a STANDBY member, in sync", Gateways, func(st map[string]member.Status) bool {
		active, standby = "", ""
		for name, m := range st {
			alive := len(m.Peers) == 1 && m.Peers[0].Alive && m.Peers[0].InSync
			switch {
			case m.State == "ACTIVE" && m.InSync && alive:
				active = name
			case m.State == "STANDBY" && m.InSync && alive:
				standby = name
			}
		}
		return active != "" && standby != ""
	})
	return active, standby, err
}

// states waits until the gateways named have these states, e.g. {"a": "DOWN", "b": "ACTIVE"}.
func (s *stage) states(ctx context.Context, want map[string]string) error {
	var names []string
	for _, g := range Gateways {
		if want[g] != "" {
			names = append(names, g)
		}
	}
	return s.until(ctx, fmt.Sprintf("the states %v", want), names, func(st map[string]member.Status) bool {
		for _, n := range names {
			if st[n].State != want[n] {
				return false
			}
		}
		return true
	})
}

// until asks gateways until their statuses are as wanted; the error says what they are.
func (s *stage) until(ctx context.Context, what string, names []string, ok func(map[string]member.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, rolePatience)
	defer cancel()
	for {
		is, text := map[string]member.Status{}, ""
		for _, n := range names {
			st, err := s.Status(ctx, n)
			if err != nil {
				text += fmt.Sprintf("; gw-%s: %v", n, err)
				continue
			}
			is[n] = st
			text += fmt.Sprintf("; gw-%s: %s, in sync %v (%s)", n, st.State, st.InSync, st.Reason)
		}
		if len(is) == len(names) && ok(is) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("waited for %s, there is%s: %w", what, text, err)
		}
	}
}

// onAll sets the rules of all ports of a gateway.
func (s *stage) onAll(name string, r vswitch.Rules) error {
	for _, segment := range s.Topology.Segments {
		if err := s.Switches[segment].SetRules(Port(segment, name), r); err != nil {
			return err
		}
	}
	return nil
}

// operate runs a command of the operator on a gateway.
func (s *stage) operate(ctx context.Context, name string, args ...string) error {
	c, err := s.Agent(ctx, name)
	if err != nil {
		return err
	}
	r, err := c.Exec(ctx, append([]string{"/bin/twinkeep"}, args...)...)
	if err != nil {
		return err
	}
	s.Progress("  gw-%s> %v: %s", name, args, oneLine(r.Stdout+r.Stderr))
	if r.Exit != 0 {
		return fmt.Errorf("gw-%s: %v: exit status %d: %s%s", name, args, r.Exit, r.Stdout, r.Stderr)
	}
	return nil
}

// verify walks through the response after a failover from a gateway: every step must be ok. What a busy machine has not answered in time is asked again.
func (s *stage) verify(ctx context.Context, name string) error {
	c, err := s.Agent(ctx, name)
	if err != nil {
		return err
	}
	for tries := 3; ; tries-- {
		r, err := c.Feed(ctx, "", "/bin/twinkeep", "cluster", "verify", "--json")
		if err != nil {
			return err
		}
		var v api.Verification
		if err := json.NewDecoder(strings.NewReader(r.Stdout)).Decode(&v); err != nil {
			return fmt.Errorf("gw-%s: cluster verify: %w: exit status %d: %s%s%s", name, err, r.Exit, r.Stdout, r.Stderr, r.Note)
		}
		s.Progress("  gw-%s> cluster verify: %s", name, verdictWords(v))
		if wrong := notOK(v); wrong == "" && r.Exit == 0 {
			return nil
		} else if v.Result != api.VerifyUnknown || tries == 1 {
			return fmt.Errorf("gw-%s: cluster verify: exit status %d: %s", name, r.Exit, wrong)
		}
	}
}

// verdictWords is a verification in one line.
func verdictWords(v api.Verification) string {
	var out []string
	for _, step := range v.Steps {
		out = append(out, step.Name+" "+string(step.Result))
	}
	return fmt.Sprintf("master %s: %s", v.Master, strings.Join(out, ", "))
}

// notOK tells the steps that are not ok, with their evidence; empty: all are.
func notOK(v api.Verification) string {
	var out []string
	for _, step := range v.Steps {
		if step.Result != api.VerifyOK {
			out = append(out, fmt.Sprintf("%s %s: %s", step.Name, step.Result, strings.Join(append(step.Evidence, step.Next...), "; ")))
		}
	}
	if len(v.Steps) == 0 {
		return "no step"
	}
	return strings.Join(out, ". ")
}

// shown is the states of both gateways for people; a gateway without power is "off".
func (s *stage) shown(ctx context.Context) string {
	text := ""
	for i, g := range Gateways {
		if i > 0 {
			text += ", "
		}
		state := "off"
		if s.Machines[g].Running() {
			if st, err := s.Status(ctx, g); err != nil {
				state = "?"
			} else {
				state = st.State
			}
		}
		text += g + " " + state
	}
	return text
}
