package supervise

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakes launches processes that live as a script says, without a kernel.
type fakes struct {
	begin time.Time
	mu    sync.Mutex
	log   []string
	live  func(s *Service, n int) life
	count map[string]int
}

// life is one process: ready after ready (if >= 0), dead of itself after dies
// (if >= 0), dead after SIGTERM + deaf.
type life struct {
	missing           bool
	ready, dies, deaf time.Duration
	code              int
}

const never = time.Duration(-1)

func (f *fakes) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf("%v ", time.Since(f.begin))+fmt.Sprintf(format, args...))
}

func (f *fakes) lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

func (f *fakes) launch(s *Service, argv []string) (*process, error) {
	f.mu.Lock()
	n := f.count[s.Name]
	f.count[s.Name]++
	f.mu.Unlock()
	l := f.live(s, n)
	if l.missing {
		return nil, fmt.Errorf("%w %s: %w", errCannotStart, argv[0], fs.ErrNotExist)
	}
	f.note("start %s %s", s.Name, argv[0])
	ready, exited, drained := make(chan struct{}), make(chan ExitStatus, 1), make(chan struct{})
	close(drained)
	began := time.Now()
	var once sync.Once
	die := func(st ExitStatus) {
		once.Do(func() {
			st.Ran = time.Since(began)
			f.note("dead %s", s.Name)
			exited <- st
		})
	}
	if l.ready >= 0 {
		time.AfterFunc(l.ready, func() { close(ready) })
	}
	if l.dies >= 0 {
		time.AfterFunc(l.dies, func() { die(ExitStatus{Code: l.code}) })
	}
	return &process{pid: 1000 + n, ready: ready, exited: exited, drained: drained, signal: func(sig syscall.Signal) {
		f.note("%s %s", signalName(sig), s.Name)
		if sig == syscall.SIGKILL {
			die(ExitStatus{Code: -1, Signal: "SIGKILL"})
			return
		}
		time.AfterFunc(l.deaf, func() { die(ExitStatus{Code: 0}) })
	}}, nil
}

func TestRunner(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	good := life{ready: 0, dies: never}
	for _, tt := range []struct {
		name     string
		services []Service
		live     func(s *Service, n int) life
		during   func(s *Supervisor)
		stop     time.Duration
		want     []string
	}{
		{
			name:     "starts in order, stops in reverse order",
			services: []Service{svc("b", "a"), svc("a")},
			live:     func(*Service, int) life { return good },
			stop:     1 * s,
			want:     []string{"0s start a /bin/true", "0s start b /bin/true", "1s SIGTERM b", "1s dead b", "1s SIGTERM a", "1s dead a"},
		},
		{
			name:     "waits for readiness, and no longer than the timeout",
			services: []Service{{Name: "a", Argv: []string{"/a"}, ReadyTimeout: 5 * s}, svc("b", "a")},
			live: func(s *Service, n int) life {
				if s.Name == "a" && n == 0 {
					return life{ready: never, dies: never}
				}
				return good
			},
			stop: 6 * s,
			want: []string{"0s start a /a", "5s SIGKILL a", "5s dead a", "5s start b /bin/true", "5.1s start a /a", "6s SIGTERM b", "6s dead b", "6s SIGTERM a", "6s dead a"},
		},
		{
			name:     "a failed dependency does not hold up the others",
			services: []Service{svc("a"), svc("b", "a")},
			live: func(s *Service, n int) life {
				if s.Name == "a" {
					return life{missing: true}
				}
				return good
			},
			stop: 50 * ms,
			want: []string{"0s start b /bin/true", "50ms SIGTERM b", "50ms dead b"},
		},
		{
			name:     "kills what ignores SIGTERM",
			services: []Service{{Name: "a", Argv: []string{"/a"}, StopTimeout: 2 * s}},
			live:     func(*Service, int) life { return life{ready: 0, dies: never, deaf: time.Hour} },
			stop:     1 * s,
			want:     []string{"0s start a /a", "1s SIGTERM a", "3s SIGKILL a", "3s dead a"},
		},
		{
			name:     "restart out of a crash loop is at once",
			services: []Service{svc("a")},
			live: func(_ *Service, n int) life {
				if n < 5 {
					return life{ready: 0, dies: 0, code: 1}
				}
				return good
			},
			during: func(s *Supervisor) {
				time.Sleep(4 * time.Second)
				s.Restart("a")
			},
			stop: 5 * s,
			want: []string{
				"0s start a /bin/true", "0s dead a", "100ms start a /bin/true", "100ms dead a", "300ms start a /bin/true", "300ms dead a",
				"700ms start a /bin/true", "700ms dead a", "1.5s start a /bin/true", "1.5s dead a", "4s start a /bin/true", "5s SIGTERM a", "5s dead a",
			},
		},
		{
			name:     "restart on request does not count as a failure",
			services: []Service{svc("a")},
			live:     func(*Service, int) life { return life{ready: 0, dies: never, deaf: 10 * ms} },
			during: func(s *Supervisor) {
				time.Sleep(time.Second)
				s.Restart("a")
			},
			stop: 2 * s,
			want: []string{"0s start a /bin/true", "1s SIGTERM a", "1.01s dead a", "1.01s start a /bin/true", "2s SIGTERM a", "2.01s dead a"},
		},
		{
			name:     "fallback when the program is missing",
			services: []Service{{Name: "c", Argv: []string{"/cli"}, Fallback: []string{"/gosh"}, TTY: "/dev/x"}},
			live:     func(_ *Service, n int) life { return life{missing: n == 0, ready: 0, dies: never} },
			stop:     1 * s,
			want:     []string{"0s start c /gosh", "1s SIGTERM c", "1s dead c"},
		},
		{
			name:     "fallback in a crash loop",
			services: []Service{{Name: "c", Argv: []string{"/cli"}, Fallback: []string{"/gosh"}, TTY: "/dev/x"}},
			live: func(_ *Service, n int) life {
				if n < 5 {
					return life{ready: 0, dies: 0, code: 2}
				}
				return good
			},
			stop: 12 * s,
			want: []string{
				"0s start c /cli", "0s dead c", "100ms start c /cli", "100ms dead c", "300ms start c /cli", "300ms dead c",
				"700ms start c /cli", "700ms dead c", "1.5s start c /cli", "1.5s dead c", "1.6s start c /gosh", "12s SIGTERM c", "12s dead c",
			},
		},
		{
			name:     "logging out of a console is no failure",
			services: []Service{{Name: "c", Argv: []string{"/cli"}, TTY: "/dev/x"}},
			live:     func(_ *Service, n int) life { return life{ready: 0, dies: 2 * s} },
			stop:     5 * s,
			want:     []string{"0s start c /cli", "2s dead c", "2s start c /cli", "4s dead c", "4s start c /cli", "5s SIGTERM c", "5s dead c"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{begin: time.Now(), live: tt.live, count: make(map[string]int)}
				s, err := New(Config{Services: tt.services})
				if err != nil {
					t.Fatal(err)
				}
				s.launch = f
				ctx, cancel := context.WithCancel(t.Context())
				if tt.during != nil {
					go tt.during(s)
				}
				time.AfterFunc(tt.stop, cancel)
				if err := s.Run(ctx); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, f.lines()); diff != "" {
					t.Error(diff)
				}
				for _, st := range s.Services() {
					if st.State != Stopped || st.PID != 0 {
						t.Errorf("%s is %s, pid %d after Run", st.Name, st.State, st.PID)
					}
				}
				time.Sleep(2 * time.Hour) // timers of the fakes
			})
		})
	}
}

func TestOnExitIsAtOnceAndBeforeRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{begin: time.Now(), count: make(map[string]int), live: func(_ *Service, n int) life {
			if n == 0 {
				return life{ready: 0, dies: time.Second, code: 1}
			}
			return life{ready: 0, dies: never}
		}}
		a := svc("a")
		a.OnExit = func(ctx context.Context, st ExitStatus) {
			f.note("hook: %v", st)
			<-ctx.Done() // never returns by itself: HookTimeout ends the wait
			if !st.Requested {
				panic("in the hook")
			}
		}
		s, err := New(Config{Services: []Service{a}})
		if err != nil {
			t.Fatal(err)
		}
		s.launch = f
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s.Run(ctx)
		want := []string{
			"0s start a /bin/true", "1s dead a", "1s hook: exit code 1 after 1s", "2.1s start a /bin/true",
			"5s SIGTERM a", "5s dead a", "5s hook: exit code 0 after 2.9s",
		}
		if diff := cmp.Diff(want, f.lines()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{begin: time.Now(), count: make(map[string]int), live: func(s *Service, n int) life {
			switch s.Name {
			case "loops":
				return life{ready: 0, dies: 0, code: 1}
			case "slow":
				return life{ready: 2 * time.Second, dies: never}
			}
			return life{ready: 0, dies: never}
		}}
		slow := svc("slow")
		slow.ReadyTimeout = 10 * time.Second
		s, err := New(Config{Services: []Service{svc("loops"), slow, svc("last", "slow")}})
		if err != nil {
			t.Fatal(err)
		}
		s.launch = f
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		var got []string
		look := func() {
			synctest.Wait()
			line := time.Since(f.begin).String()
			for _, st := range s.Services() {
				line += fmt.Sprintf(" %s=%s/%d", st.Name, st.State, st.Restarts)
			}
			got = append(got, line)
		}
		look()
		time.Sleep(1600 * time.Millisecond)
		look()
		select {
		case <-s.Settled():
			t.Error("settled before slow was ready")
		default:
		}
		time.Sleep(500 * time.Millisecond)
		look()
		<-s.Settled()
		cancel()
		time.Sleep(20 * time.Second)
		want := []string{
			"0s loops=backoff/0 slow=starting/0 last=waiting/0",
			"1.6s loops=crash-loop/4 slow=starting/0 last=waiting/0",
			"2.1s loops=crash-loop/4 slow=ready/0 last=ready/0",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
