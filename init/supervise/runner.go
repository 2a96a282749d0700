package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// drainGrace is how long the line "exited" waits for the last output of the
// process, so that the journal reads in the order in which things happened. A
// grandchild that keeps the pipe open does not hold it up longer.
const drainGrace = 50 * time.Millisecond

// runner keeps one service running. Its goroutine is run; everything else may
// be called from anywhere.
type runner struct {
	svc     Service
	sup     *Supervisor
	settled chan struct{} // closed at the first ready or the first failure
	done    chan struct{} // closed when the service has stopped for good
	restart chan struct{} // an operator wants a restart

	settle sync.Once

	mu       sync.Mutex
	state    State
	pid      int
	since    time.Time // of the running process
	restarts int
	last     *ExitStatus
	loop     bool
}

func newRunner(sup *Supervisor, svc Service) *runner {
	return &runner{
		svc: svc, sup: sup, state: Waiting,
		settled: make(chan struct{}),
		done:    make(chan struct{}),
		restart: make(chan struct{}, 1),
	}
}

// run starts the service when deps have settled, and again whenever it ends,
// until ctx ends.
func (r *runner) run(ctx context.Context, deps []*runner) {
	defer close(r.done)
	defer r.settle.Do(func() { close(r.settled) })
	defer r.set(Stopped, 0)
	for _, d := range deps {
		select {
		case <-ctx.Done():
			return
		case <-d.settled:
		}
	}
	policy := restarts{policy: r.sup.policy}
	begin := time.Now()
	for n := 0; ; n++ {
		argv := r.svc.Argv
		if policy.loop && len(r.svc.Fallback) > 0 {
			argv = r.svc.Fallback
		}
		st := r.once(ctx, argv)
		if errors.Is(st.err, errCannotStart) && len(r.svc.Fallback) > 0 {
			st = r.once(ctx, r.svc.Fallback)
		}
		r.settle.Do(func() { close(r.settled) })
		if ctx.Err() != nil {
			return
		}
		delay := r.pause(&policy, st, time.Since(begin))
		state := Backoff
		if policy.loop {
			state = CrashLoop
		}
		r.set(state, 0)
		select {
		case <-ctx.Done():
			return
		case <-r.restart:
			policy.reset()
			r.verdict(false)
		case <-time.After(delay):
		}
		r.mu.Lock()
		r.restarts++
		r.mu.Unlock()
	}
}

// pause is how long the service stays down after an end; since is the age of the runner. It says when that is a crash loop.
func (r *runner) pause(policy *restarts, st outcome, since time.Duration) time.Duration {
	if st.Requested || r.svc.TTY != "" && st.Code == 0 && st.Ran >= time.Second {
		policy.reset()
		r.verdict(false)
		return 0
	}
	delay, verdict := policy.failed(since, st.Ran)
	r.verdict(policy.loop)
	if verdict {
		r.log("%s is in a crash loop: %d exits within %v; trying again every %v; see its lines in the journal",
			r.svc.Name, policy.policy.LoopExits, policy.policy.LoopWindow, policy.policy.Max)
		if len(r.svc.Fallback) > 0 {
			delay = policy.policy.First // the fallback has not failed yet
		}
	}
	return delay
}

// outcome is how one process ended; err is set when there was none.
type outcome struct {
	ExitStatus
	err error
}

// once runs one process from start to end. It returns after OnExit has.
func (r *runner) once(ctx context.Context, argv []string) outcome {
	p, err := r.sup.launch.launch(&r.svc, argv)
	if err != nil {
		st := ExitStatus{Code: -1, Reason: err.Error()}
		r.log("%s: %v", r.svc.Name, err)
		r.exited(st)
		return outcome{st, err}
	}
	r.set(Starting, p.pid)

	var late <-chan time.Time
	if r.svc.ReadyTimeout > 0 {
		t := time.NewTimer(r.svc.ReadyTimeout)
		defer t.Stop()
		late = t.C
	}
	var st ExitStatus
	ready := p.ready
	started := time.Now()
wait:
	for {
		select {
		case st = <-p.exited:
			break wait
		case <-ready:
			ready, late = nil, nil
			r.set(Ready, p.pid)
			r.settle.Do(func() { close(r.settled) })
			if r.svc.ReadyTimeout > 0 {
				r.log("%s is ready after %v", r.svc.Name, time.Since(started).Round(time.Millisecond))
			}
		case <-late:
			st = r.end(p, 0)
			st.Reason = fmt.Sprintf("not ready within %v", r.svc.ReadyTimeout)
			break wait
		case <-r.restart:
			st = r.end(p, r.svc.stop())
			st.Requested = true
			break wait
		case <-ctx.Done():
			st = r.end(p, r.svc.stop())
			st.Requested = true
			break wait
		}
	}
	hook := r.hook(st)
	select {
	case <-p.drained:
	case <-time.After(drainGrace):
	}
	r.log("%s: %v", r.svc.Name, st)
	r.exited(st)
	<-hook
	return outcome{ExitStatus: st}
}

// end stops a process: SIGTERM, after grace SIGKILL.
func (r *runner) end(p *process, grace time.Duration) ExitStatus {
	if grace > 0 {
		p.signal(syscall.SIGTERM)
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case st := <-p.exited:
			return st
		case <-t.C:
			r.log("%s did not end within %v of SIGTERM: killing it", r.svc.Name, grace)
		}
	}
	p.signal(syscall.SIGKILL)
	return <-p.exited
}

// hook calls OnExit without letting it hold up or take down the supervisor.
// The channel is closed when it has returned or used up HookTimeout.
func (r *runner) hook(st ExitStatus) <-chan struct{} {
	done := make(chan struct{})
	if r.svc.OnExit == nil {
		close(done)
		return done
	}
	ctx, cancel := context.WithTimeout(context.Background(), HookTimeout)
	go func() {
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				r.log("%s: OnExit panicked: %v\n%s", r.svc.Name, v, debug.Stack())
			}
		}()
		r.svc.OnExit(ctx, st)
	}()
	go func() {
		<-ctx.Done()
		close(done)
	}()
	return done
}

func (r *runner) set(s State, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid != r.pid {
		r.since = time.Now()
	}
	r.state, r.pid = s, pid
}

func (r *runner) exited(st ExitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.pid = &st, 0
}

func (r *runner) verdict(loop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loop = loop
}

func (r *runner) log(format string, args ...any) {
	r.sup.journal.Appendf(r.sup.name, format, args...)
}
