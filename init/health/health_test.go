package health

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/init/supervise"
)

// service is one that has run for an hour and answered at a moment.
func service(name string, state supervise.State, answered time.Duration) Service {
	return Service{ServiceStatus: supervise.ServiceStatus{Name: name, State: state, Critical: true, Uptime: time.Hour}, Asked: true, Answered: answered}
}

func TestGoodTreeIsFed(t *testing.T) {
	var j Judge
	for now := time.Hour; now < 3*time.Hour; now += 10 * time.Second {
		v := j.Step(now, []Service{service("had", supervise.Ready, now-9*time.Second), service("gatewayd", supervise.Ready, now)})
		if !v.Feed || v.Why != "" || v.Restart != nil {
			t.Fatalf("%v: %+v", now, v)
		}
	}
	if v := j.Step(4*time.Hour, nil); !v.Feed {
		t.Error("a machine without critical services is reset")
	}
}

func TestSilentServiceIsRestarted(t *testing.T) {
	var j Judge
	had := service("had", supervise.Ready, time.Hour)
	if v := j.Step(time.Hour+Silence-1, []Service{had}); v.Why != "" {
		t.Errorf("too early: %+v", v)
	}
	v := j.Step(time.Hour+Silence, []Service{had})
	if !slices.Equal(v.Restart, []string{"had"}) || v.Why != "had has not answered for 1m0s" || !v.Feed {
		t.Errorf("silent: %+v", v)
	}
	if v := j.Step(time.Hour+Silence+time.Second, []Service{had}); v.Restart != nil {
		t.Errorf("restarted at every tick: %+v", v)
	}
	if v := j.Step(time.Hour+2*Silence, []Service{had}); !slices.Equal(v.Restart, []string{"had"}) {
		t.Errorf("a second attempt: %+v", v)
	}
	young := had
	young.Uptime = time.Second
	if v := j.Step(time.Hour+3*Silence, []Service{young}); v.Why != "" {
		t.Errorf("one that has just started has time: %+v", v)
	}
}

func TestIllTreeIsReset(t *testing.T) {
	loop := service("had", supervise.Backoff, 0)
	loop.CrashLoop = true
	for _, ill := range []Service{loop, service("had", supervise.Backoff, 0), service("had", supervise.Starting, 0), service("had", supervise.Ready, 0)} {
		var j Judge
		spent := Judge{Spent: true}
		began := time.Hour
		for now := began; now < began+2*Limit; now += time.Second {
			v := j.Step(now, []Service{ill, service("gatewayd", supervise.Ready, now)})
			if v.Feed != (now < began+Limit) || v.Why == "" {
				t.Fatalf("%s after %v: %+v", ill.State, now-began, v)
			}
			if !spent.Step(now, []Service{ill}).Feed {
				t.Fatalf("%s: a second reset", ill.State)
			}
		}
	}
}

// A tree that is good now and then is never reset; one that is ill all the time always is, unless that was tried.
func TestLimitIsWithoutBreak(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		j := Judge{Limit: time.Duration(1+rng.IntN(600)) * time.Second}
		ill, since := false, time.Duration(0)
		for now := time.Duration(0); now < 30*time.Minute; now += time.Second {
			bad := rng.IntN(200) > 0 == (rng.IntN(50) > 0)
			s := service("had", supervise.Ready, now)
			if bad {
				s.State = supervise.Backoff
			}
			if bad && !ill {
				since = now
			}
			ill = bad
			if v := j.Step(now, []Service{s}); v.Feed == (bad && now-since >= j.Limit) {
				t.Fatalf("ill for %v of %v: feed %t", now-since, j.Limit, v.Feed)
			}
		}
	}
}

func TestBeginningAndEnd(t *testing.T) {
	var j Judge
	for _, s := range []supervise.State{supervise.Waiting, supervise.Stopped} {
		if v := j.Step(0, []Service{service("had", s, 0)}); v.Why != "" || !v.Feed {
			t.Errorf("%s: %+v", s, v)
		}
	}
}
