package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// Profile is a timing of Twinkeep.
type Profile struct {
	Name              string
	Beat, Lease, Dead time.Duration
}

// Profiles that the bench knows. The first has the timing of a node file that gives none.
var Profiles = []Profile{
	{"default", 10 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond},
	{"fast", 4 * time.Millisecond, 16 * time.Millisecond, 24 * time.Millisecond},
}

// Twinkeep is the product of this repository, as ordinary processes.
type Twinkeep struct {
	files
	binary  string
	profile Profile
	highest uint64 // term seen so far: a gateway that is off cannot be asked
}

// NewTwinkeep makes the pair's files below dir and runs the multi-call binary.
func NewTwinkeep(dir, binary string, p Profile) *Twinkeep {
	return &Twinkeep{files: files{dir}, binary: binary, profile: p}
}

// Name implements System.
func (*Twinkeep) Name() string { return "Twinkeep" }

// Setting implements System.
func (t *Twinkeep) Setting() string {
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	return fmt.Sprintf("%s: beat %d, lease %d, dead %d ms", t.profile.Name, ms(t.profile.Beat), ms(t.profile.Lease), ms(t.profile.Dead))
}

// Events implements System.
func (*Twinkeep) Events() []Event { return []Event{Death, Kill, Planned, Daemon} }

// Boot implements System. Its state directory outlives the gateway's death, as a data partition does.
func (t *Twinkeep) Boot(g *topology.Gateway) error {
	if err := t.write(g, "config/node.yaml", nodeFile(g.Index, t.profile), 0o600); err != nil {
		return err
	}
	if err := os.RemoveAll(t.path(g, "run")); err != nil {
		return fmt.Errorf("empty the run directory of %s: %w", g.Name, err)
	}
	return t.start(g, g.NS.Command(context.Background(), t.binary, "run",
		"--config", t.path(g, "config"), "--state", t.path(g, "state"), "--run", t.path(g, "run")), "twinkeep.log")
}

func (t *Twinkeep) client(g *topology.Gateway) *api.Client { return api.NewClient(t.path(g, "run")) }

// patience bounds a question to a daemon.
const patience = 2 * time.Second

// Role implements System.
func (t *Twinkeep) Role(g *topology.Gateway) Role {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// gatewayd programs addresses and rules; without them an open gate leads nowhere.
	if n, err := t.client(g).Node(ctx); err != nil || !n.Applied || len(n.Missing) > 0 {
		return Starting
	}
	s, err := t.client(g).HA(ctx)
	if err != nil {
		return Starting
	}
	t.highest = max(t.highest, s.Term)
	switch s.State {
	case "ACTIVE":
		return Active
	case "STANDBY":
		return Standby
	}
	return Starting
}

// Takeovers implements System: every takeover has a term of its own.
func (t *Twinkeep) Takeovers(lab *topology.Lab) uint64 {
	for _, g := range lab.Gateways {
		t.Role(g)
	}
	return t.highest
}

// Inflict implements System.
func (t *Twinkeep) Inflict(e Event, g *topology.Gateway) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch e {
	case Planned:
		if _, err := t.client(g).Deactivate(ctx); err != nil {
			return fmt.Errorf("deactivate %s: %w", g.Name, err)
		}
		return nil
	case Daemon:
		services, err := t.client(g).Services(ctx)
		if err != nil {
			return fmt.Errorf("find had on %s: %w", g.Name, err)
		}
		for _, s := range services {
			if s.Name == "had" && s.PID > 0 {
				return unix.Kill(s.PID, unix.SIGKILL)
			}
		}
		return errors.New("had does not run on " + g.Name)
	}
	return fmt.Errorf("Twinkeep has no event %s", e)
}

// Resume implements System: a member that was deactivated stays on standby, and the supervisor restarts had.
func (*Twinkeep) Resume(Event, *topology.Gateway) error { return nil }

// Evidence implements System.
func (t *Twinkeep) Evidence(g *topology.Gateway) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := t.client(g).HA(ctx)
	if err != nil {
		return err.Error()
	}
	return s.Failover.Reason
}

// Log implements System.
func (t *Twinkeep) Log(g *topology.Gateway) string { return t.tail(g, "twinkeep.log", 20) }
