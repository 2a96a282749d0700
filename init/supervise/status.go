package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// State is where a service is in its life.
type State string

// States of a service.
const (
	Waiting   State = "waiting"    // for the services in After to settle
	Starting  State = "starting"   // the process runs and has not reported itself ready
	Ready     State = "ready"      // the process does its work
	Backoff   State = "backoff"    // it ended, and is started again after a delay
	CrashLoop State = "crash-loop" // it keeps ending, and is started again at Policy.Max intervals
	Stopped   State = "stopped"    // for good: the supervisor is going down
)

// ServiceStatus is one service in GET /v1/services.
type ServiceStatus struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Critical bool   `json:"critical"`
	// CrashLoop stays true while a new attempt is running; it ends when the
	// process has been stable, or an operator restarts the service.
	CrashLoop bool `json:"crash_loop"`
	// PID is 0 when no process runs.
	PID int `json:"pid"`
	// Uptime is the age of the process.
	Uptime time.Duration `json:"uptime_ns"`
	// Restarts counts starts after the first.
	Restarts int         `json:"restarts"`
	LastExit *ExitStatus `json:"last_exit,omitempty"`
	// RSS is the resident memory of the process in bytes.
	RSS int64 `json:"rss_bytes"`
}

func (r *runner) status() ServiceStatus {
	r.mu.Lock()
	st := ServiceStatus{
		Name: r.svc.Name, State: r.state, Critical: r.svc.Critical, CrashLoop: r.loop,
		PID: r.pid, Restarts: r.restarts, LastExit: r.last,
	}
	if r.pid != 0 {
		st.Uptime = time.Since(r.since)
		if r.state == Ready && st.Uptime >= r.sup.policy.Stable {
			st.CrashLoop = false
		}
	}
	r.mu.Unlock()
	if st.PID != 0 {
		st.RSS = rss(st.PID)
	}
	return st
}

// rss reads the resident set from /proc; 0 when the process has just ended.
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
