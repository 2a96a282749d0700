package scenario

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

var storyStart = time.Unix(1795350000, 0)

func after(ms int) time.Time { return storyStart.Add(time.Duration(ms) * time.Millisecond) }

// wire makes captures of a story of ten seconds: gateways serve in spans of ms, datagrams pass every 100 ms except in a gap.
type wireScript struct {
	serve      map[string][][2]int // station: from, to
	gap        [2]int              // ms: requests in it do not arrive
	atEnds     bool                // the gap is made at the server, behind the wire
	announceAt map[string]int
}

func (w wireScript) traces() (out []capture.Trace) {
	vmac := ether.MAC{0x10, 0, 0, 0, 0x20, clusterID}
	for segment, vip := range map[string]string{"lan": lanVIP, "wan": wanVIP} {
		for _, g := range Gateways {
			tr := capture.Trace{Port: Port(segment, g), Segment: segment, Station: g}
			garp := ether.ARP{Op: 1, SenderMAC: vmac, SenderIP: netip.MustParseAddr(vip), TargetIP: netip.MustParseAddr(vip)}.Frame(vmac)
			reply := ether.ARP{Op: 2, SenderMAC: vmac, SenderIP: netip.MustParseAddr(vip), TargetIP: netip.MustParseAddr("10.1.0.201")}.Frame(vmac)
			for ms := 0; ms <= 10000; ms += 50 {
				for _, sp := range w.serve[g] {
					if ms >= sp[0] && ms <= sp[1] {
						tr.Frames = append(tr.Frames, capture.Frame{Time: after(ms), Dir: capture.In, Data: reply})
					}
				}
				if at, ok := w.announceAt[g]; ok && ms == at {
					tr.Frames = append(tr.Frames, capture.Frame{Time: after(ms), Dir: capture.In, Data: garp})
				}
			}
			out = append(out, tr)
		}
	}
	host, server := capture.Trace{Port: Port("lan", "host")}, capture.Trace{Port: Port("wan", "server")}
	client, echo := netip.MustParseAddrPort("10.1.0.10:4000"), netip.AddrPortFrom(netip.MustParseAddr(serverAddr), storyPort)
	for ms := 0; ms <= 10000; ms += 100 {
		m := probe.Message{Run: 1, Seq: uint64(ms)}
		request := ether.Datagram{From: client, To: echo, TTL: 64, Payload: m.Append(nil)}.Frame()
		m.Reply = true
		reply := ether.Datagram{From: echo, To: client, TTL: 64, Payload: m.Append(nil)}.Frame()
		host.Frames = append(host.Frames, capture.Frame{Time: after(ms), Dir: capture.In, Data: request})
		lost := ms >= w.gap[0] && ms < w.gap[1]
		if !lost || w.atEnds {
			server.Frames = append(server.Frames, capture.Frame{Time: after(ms + 1), Dir: capture.Out, Data: request})
		}
		if !lost {
			server.Frames = append(server.Frames, capture.Frame{Time: after(ms + 2), Dir: capture.In, Data: reply})
			host.Frames = append(host.Frames, capture.Frame{Time: after(ms + 3), Dir: capture.Out, Data: reply})
		}
	}
	return append(out, host, server)
}

func told(owners ...string) Telling {
	return Telling{
		Story: Story{Name: "x"}, Begin: after(0), End: after(10000), owners: owners,
		TCP:  [2]probe.TCPReport{{Connects: 1, Received: 5}, {Connects: 1, Received: 50}},
		Fast: [2]Fast{{"a", true, 4000, 4000}, {"b", true, 4000, 4000}},
	}
}

func TestJudgeStory(t *testing.T) {
	moved := map[string][][2]int{"a": {{0, 4000}}, "b": {{5000, 10000}}}
	dual := map[string][][2]int{"a": {{0, 10000}}, "b": {{3000, 5100}}}
	for _, tt := range []struct {
		name string
		wire wireScript
		edit func(*Telling)
		want string // in a problem; empty: none
	}{
		{"a takeover", wireScript{serve: moved, gap: [2]int{4000, 5000}}, nil, ""},
		{"to the wrong one", wireScript{serve: map[string][][2]int{"a": {{0, 10000}}}}, nil, "served by a, want a → b"},
		{"too long", wireScript{serve: moved, gap: [2]int{4000, 8000}}, nil, "no answers for 4.1s"},
		{"lossless, and it was not", wireScript{serve: moved, gap: [2]int{4000, 4100}}, func(x *Telling) { x.lossless = true }, "1 datagrams were lost"},
		{"lossless, the server lost one", wireScript{serve: moved, gap: [2]int{4000, 4100}, atEnds: true}, func(x *Telling) { x.lossless = true }, ""},
		{"two owners", wireScript{serve: map[string][][2]int{"a": {{0, 5000}}, "b": {{4900, 10000}}}}, nil, "at once for 100ms (1 times)"},
		{"two owners, within what cannot be prevented", wireScript{serve: map[string][][2]int{"a": {{0, 5000}}, "b": {{4900, 10000}}}},
			func(x *Telling) { x.both = 200 * time.Millisecond }, ""},
		{"a new connection", wireScript{serve: moved}, func(x *Telling) { x.TCP[1].Connects++ }, "TCP connection did not survive"},
		{"not offloaded any more", wireScript{serve: moved}, func(x *Telling) { x.Fast[1].Offload = false }, "after the event the TCP connection was not in a flow table"},
		{"not at the standby", wireScript{serve: moved}, func(x *Telling) { x.Fast[0].Standby = 0 }, "before the event"},
		{"alone before", wireScript{serve: moved}, func(x *Telling) { x.Fast[0].Standby, x.offline = 0, true }, ""},
		{"from another port", wireScript{serve: moved}, func(x *Telling) { x.Fast[1].Port, x.Fast[1].Standby = 4001, 4001 }, "port 4000 before, 4001 after"},
		{"a split, healed", wireScript{serve: dual, announceAt: map[string]int{"a": 5150}}, split, ""},
		{"a split without two", wireScript{serve: map[string][][2]int{"a": {{0, 10000}}}, announceAt: map[string]int{"a": 5150}}, split, "both should have served"},
		{"two for too long after it", wireScript{serve: map[string][][2]int{"a": {{0, 10000}}, "b": {{3000, 7000}}}, announceAt: map[string]int{"a": 7100}},
			split, "until 2s after the healing"},
		{"not announced", wireScript{serve: dual}, split, "did not announce on lan"},
		{"announced too early", wireScript{serve: dual, announceAt: map[string]int{"a": 5050}}, split, "before gw-b was silent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := told("a", "b")
			if tt.edit != nil {
				tt.edit(&x)
			}
			v := judgeStory(tt.wire.traces(), x)
			if got := strings.Join(v.Problems, "; "); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("problems %q, want %q", got, tt.want)
			}
			var b bytes.Buffer
			if err := WriteStories(&b, "here", []Verdict{v}); err != nil || !strings.Contains(b.String(), "| x |") {
				t.Errorf("%v\n%s", err, b.String())
			}
			if err := PrintStories(&b, []Verdict{v}); err != nil {
				t.Error(err)
			}
			if tt.want != "" && !strings.Contains(strings.Join(v.Problems, "; "), "gw-a sent nothing for at most") {
				t.Errorf("how still the members were is not said: %q", v.Problems)
			}
			if want := min(1, len(v.Problems)); Failed([]Verdict{v}) != want {
				t.Errorf("%d failed, want %d", Failed([]Verdict{v}), want)
			}
		})
	}
}

func split(x *Telling) {
	x.split, x.owners, x.Healed = true, []string{"a"}, after(5000)
}

func TestSelect(t *testing.T) {
	all, err := Select(nil)
	if err != nil || len(all) != len(Stories)-2 {
		t.Errorf("%d stories, %v", len(all), err)
	}
	two, err := Select([]string{"operator", "pause"})
	if err != nil || len(two) != 2 || two[0].Name != "operator" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := Select([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "partition") {
		t.Errorf("the error lists what there is: %v", err)
	}
}

// TestNotOK: a step that was skipped or is unknown is no success of a story, nor is a verification without steps.
func TestNotOK(t *testing.T) {
	step := func(r api.VerifyResult) api.VerifyStep {
		return api.VerifyStep{Name: "volume", Result: r, Evidence: []string{"nothing to compare with"}, Next: []string{"wait"}}
	}
	for want, v := range map[string]api.Verification{
		"":        {Steps: []api.VerifyStep{step(api.VerifyOK)}},
		"no step": {},
		"volume skipped: nothing to compare with; wait": {Steps: []api.VerifyStep{step(api.VerifyOK), step(api.VerifySkipped)}},
	} {
		if got := notOK(v); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
