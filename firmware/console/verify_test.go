package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/tools/golden"
)

func routeTable() api.RouteTable {
	p := netip.MustParsePrefix
	return api.RouteTable{Member: "gw-a", Master: "branch-master", Holder: "gw-a", Left: 3, Routes: []api.Route{
		{Kind: api.RouteVIP, Destination: p("10.1.0.1/32"), Interface: "lan", Owner: "branch-master", Available: true},
		{Kind: api.RouteDefault, Destination: p("0.0.0.0/0"), Gateway: addr("192.0.2.254"), Interface: "wan", Metric: 20, Owner: "branch-master", Why: "it is not in the kernel", Fault: true},
		{Kind: api.RouteManagement, Destination: p("10.1.0.3/32"), Interface: "lan", Owner: "gw-b", Why: "gw-b has that address"},
	}}
}

func volumeOf(name string, n float64) api.Volume {
	r := func(n float64) api.Rate { return api.Rate{Packets: n, Bytes: 400 * n} }
	return api.Volume{Member: name, Over: member.Duration(30 * time.Second), Ago: 1, Interfaces: []api.InterfaceVolume{
		{Interface: "lan", In: r(n + 100), Out: r(n), Cluster: r(n)}, {Interface: "sync", Sync: true, In: r(200), Out: r(200)},
	}}
}

func comparison() api.TrafficComparison {
	before := volumeOf("gw-b", 5000)
	return api.TrafficComparison{
		Member: "gw-a", Holds: true, Change: &api.RoleChange{Ago: member.Duration(250 * time.Second), From: 2, FromName: "gw-b", To: 1, ToName: "gw-a", Term: 7},
		Before: &before, Basis: "gw-b, as it said 3s before the failover", After: volumeOf("gw-a", 1000), PacketRatio: 0.2, ByteRatio: 0.2,
		Result: api.VerifyFailed, Text: "5000 packets/s, 2.0 MB/s before, 1000 packets/s, 400.0 kB/s after: 20 % of the packets, 20 % of the bytes", Next: "see whether hosts send to this member",
	}
}

func verification(results ...api.VerifyResult) api.Verification {
	v := api.Verification{Cluster: "branch", Member: "gw-a", Master: "gw-a", Term: 7, Watched: member.Duration(5 * time.Second), Result: api.VerifyOK}
	for i, r := range results {
		s := api.VerifyStep{Name: []string{"one master", "virtual addresses", "volume"}[i], Result: r, Evidence: []string{"gw-a: ACTIVE, term 7, gate open"}}
		if r == api.VerifyFailed || r == api.VerifyUnknown {
			s.Next, v.Result = []string{"cluster explain"}, r
		}
		v.Steps = append(v.Steps, s)
	}
	return v
}

func TestFormatVerify(t *testing.T) {
	write := func(name string, f func(*bytes.Buffer)) {
		var b bytes.Buffer
		f(&b)
		golden.Check(t, "testdata/"+name+".golden", b.String())
	}
	write("routes", func(b *bytes.Buffer) { writeRoutes(b, routeTable()) })
	write("rules", func(b *bytes.Buffer) {
		writeRules(b, api.RuleCounts{Member: "gw-a", Left: 1, Rules: []api.RuleCount{{Rule: "dropped/forward/lan/wan", Packets: 7, Bytes: 420}, {Rule: "filter/lan-web", Packets: 1024, Bytes: 61440}, {Rule: "nat/web"}}})
	})
	write("traffic", func(b *bytes.Buffer) {
		writeTraffic(b, api.Traffic{Member: "gw-a", Volume: volumeOf("gw-a", 1000), Changes: []api.RoleChange{*comparison().Change}})
		writeTraffic(b, api.Traffic{Member: "gw-b"})
	})
	write("traffic-compare", func(b *bytes.Buffer) {
		writeComparison(b, comparison())
		writeComparison(b, api.TrafficComparison{Member: "gw-a", After: volumeOf("gw-a", 10), Result: api.VerifySkipped, Text: "no failover was seen in the 3m0s since gatewayd began to count"})
	})
	write("cluster-verify", func(b *bytes.Buffer) {
		writeVerification(b, verification(api.VerifyOK, api.VerifyFailed, api.VerifySkipped))
	})
}

// serveGatewayd answers paths with values, and tells what it was asked for.
func serveGatewayd(t *testing.T, answers map[string]any) (run string, asked func() []string) {
	t.Helper()
	run = t.TempDir()
	ln, err := unixhttp.Listen(filepath.Join(run, api.GatewaydSocket))
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- unixhttp.Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests <- r.URL.String()
			v, ok := answers[r.URL.Path]
			if !ok {
				api.NotFound(w, r)
				return
			}
			api.Reply(w, v, nil)
		}))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return run, func() (out []string) {
		for len(requests) > 0 {
			out = append(out, <-requests)
		}
		return out
	}
}

func TestVerifyCommands(t *testing.T) {
	answers := map[string]any{
		"/v1/rules": api.RuleCounts{}, "/v1/routes": routeTable(), "/v1/peers/gw-b/routes": routeTable(), "/v1/traffic": api.Traffic{}, "/v1/peers/gw-b/traffic": api.Traffic{}, "/v1/traffic/compare": comparison(),
	}
	run, asked := serveGatewayd(t, answers)
	command := func(line string) (string, error) {
		root := NewCommand(Options{Run: run})
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(strings.Fields(line))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	for line, want := range map[string]string{
		"rules --unused": "/v1/rules", "routes": "/v1/routes", "routes gw-b": "/v1/peers/gw-b/routes", "traffic": "/v1/traffic?over=30s", "traffic gw-b --over 1m": "/v1/peers/gw-b/traffic?over=1m0s",
		"traffic compare --over 5m": "/v1/traffic/compare?over=5m0s",
	} {
		if _, err := command(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if got := asked(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s asks %v, want %s", line, got, want)
		}
	}
	// The end of cluster verify is what a script goes by, as text and as JSON.
	for want, v := range map[string]api.Verification{
		"":                              verification(api.VerifyOK, api.VerifySkipped),
		"1 step failed":                 verification(api.VerifyOK, api.VerifyFailed),
		"2 steps unknown: not verified": verification(api.VerifyUnknown, api.VerifyOK, api.VerifyUnknown),
		"1 step failed, 1 unknown":      verification(api.VerifyUnknown, api.VerifyFailed),
	} {
		answers["/v1/verify"] = v
		out, err := command("cluster verify --for 7s")
		if got := ""; err != nil {
			if got = err.Error(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		} else if want != "" {
			t.Errorf("no error, want %q", want)
		}
		if !strings.Contains(out, "1. one master") {
			t.Errorf("steps are not shown: %s", out)
		}
		var back api.Verification
		out, err = command("cluster verify --json")
		if (err == nil) != (want == "") || json.Unmarshal([]byte(out), &back) != nil || len(back.Steps) != len(v.Steps) {
			t.Errorf("--json: %v\n%s", err, out)
		}
		if got := asked(); !slices.Equal(got, []string{"/v1/verify?for=7s", "/v1/verify?for=5s"}) {
			t.Errorf("asked %v", got)
		}
	}
	for _, line := range []string{"cluster verify", "routes gw-b", "traffic compare"} {
		cmd, rest, err := NewCommand(Options{}).Find(strings.Fields(line))
		if err != nil || changes(cmd, rest) {
			t.Errorf("%s counts as a change, %v", line, err)
		}
	}
}
