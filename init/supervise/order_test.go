package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func svc(name string, after ...string) Service {
	return Service{Name: name, Argv: []string{"/bin/true"}, After: after}
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		name     string
		services []Service
		want     []string
		err      string
	}{
		{name: "none"},
		{name: "as given", services: []Service{svc("c"), svc("a"), svc("b")}, want: []string{"c", "a", "b"}},
		{name: "dependency first", services: []Service{svc("had", "gatewayd"), svc("gatewayd"), svc("cli")}, want: []string{"gatewayd", "had", "cli"}},
		{name: "chain", services: []Service{svc("c", "b"), svc("b", "a"), svc("a")}, want: []string{"a", "b", "c"}},
		{name: "circle", services: []Service{svc("a", "b"), svc("b", "a")}, err: "services wait for each other: a -> b -> a"},
		{name: "itself", services: []Service{svc("a", "a")}, err: "services wait for each other: a -> a"},
		{name: "unknown", services: []Service{svc("a", "x")}, err: `service a: after names "x", which is no service`},
		{name: "twice", services: []Service{svc("a"), svc("a")}, err: "service a is defined twice"},
		{name: "bad name", services: []Service{svc("a/b")}, err: "must be one word"},
		{name: "no program", services: []Service{{Name: "a"}}, err: "absolute path"},
		{name: "relative program", services: []Service{{Name: "a", Argv: []string{"true"}}}, err: "absolute path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sorted, err := order(tt.services)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range sorted {
				got = append(got, tt.services[i].Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRestarts(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	type failure struct {
		now, ran time.Duration
		delay    time.Duration
		verdict  bool
	}
	for _, tt := range []struct {
		name   string
		policy Policy
		fail   []failure
	}{
		{"doubles to a crash loop, then waits the maximum", Policy{}, []failure{
			{0, 0, 100 * ms, false},
			{1 * s, 0, 200 * ms, false},
			{2 * s, 0, 400 * ms, false},
			{3 * s, 0, 800 * ms, false},
			{4 * s, 0, 10 * s, true},
			{15 * s, 0, 10 * s, false},
			{300 * s, 0, 10 * s, false},
		}},
		{"doubles no further than the maximum", Policy{LoopExits: 100}, []failure{
			{0, 0, 100 * ms, false}, {0, 0, 200 * ms, false}, {0, 0, 400 * ms, false}, {0, 0, 800 * ms, false},
			{0, 0, 1600 * ms, false}, {0, 0, 3200 * ms, false}, {0, 0, 6400 * ms, false}, {0, 0, 10 * s, false}, {0, 0, 10 * s, false},
		}},
		{"a stable run starts again at the first delay", Policy{}, []failure{
			{0, 0, 100 * ms, false}, {1 * s, 0, 200 * ms, false}, {40 * s, 30 * s, 100 * ms, false},
		}},
		{"a stable run ends a crash loop", Policy{LoopExits: 2}, []failure{
			{0, 0, 100 * ms, false}, {1 * s, 0, 10 * s, true}, {60 * s, 31 * s, 100 * ms, false},
		}},
		{"old failures leave the window", Policy{LoopExits: 3}, []failure{
			{0, 0, 100 * ms, false}, {50 * s, 10 * s, 200 * ms, false}, {61 * s, 10 * s, 400 * ms, false}, {62 * s, 0, 10 * s, true},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := restarts{policy: tt.policy.withDefaults()}
			for i, f := range tt.fail {
				delay, verdict := r.failed(f.now, f.ran)
				if delay != f.delay || verdict != f.verdict {
					t.Errorf("failure %d: delay %v verdict %v, want %v %v", i, delay, verdict, f.delay, f.verdict)
				}
			}
		})
	}
}

func TestExitStatusString(t *testing.T) {
	for want, st := range map[string]ExitStatus{
		"exit code 3 after 1.5s":                           {Code: 3, Ran: 1500 * time.Millisecond},
		"killed by SIGKILL after 2s":                       {Code: -1, Signal: "SIGKILL", Ran: 2 * time.Second},
		"killed by SIGKILL after 2s (not ready within 2s)": {Code: -1, Signal: "SIGKILL", Ran: 2 * time.Second, Reason: "not ready within 2s"},
		"not started (cannot start /x: no such file)":      {Code: -1, Reason: "cannot start /x: no such file"},
	} {
		if got := st.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
