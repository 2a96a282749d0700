package traffic

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func names(id uint8) string { return fmt.Sprintf("gw-%c", 'a'+id-1) }

// box is a member under test: its clock, and what it has counted.
type box struct {
	r    *Recorder
	now  time.Duration
	port Port
}

func newBox(self uint8) *box {
	return &box{r: NewRecorder(self, names(self)), port: Port{Name: "lan"}}
}

// run lets time pass with so many packets of 100 bytes a second for the cluster, while a member holds the role.
func (b *box) run(length time.Duration, holder uint8, term uint64, packets float64) {
	for end := b.now + length; b.now < end; {
		b.now += Interval
		n := uint64(packets * Interval.Seconds())
		if holder != b.r.self {
			n = 0
		}
		b.port.Cluster.Packets += n
		b.port.Cluster.Bytes += 100 * n
		b.r.Add(Sample{At: b.now, Holds: holder == b.r.self, Ports: []Port{b.port}})
		b.r.Observe(b.now, Role{Holder: holder, Term: term, Since: b.now - time.Second})
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.01*math.Max(1, math.Abs(b)) }

func TestRates(t *testing.T) {
	b := newBox(1)
	b.run(20*time.Second, 1, 1, 50)
	v := b.r.Traffic(b.now, 10*time.Second, names)
	if r := v.Volume.Interfaces[0].Cluster; !near(r.Packets, 50) || !near(r.Bytes, 5000) || !v.Volume.Holds || time.Duration(v.Volume.Over) != 10*time.Second {
		t.Errorf("50 packets a second: %+v", v.Volume)
	}
	// The gate is installed anew: its counters begin at 0.
	b.port.Cluster = Count{}
	b.run(10*time.Second, 1, 1, 50)
	if r := b.r.Traffic(b.now, 10*time.Second, names).Volume.Interfaces[0].Cluster; r.Packets < 40 || r.Packets > 51 {
		t.Errorf("over a restart of the counters: %+v", r)
	}
	if v := NewRecorder(1, "gw-a").Traffic(time.Hour, time.Minute, names); v.Volume.Interfaces == nil || v.Recorded != 0 {
		t.Errorf("without samples: %+v", v)
	}
	// An interface that comes later has a rate of its own time on.
	b.r.Add(Sample{At: b.now + Interval, Ports: []Port{b.port, {Name: "wan", In: Count{1e9, 1e9}}}})
	if v := b.r.Traffic(b.now+Interval, 10*time.Second, names).Volume; len(v.Interfaces) != 2 || v.Interfaces[1].In.Packets != 0 {
		t.Errorf("a new interface: %+v", v)
	}
}

// TestBounds: what is remembered has an end.
func TestBounds(t *testing.T) {
	b := newBox(1)
	b.run(2*api.MaxOver, 1, 1, 50)
	if n := len(b.r.samples); n != maxSamples {
		t.Errorf("%d samples", n)
	}
	if v := b.r.Traffic(b.now, 2*api.MaxOver, names); time.Duration(v.Recorded) != api.MaxOver || time.Duration(v.Volume.Over) != api.MaxOver {
		t.Errorf("recorded %v, over %v", time.Duration(v.Recorded), time.Duration(v.Volume.Over))
	}
	for i := range 3 * maxChanges {
		b.run(4*time.Second, uint8(1+i%2), uint64(i+2), 50)
	}
	if n := len(b.r.changes); n != maxChanges {
		t.Errorf("%d changes", n)
	}
	before := len(b.r.samples)
	b.r.Add(Sample{At: b.now - time.Second})
	if len(b.r.samples) != before {
		t.Error("a sample from before the last one was taken")
	}
}

func compare(b *box, asked Asked) api.TrafficComparison {
	return b.r.Compare(b.now, api.DefaultOver, asked, names)
}

func want(t *testing.T, what string, c api.TrafficComparison, result api.VerifyResult, text string) {
	t.Helper()
	if all := c.Basis + "; " + c.Text; c.Result != result || !strings.Contains(all, text) {
		t.Errorf("%s: %s %q, want %s with %q", what, c.Result, all, result, text)
	}
}

// TestFailover: member 2 takes over from member 1 and holds its volume against that of its predecessor.
func TestFailover(t *testing.T) {
	a, b := newBox(1), newBox(2)
	for _, m := range []*box{a, b} {
		m.run(30*time.Second, 1, 1, 50)
		want(t, "before any failover", compare(m, Asked{}), api.VerifySkipped, "no failover was seen in the 28s")
		m.run(2*time.Second, 0, 1, 0) // nobody is known to hold it for a moment
	}
	b.r.Told(b.now-6*time.Second, 1, a.r.Traffic(a.now, time.Minute, names).Volume)
	for _, m := range []*box{a, b} {
		m.run(2*time.Second, 2, 2, 50)
	}
	id, term, ok := b.r.Predecessor()
	if id != 1 || term != 2 || !ok {
		t.Errorf("predecessor %d of term %d, %v", id, term, ok)
	}
	want(t, "at once", compare(b, Asked{}), api.VerifyUnknown, "are counted yet")
	a.run(20*time.Second, 2, 2, 50)
	b.run(20*time.Second, 2, 2, 50)
	said := Before(a.r.Traffic(a.now, time.Minute, names), 2, 2)
	if said == nil || !near(Total(said).Packets, 50) && Total(said).Packets < 40 {
		t.Fatalf("what the predecessor says: %+v", said)
	}
	if Before(a.r.Traffic(a.now, time.Minute, names), 2, 3) != nil {
		t.Error("the volume before another term is given")
	}
	want(t, "asked", compare(b, Asked{Volume: said}), api.VerifyOK, "gw-a, before it lost the role, as it says now; ")
	c := compare(b, Asked{Why: "no answer"})
	want(t, "told before its death", c, api.VerifyOK, "gw-a, as it said 7s before the failover")
	if c.PacketRatio < 0.9 || c.PacketRatio > 1.2 || c.Change.FromName != "gw-a" || c.Change.Before != nil {
		t.Errorf("ratio %.2f, change %+v", c.PacketRatio, c.Change)
	}
	want(t, "the one that lost it", compare(a, Asked{}), api.VerifySkipped, "before, 0 packets/s")
	delete(b.r.told, 1)
	b.r.changes[0].theirs = nil
	want(t, "never told", compare(b, Asked{Why: "no answer"}), api.VerifyUnknown, "is not known: no answer")
	// Back again: it compares with itself.
	a.run(20*time.Second, 1, 3, 50)
	if _, _, ok := a.r.Predecessor(); ok {
		t.Error("somebody is asked although the own volume is known")
	}
	want(t, "after a fail-back", compare(a, Asked{}), api.VerifyOK, "gw-a itself, before it lost the role to gw-b")
}

// TestJudge: when the volume does not resemble the one before.
func TestJudge(t *testing.T) {
	volume := func(lan, wan float64) api.Volume {
		rate := func(n float64) api.Rate { return api.Rate{Packets: n, Bytes: 100 * n} }
		return api.Volume{Over: 60e9, Interfaces: []api.InterfaceVolume{{Interface: "lan", Cluster: rate(lan)}, {Interface: "wan", Cluster: rate(wan)}}}
	}
	for _, c := range []struct {
		what          string
		before, after api.Volume
		result        api.VerifyResult
		text          string
	}{
		{"the same", volume(100, 100), volume(100, 90), api.VerifyOK, "95 % of the packets"},
		{"more", volume(100, 100), volume(500, 500), api.VerifyOK, "500 %"},
		{"half of it lost", volume(100, 100), volume(30, 30), api.VerifyFailed, "30 %"},
		{"one side silent", volume(1000, 20), volume(1000, 1), api.VerifyFailed, "wan has gone silent: 20 packets/s, 2.0 kB/s before, 1.0 packets/s, 100 B/s after"},
		{"nothing before", volume(1, 1), volume(0, 0), api.VerifySkipped, "too little"},
		{"few large packets are the volume too", func() api.Volume { v := volume(100, 0); v.Interfaces[0].Cluster.Bytes = 1e6; return v }(),
			func() api.Volume { v := volume(40, 0); v.Interfaces[0].Cluster.Bytes = 1e6; return v }(), api.VerifyOK, "40 % of the packets, 100 % of the bytes"},
	} {
		out := api.TrafficComparison{Before: &c.before, After: c.after, Result: api.VerifySkipped}
		b, a := Total(&c.before), Total(&c.after)
		out.PacketRatio, out.ByteRatio = ratio(b.Packets, a.Packets), ratio(b.Bytes, a.Bytes)
		judge(&out, b, a)
		want(t, c.what, out, c.result, c.text)
		if (out.Next != "") != (out.Result == api.VerifyFailed) {
			t.Errorf("%s: do %q", c.what, out.Next)
		}
	}
}

func TestWords(t *testing.T) {
	for want, r := range map[string]api.Rate{
		"0 packets/s, 0 B/s": {}, "2.5 packets/s, 999 B/s": {Packets: 2.5, Bytes: 999}, "10 packets/s, 1.5 kB/s": {Packets: 10, Bytes: 1500}, "1000000 packets/s, 1.2 GB/s": {Packets: 1e6, Bytes: 1.2e9},
	} {
		if got := Words(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
