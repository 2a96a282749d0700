package statesyncd

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/statesync"
)

// rates are changes a second over the last seconds.
type rates struct {
	at                  time.Duration
	told, taken, events uint64
	out, in, kernel     float64
}

// ratePeriod is over which rates are taken.
const ratePeriod = 2 * time.Second

func (r *rates) sample(now time.Duration, s *statesync.Stats) {
	d := now - r.at
	if d < ratePeriod {
		return
	}
	taken := s.Taken + s.Loaded
	told := s.Told + s.Repaired
	r.out = float64(told-r.told) / d.Seconds()
	r.in = float64(taken-r.taken) / d.Seconds()
	r.kernel = float64(s.Events-r.events) / d.Seconds()
	r.at, r.told, r.taken, r.events = now, told, taken, s.Events
}

func (r *rates) fill(s *api.SyncStatus) {
	s.OutRate, s.InRate, s.EventRate = r.out, r.in, r.kernel
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
