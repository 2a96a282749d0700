// Package health decides whether the machine does its work, which is when PID 1 feeds the watchdog. It is pure: what the
// supervisor knows of its services and when they answered last go in, a [Verdict] comes out.
//
// The tree: PID 1's own loop, which feeds and so proves itself; below it the critical services, each of which must run,
// not be in a crash loop, and answer on its socket. What PID 1 can do about a service that does not is to restart it; when
// that has not helped for [Limit], only a reset is left. One reset is tried: a machine that is ill in the same way after
// it stays up, with its gate shut and its console open, for a person to look at.
package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/init/supervise"
)

const (
	// Silence is how long a critical service may leave questions unanswered before it is restarted. It is far beyond
	// what a busy machine does to a service, and a peer has long taken over.
	Silence = time.Minute
	// Limit is how long the tree may be ill before the watchdog is left to reset the machine.
	Limit = 5 * time.Minute
)

// Service is what is known of one critical service.
type Service struct {
	supervise.ServiceStatus
	// Asked is whether it has a socket to be asked on, Answered when it did last, on the clock of Step; before its first
	// answer when it began.
	Asked    bool
	Answered time.Duration
}

// Verdict says what to do.
type Verdict struct {
	Feed    bool          // the watchdog
	Why     string        // what is ill; empty: nothing
	For     time.Duration // how long without a break
	Restart []string      // services to restart now
}

// Judge follows the tree. The zero value has the product's limits.
type Judge struct {
	Limit time.Duration // 0: the product's
	// Spent says that the last reset was the watchdog's already: no second one is tried.
	Spent bool

	ill       bool
	since     time.Duration
	restarted map[string]time.Duration
}

// Step judges at a moment of a monotonic clock.
func (j *Judge) Step(now time.Duration, services []Service) Verdict {
	v := Verdict{Feed: true}
	var why []string
	for _, s := range services {
		reason, silent := illness(now, s)
		if reason == "" {
			continue
		}
		why = append(why, s.Name+" "+reason)
		if silent && (j.restarted[s.Name] == 0 || now-j.restarted[s.Name] >= Silence) {
			if j.restarted == nil {
				j.restarted = make(map[string]time.Duration)
			}
			j.restarted[s.Name] = now
			v.Restart = append(v.Restart, s.Name)
		}
	}
	v.Why = strings.Join(why, ", ")
	if v.Why == "" {
		j.ill = false
		return v
	}
	if !j.ill {
		j.ill, j.since = true, now
	}
	limit := j.Limit
	if limit == 0 {
		limit = Limit
	}
	v.For = now - j.since
	v.Feed = j.Spent || v.For < limit
	return v
}

// illness tells what is wrong with a service, and whether it is that it does not answer.
func illness(now time.Duration, s Service) (reason string, silent bool) {
	switch {
	case s.CrashLoop:
		return "is in a crash loop", false
	case s.State == supervise.Stopped, s.State == supervise.Waiting:
		return "", false // the end of the machine, or its beginning
	case s.State != supervise.Ready:
		return "is " + string(s.State), false
	case s.Asked && now-s.Answered >= Silence && s.Uptime >= Silence:
		return fmt.Sprintf("has not answered for %v", (now - s.Answered).Round(time.Second)), true
	}
	return "", false
}
