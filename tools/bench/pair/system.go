package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// Role is what a gateway is.
type Role string

// Roles.
const (
	Starting Role = "starting"
	Active   Role = "active"
	Standby  Role = "standby"
)

// Event is something done to the active gateway.
type Event string

// Events.
const (
	// Death: the gateway loses all its networks at once, and 2 ms later all its processes.
	Death Event = "death"
	// Kill: all processes of the gateway get SIGKILL; its kernel and its networks stay up.
	Kill Event = "kill9"
	// Planned: the operator moves the role.
	Planned Event = "planned"
	// Daemon: only the process that owns the role gets SIGKILL; its supervisor lives.
	Daemon Event = "had"
)

// System is a pair product, on one topology.Lab.
type System interface {
	// Name of the product, and the setting it runs with.
	Name() string
	Setting() string
	// Events that make sense for it.
	Events() []Event
	// Boot configures a gateway that has just been booted, and starts it.
	Boot(*topology.Gateway) error
	// Role is the gateway's own opinion.
	Role(*topology.Gateway) Role
	// Takeovers counts how often any gateway took the role since the start of the pair. It never falls.
	Takeovers(*topology.Lab) uint64
	// Inflict does Planned or Daemon to a gateway.
	Inflict(Event, *topology.Gateway) error
	// Resume brings a gateway back after Planned or Daemon, where that is needed.
	Resume(Event, *topology.Gateway) error
	// Evidence is what the system says about its last takeover, in its own words; may be empty.
	Evidence(*topology.Gateway) string
	// Log is the end of what the gateway has printed.
	Log(*topology.Gateway) string
}

// settleTimeout bounds how long a pair may take to have one active and one standby.
const settleTimeout = 30 * time.Second

// Settle waits until the pair has had the same active and the same standby for a second.
func Settle(ctx context.Context, s System, lab *topology.Lab) (active, standby *topology.Gateway, err error) {
	const calm = time.Second
	var since time.Time
	a, b := lab.Gateways[0], lab.Gateways[1]
	for deadline := time.Now().Add(settleTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		ra, rb := s.Role(a), s.Role(b)
		x, y := a, b
		if rb == Active {
			x, y = b, a
		}
		if (ra != Active || rb != Standby) && (ra != Standby || rb != Active) {
			active = nil
			continue
		}
		if x != active {
			active, standby, since = x, y, time.Now()
		}
		if time.Since(since) >= calm {
			return active, standby, nil
		}
	}
	return nil, nil, fmt.Errorf("%s (%s) has no active and standby after %v: gw-a is %s, gw-b is %s\n--- gw-a\n%s\n--- gw-b\n%s",
		s.Name(), s.Setting(), settleTimeout, s.Role(a), s.Role(b), s.Log(a), s.Log(b))
}

// files are the directories and processes of a system's gateways.
type files struct{ dir string }

// path of a file of a gateway.
func (f files) path(g *topology.Gateway, name string) string {
	return filepath.Join(f.dir, g.Name, name)
}

func (f files) write(g *topology.Gateway, name, text string, mode os.FileMode) error {
	p := f.path(g, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return fmt.Errorf("write %s of %s: %w", name, g.Name, err)
	}
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		return fmt.Errorf("write %s of %s: %w", name, g.Name, err)
	}
	return nil
}

// start runs a daemon on a gateway. It ends with the gateway's namespace. Its output is appended to a file.
func (f files) start(g *topology.Gateway, c *exec.Cmd, log string) error {
	out, err := os.OpenFile(f.path(g, log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", g.Name, err)
	}
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		return fmt.Errorf("start on %s: %w", g.Name, err)
	}
	go func() { _ = c.Wait() }() // reaps it; how it ended does not matter
	return nil
}

// tail is the last lines of a file of a gateway.
func (f files) tail(g *topology.Gateway, name string, lines int) string {
	data, err := os.ReadFile(f.path(g, name))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// wait polls until ok, a few seconds at most.
func wait(what string, ok func() bool) error {
	for range 500 {
		if ok() {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("waited 10 s in vain for " + what)
}
