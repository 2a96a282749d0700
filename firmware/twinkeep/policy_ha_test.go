package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestPolicyChangesVIPs: VIPs and priorities are taken in while had runs: nobody starts anew, no role moves, no probe is lost.
func TestPolicyChangesVIPs(t *testing.T) {
	p := installed(t)
	p.Wait("traffic", p.Reachable)
	pids := [2]int{p.A.Had(), p.B.Had()}
	term := p.A.Status().Term
	watched, probed := p.Watch(), probeEcho(t, p.Pair)
	time.Sleep(300 * time.Millisecond)
	install := func(revision int, doc string, vips int) {
		operate(t, p.A, true, "policy", "install", p.sign(revision, doc))
		p.Wait("the VIPs on both", func() bool { return len(p.A.Status().VIPs) == vips && len(p.B.Status().VIPs) == vips })
		p.waitRuns(uint64(revision), p.A, p.B)
	}
	more := strings.Replace(document(""), "vips: ["+pair.LANVIP+"]", "vips: ["+pair.LANVIP+", 10.1.0.4, 10.1.0.5]", 1)
	more = strings.Replace(more, "priority: 100", "priority: 110", 1)
	install(2, more, 4)
	p.Wait("the new VIPs to answer", func() bool { return len(whoHas(t, p.Pair, []string{"10.1.0.4", "10.1.0.5"})) == 2 })
	p.Wait("the priority on both", func() bool {
		return p.A.Status().Peers[0].Priority == 110 && p.B.Status().Priority == 110
	})
	install(3, strings.Replace(more, ", 10.1.0.4,", ",", 1), 3)
	p.Wait("the removed VIP to be silent", func() bool {
		return len(whoHas(t, p.Pair, []string{"10.1.0.4"})) == 0 && len(whoHas(t, p.Pair, []string{"10.1.0.5", pair.LANVIP})) == 2
	})
	time.Sleep(500 * time.Millisecond)
	got := probed()
	t.Logf("%d probes, one a millisecond: %d lost, longest gap %v", got.sent, got.lost, got.gap)
	if got.lost > fewLost {
		t.Errorf("%d of %d probes are lost", got.lost, got.sent)
	}
	onlyOwners(t, watched(), "a")
	if now := [2]int{p.A.Had(), p.B.Had()}; now != pids || p.A.Status().Term != term || p.A.Status().State != "ACTIVE" || p.B.Status().State != "STANDBY" {
		t.Errorf("had %v, before %v; term %d, before %d", now, pids, p.A.Status().Term, term)
	}
	// What was taken in at run time is what the other takes over with.
	p.A.Kill()
	p.Wait("member b to take over", func() bool { return p.B.Status().State == "ACTIVE" })
	p.Wait("its VIPs", func() bool { return len(whoHas(t, p.Pair, []string{"10.1.0.5", pair.LANVIP})) == 2 })
	if len(whoHas(t, p.Pair, []string{"10.1.0.4"})) != 0 {
		t.Error("the removed VIP is back")
	}
}

// fewLost is what a shared machine may lose by itself. A member that starts anew without a hand-over costs hundreds.
const fewLost = 20

// TestPolicyChangesHA: settings with which members may meet are taken in one member after the other, with a hand-over that
// loses nothing; another beat and lease by all at once.
func TestPolicyChangesHA(t *testing.T) {
	p := installed(t)
	p.Wait("traffic", p.Reachable)
	from, to := p.A, p.B
	roll := func(what string, revision int, doc string, taken func(*pair.Member) bool) {
		t.Helper()
		watched, probed := p.Watch(), probeEcho(t, p.Pair)
		time.Sleep(300 * time.Millisecond)
		operate(t, p.A, true, "policy", "install", p.sign(revision, doc))
		p.Wait(what+" on both", func() bool { return taken(p.A) && taken(p.B) })
		p.waitRuns(uint64(revision), p.A, p.B)
		p.Wait("the roles to have changed", func() bool { return to.Status().State == "ACTIVE" && from.Status().State == "STANDBY" })
		got := probed()
		t.Logf("%s, one member after the other: %d probes, one a millisecond: %d lost, longest gap %v", what, got.sent, got.lost, got.gap)
		if got.lost > fewLost {
			t.Errorf("%s: %d of %d probes are lost", what, got.lost, got.sent)
		}
		onlyOwners(t, watched(), strings.ToLower(from.Name), strings.ToLower(to.Name))
		from, to = to, from
		p.inSync(from, to)
	}
	quiet := strings.Replace(document(""), "{name: wan, zone: wan,", "{name: wan, zone: wan, heartbeat: false,", 1)
	roll("an interface without heartbeats", 2, quiet, func(m *pair.Member) bool {
		f := m.Status().Interfaces
		return len(f) == 3 && !f[1].Heartbeat
	})
	primary := strings.Replace(quiet, "  timing: ", "  mode: primary-up\n  lock: {after: failover}\n  timing: ", 1)
	roll("mode and lock", 3, primary, func(m *pair.Member) bool { return m.Status().Mode == "primary-up" && m.Status().Lock })
	later := strings.Replace(quiet, pair.Timing, pair.Timing[:strings.Index(pair.Timing, "dead:")]+"dead: 450ms, silence: 1s}", 1)
	roll("another dead time, and the mode back", 4, later, func(m *pair.Member) bool {
		return time.Duration(m.Status().Timing.Dead) == 450*time.Millisecond
	})

	watched, probed := p.Watch(), probeEcho(t, p.Pair)
	slower := strings.Replace(quiet, pair.Timing, "{beat: 40ms, lease: 300ms, dead: 500ms, silence: 1s}", 1)
	operate(t, p.A, true, "policy", "install", p.sign(5, slower))
	p.Wait("the new times on both", func() bool {
		return time.Duration(p.A.Status().Timing.Dead) == 500*time.Millisecond && time.Duration(p.B.Status().Timing.Dead) == 500*time.Millisecond
	})
	p.waitRuns(5, p.A, p.B)
	p.Wait("traffic", p.Reachable)
	got := probed()
	t.Logf("another beat and lease, at once: %d probes, one a millisecond: %d lost, longest gap %v", got.sent, got.lost, got.gap)
	owners := pair.Owners(watched())
	if len(owners) > 3 || len(slices.Compact(owners)) != len(owners) {
		t.Errorf("the shared MAC went to and fro: %v", owners)
	}
	p.makeActive()
}
