package supervise

import "time"

// Policy says when a service that died is started again. The zero value of a
// field means the default.
type Policy struct {
	// First is the delay after the first failure; it doubles with each
	// further one up to Max. Defaults: 100 ms, 10 s.
	First, Max time.Duration
	// Stable is how long a process must have run for its failure to count as
	// the first again. Default: 30 s.
	Stable time.Duration
	// LoopExits failures within LoopWindow are a crash loop: from then on
	// the delay is Max. Defaults: 5 in 60 s.
	LoopExits  int
	LoopWindow time.Duration
}

func (p Policy) withDefaults() Policy {
	or := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&p.First, 100*time.Millisecond)
	or(&p.Max, 10*time.Second)
	or(&p.Stable, 30*time.Second)
	or(&p.LoopWindow, time.Minute)
	if p.LoopExits <= 0 {
		p.LoopExits = 5
	}
	return p
}

// restarts applies a Policy to one service. It has no clock: times are given
// as durations since any fixed point.
type restarts struct {
	policy Policy
	delay  time.Duration
	exits  []time.Duration
	loop   bool
}

// failed records that a process which had run for ran died at now. It returns
// how long to wait before the next start, and whether this failure is the one
// that makes it a crash loop.
func (r *restarts) failed(now, ran time.Duration) (delay time.Duration, verdict bool) {
	if ran >= r.policy.Stable {
		r.reset()
	}
	r.exits = append(r.exits, now)
	for now-r.exits[0] > r.policy.LoopWindow {
		r.exits = r.exits[1:]
	}
	if !r.loop && len(r.exits) >= r.policy.LoopExits {
		r.loop, verdict = true, true
	}
	switch {
	case r.loop:
		r.delay = r.policy.Max
	case r.delay == 0:
		r.delay = r.policy.First
	default:
		r.delay = min(2*r.delay, r.policy.Max)
	}
	return r.delay, verdict
}

// reset forgets all failures: the process proved stable, or an operator asked
// for a restart.
func (r *restarts) reset() { r.delay, r.exits, r.loop = 0, r.exits[:0], false }
