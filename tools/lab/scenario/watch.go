package scenario

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/lab/agent"
)

const hadSocket = "/run/twinkeep/had.sock"

// Boot is how a machine came up. Guest times count from the start of its kernel, wall times from the start of QEMU.
type Boot struct {
	PID1        time.Duration // guest; 0 when the console log does not say
	Agent       time.Duration // wall: the agent answered
	Standby     time.Duration // guest: it was STANDBY for the first time; 0 for hosts
	StandbyWall time.Duration // wall, exact to the polling interval
}

var pid1Line = regexp.MustCompile(`(?m)^init: PID 1 at ([0-9]+\.[0-9]+) ?s`)

// parsePID1 finds the uptime at which PID 1 ran in a console log.
func parsePID1(log string) (time.Duration, bool) {
	m := pid1Line.FindStringSubmatch(log)
	if m == nil {
		return 0, false
	}
	s, err := strconv.ParseFloat(m[1], 64)
	if err != nil || s > 1e6 {
		return 0, false
	}
	return time.Duration(s * float64(time.Second)), true
}

// WaitBoot waits until every agent answers and says how each machine came up.
func (l *Lab) WaitBoot(ctx context.Context) (map[string]Boot, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		boots = map[string]Boot{}
		errs  []error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, name := range l.Names() {
		wg.Go(func() {
			_, err := l.Agent(ctx, name)
			b := Boot{Agent: time.Since(l.Machines[name].Started)}
			if log, lerr := readTail(l.Log(name), 1<<20); lerr == nil {
				b.PID1, _ = parsePID1(string(log))
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if len(errs) == 0 {
					errs = append(errs, err)
				}
				cancel() // no need to wait for the others
				return
			}
			boots[name] = b
			l.Progress("%s is up: PID 1 at %s of its own time", l.role(name), seconds(b.PID1))
		})
	}
	wg.Wait()
	return boots, errors.Join(errs...)
}

func (l *Lab) role(name string) string {
	for _, h := range l.Topology.Hosts {
		if h.Name == name {
			return h.Role
		}
	}
	return name
}

// Status asks a gateway's had.
func (l *Lab) Status(ctx context.Context, name string) (member.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := l.Agent(ctx, name)
	if err != nil {
		return member.Status{}, err
	}
	return StatusOf(ctx, c)
}

// StatusOf asks the had behind an agent.
func StatusOf(ctx context.Context, c *agent.Client) (st member.Status, err error) {
	err = c.GetJSON(ctx, hadSocket, "/v1/status", &st)
	return st, err
}

// eventsSince asks a gateway's had for its events behind a sequence number.
func (l *Lab) eventsSince(ctx context.Context, name string, seq uint64) ([]member.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := l.Agent(ctx, name)
	if err != nil {
		return nil, err
	}
	var ev []member.Event
	err = c.GetJSON(ctx, hadSocket, "/v1/events?since="+strconv.FormatUint(seq, 10), &ev)
	return ev, err
}

// Roles are the statuses of the two gateways when one is ACTIVE and the other STANDBY.
type Roles struct {
	Active, Standby string // machine names
	Status          map[string]member.Status
}

// activeState reports whether a state forwards.
func activeState(s string) bool { return s == "ACTIVE" || s == "ACTIVE!" }

// WaitRoles waits until one of the two gateways is ACTIVE and the other STANDBY, and completes their boot times.
func (l *Lab) WaitRoles(ctx context.Context, gateways []string, boots map[string]Boot) (Roles, error) {
	said := map[string]string{}
	for {
		r := Roles{Status: map[string]member.Status{}}
		for _, name := range gateways {
			st, err := l.Status(ctx, name)
			text := st.State
			if err != nil {
				text = err.Error()
			}
			if text != said[name] {
				said[name] = text
				l.Progress("%s: %s", l.role(name), describe(st, err))
			}
			if err != nil {
				continue
			}
			r.Status[name] = st
			l.noteStandby(ctx, name, st, boots)
			switch {
			case activeState(st.State):
				r.Active = name
			case st.State == "STANDBY":
				r.Standby = name
			}
		}
		if r.Active != "" && r.Standby != "" {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("no pair of ACTIVE and STANDBY after %s: %v: %w\nconsole of %s:\n%s",
				seconds(l.Elapsed()), said, ctx.Err(), gateways[0], l.ConsoleTail(gateways[0], 15))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func describe(st member.Status, err error) string {
	if err != nil {
		return "had is not there yet: " + err.Error()
	}
	return fmt.Sprintf("%s (%s)", st.State, st.Reason)
}

// noteStandby records when a gateway was fit for the first time: STANDBY, or ACTIVE when it went on at once.
func (l *Lab) noteStandby(ctx context.Context, name string, st member.Status, boots map[string]Boot) {
	b := boots[name]
	if b.Standby != 0 || st.State != "STANDBY" && !activeState(st.State) {
		return
	}
	c, err := l.Agent(ctx, name)
	if err != nil {
		return
	}
	up, err := c.Uptime(ctx)
	if err != nil {
		return
	}
	since := time.Duration(st.StateSince)
	b.Standby, b.StandbyWall = up-since, time.Since(l.Machines[name].Started)-since
	boots[name] = b
}

// seconds prints a time as people compare them.
func seconds(d time.Duration) string {
	if d == 0 {
		return "?"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
