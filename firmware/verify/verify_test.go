package verify

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

var vip = netip.MustParseAddr("10.1.0.1")

// good is a pair in which all is well: gw-b has taken over from gw-a.
func good() Case {
	rate := func(n float64) []api.InterfaceVolume {
		return []api.InterfaceVolume{{Interface: "lan", Cluster: api.Rate{Packets: n, Bytes: 100 * n}}}
	}
	one := func(id uint8, name, other string, serves bool) Member {
		s := member.Status{
			Member: id, MemberName: name, State: "STANDBY", Term: 4, Holder: 2,
			VIPs:       []member.VIPStatus{{Interface: "lan", Address: vip.String(), MAC: "10:00:00:00:0c:07", Device: "lan-vip"}},
			Interfaces: []member.InterfaceStatus{{Name: "lan", Present: true, Carrier: true}, {Name: "sync", Present: true, Carrier: true, Sync: true}},
			Peers:      []member.PeerStatus{{Member: 3 - id, Name: other, Alive: true, State: "STANDBY", LastHeard: member.Duration(time.Millisecond)}},
		}
		frames := api.FrameCount{Interface: "lan", VIPs: []netip.Addr{vip}, Neighbour: 3}
		why := "gw-b holds the role"
		t := api.TrafficComparison{Member: name, Result: api.VerifySkipped, Text: "this member has not the role"}
		if serves {
			s.State, s.Gate.Open, why = "ACTIVE", true, ""
			s.Failover = member.FailoverStatus{Last: "gw-b became active", Reason: "gw-a is gone", Since: member.Duration(time.Minute)}
			frames.In, frames.Out = 1000, 1000
			t = api.TrafficComparison{Member: name, Holds: true, Basis: "gw-a, before it lost the role, as it says now", Before: &api.Volume{Interfaces: rate(100)}, Result: api.VerifyOK, Text: "95 %"}
		}
		prefix := netip.PrefixFrom(vip, 32)
		return Member{ID: id, Name: name, MemberEvidence: api.MemberEvidence{
			Status: s, Term: 4, Frames: []api.FrameCount{frames}, NAT: api.NATStatus{Entries: 2}, Traffic: t,
			Routes: api.RouteTable{Member: name, Master: "test-master", Holder: "gw-b", Routes: []api.Route{
				{Kind: api.RouteVIP, Destination: prefix, Owner: "test-master", Available: serves, Why: why},
				{Kind: api.RouteManagement, Destination: netip.MustParsePrefix("10.1.0.2/32"), Owner: name, Available: true},
				{Kind: api.RouteManagement, Destination: netip.MustParsePrefix("10.1.0.3/32"), Owner: other, Why: other + " has that address"},
			}},
		}}
	}
	return Case{Cluster: "test", Self: "gw-a", Watched: 5 * time.Second, Spells: 1, Members: []Member{one(1, "gw-a", "gw-b", false), one(2, "gw-b", "gw-a", true)}}
}

func TestGood(t *testing.T) {
	c := good()
	v := Judge(c)
	if v.Result != api.VerifyOK || v.Master != "gw-b" || v.Term != 4 || len(v.Steps) != 6 {
		t.Fatalf("%+v", v)
	}
	for _, s := range v.Steps {
		if s.Result != api.VerifyOK || len(s.Evidence) == 0 || len(s.Next) > 0 {
			t.Errorf("%+v", s)
		}
	}
	text := strings.Join(v.Steps[2].Evidence, "\n")
	if !strings.Contains(text, "gw-b: 1 of 1 routes of test-master are available") || !strings.Contains(text, "gw-a: 0 of 1") ||
		!strings.Contains(text, "false, as it must be: 10.1.0.3 (gw-b)") {
		t.Errorf("routes:\n%s", text)
	}
}

// TestBad: each thing that is wrong makes its step fail, or unknown, says why and what to do; and the whole is not ok.
func TestBad(t *testing.T) {
	a, b := func(c *Case) *Member { return &c.Members[0] }, func(c *Case) *Member { return &c.Members[1] }
	for what, c := range map[string]struct {
		spoil  func(*Case)
		step   int // from 0
		result api.VerifyResult
		text   string
	}{
		"two masters":               {func(c *Case) { a(c).Status.State, a(c).Status.Gate.Open = "ACTIVE", true }, 0, api.VerifyFailed, "more than one member is master: gw-a, gw-b"},
		"two by their gates":        {func(c *Case) { a(c).Status.Gate.Open = true }, 0, api.VerifyFailed, "more than one"},
		"no master":                 {func(c *Case) { b(c).Status.State, b(c).Status.Gate.Open = "DOWN", false }, 0, api.VerifyFailed, "no member is master"},
		"active behind a shut gate": {func(c *Case) { b(c).Status.Gate.Open = false }, 0, api.VerifyFailed, "its gate is shut"},
		"not known to the other":    {func(c *Case) { a(c).Status.Holder = 0 }, 0, api.VerifyFailed, "gw-a does not know that gw-b is master"},
		"the role changes":          {func(c *Case) { a(c).Term = 3 }, 0, api.VerifyUnknown, "term 3 became 4 at gw-a"},
		"had is dead":               {func(c *Case) { a(c).Errors = map[string]string{"status": "had does not answer"} }, 0, api.VerifyUnknown, "had does not answer"},
		"the standby is silent":     {func(c *Case) { *a(c) = Member{ID: 1, Name: "gw-a", Silent: "unreachable"} }, 0, api.VerifyUnknown, "its heartbeats say STANDBY"},
		"and dead": {func(c *Case) {
			*a(c) = Member{ID: 1, Name: "gw-a", Silent: "unreachable"}
			b(c).Status.Peers[0].Alive = false
		}, 4, api.VerifyUnknown, "gw-a cannot be asked"},
		"the master is silent": {func(c *Case) { *b(c) = Member{ID: 2, Name: "gw-b", Silent: "unreachable"} }, 0, api.VerifyUnknown, "no member that could be asked is master"},
		"no carrier":           {func(c *Case) { b(c).Status.Interfaces[0].Carrier = false }, 1, api.VerifyFailed, "lan has no carrier"},
		"no NIC":               {func(c *Case) { b(c).Status.Interfaces[0].Present = false }, 1, api.VerifyFailed, "there is no NIC for lan"},
		"a duplicate address":  {func(c *Case) { b(c).Status.Interfaces[0].Problem = "10.1.0.1 is used by 02:…" }, 1, api.VerifyFailed, "is used by"},
		"another shared MAC":   {func(c *Case) { a(c).Status.VIPs[0].MAC = "10:00:00:00:10:07" }, 1, api.VerifyFailed, "would answer for 10.1.0.1 with 10:00:00:00:10:07"},
		"a VIP less":           {func(c *Case) { a(c).Status.VIPs = nil }, 1, api.VerifyFailed, "gw-a has not got 10.1.0.1"},
		"a missing route": {func(c *Case) {
			r := &b(c).Routes.Routes[0]
			r.Available, r.Fault, r.Why = false, true, "it is not in the kernel"
		}, 2, api.VerifyFailed, "vip 10.1.0.1/32 is not available: it is not in the kernel"},
		"missing at the standby":   {func(c *Case) { r := &a(c).Routes.Routes[0]; r.Fault, r.Why = true, "it is not in the kernel" }, 2, api.VerifyFailed, "gw-a: vip 10.1.0.1/32 would not be available"},
		"available at the standby": {func(c *Case) { a(c).Routes.Routes[0].Available = true }, 2, api.VerifyFailed, "is available although gw-b is master"},
		"not taken by the master": {func(c *Case) {
			r := &b(c).Routes.Routes[0]
			r.Available, r.Why = false, "the gate of this member is shut"
		}, 2, api.VerifyFailed, "the gate of this member is shut"},
		"the other's management true": {func(c *Case) { a(c).Routes.Routes[2].Available = true }, 2, api.VerifyFailed, "10.1.0.3/32 of gw-b is available"},
		"routes unknown":              {func(c *Case) { b(c).Routes.Problem = "had does not answer" }, 2, api.VerifyUnknown, "had does not answer"},
		"NAT missing":                 {func(c *Case) { a(c).NAT.Missing = []string{"set snat-12"} }, 3, api.VerifyFailed, "gw-a: the kernel has not got set snat-12"},
		"NAT unknown":                 {func(c *Case) { a(c).Errors = map[string]string{"nat": "netlink"} }, 3, api.VerifyUnknown, "gw-a does not know: netlink"},
		"frames for the standby":      {func(c *Case) { a(c).Frames[0].In = 200 }, 4, api.VerifyFailed, "gw-a lan gets 200 frames for the VIPs, and drops them"},
		"frames of the standby":       {func(c *Case) { a(c).Frames[0].Out = 1 }, 4, api.VerifyFailed, "gw-a lan sends for the VIPs"},
		"an idle master":              {func(c *Case) { b(c).Frames[0].In, b(c).Frames[0].Out = 0, 0; b(c).Traffic.Before = nil }, 4, api.VerifyUnknown, "nothing for the VIPs went through gw-b"},
		"a master gone silent":        {func(c *Case) { b(c).Frames[0].In, b(c).Frames[0].Out = 0, 0 }, 4, api.VerifyFailed, "before the failover there were 100 packets/s"},
		"not to be watched":           {func(c *Case) { b(c).Frames[0].Error = "no such device" }, 4, api.VerifyUnknown, "could not be watched"},
		"less volume":                 {func(c *Case) { t := &b(c).Traffic; t.Result, t.Text, t.Next = api.VerifyFailed, "20 %", "look" }, 5, api.VerifyFailed, "20 %"},
		"volume unknown":              {func(c *Case) { t := &b(c).Traffic; t.Result, t.Text, t.Next = api.VerifyUnknown, "too soon", "wait" }, 5, api.VerifyUnknown, "too soon"},
	} {
		k := good()
		c.spoil(&k)
		v := Judge(k)
		s := v.Steps[c.step]
		if s.Result != c.result || !strings.Contains(strings.Join(s.Evidence, "\n"), c.text) || len(s.Next) == 0 {
			t.Errorf("%s: %s, want %s with %q: %+v", what, s.Result, c.result, c.text, s)
		}
		if v.Result == api.VerifyOK || c.result == api.VerifyFailed && v.Result != api.VerifyFailed {
			t.Errorf("%s: the whole is %s", what, v.Result)
		}
	}
}

// TestTolerated: what does not make a step fail.
func TestTolerated(t *testing.T) {
	for what, spoil := range map[string]func(*Case){
		"a stray frame or two": func(c *Case) { c.Members[0].Frames[0].In = 2 },
		"one of a hundred":     func(c *Case) { c.Members[1].Frames[0].In, c.Members[0].Frames[0].In = 100000, 900 },
		"ARP at the standby":   func(c *Case) { c.Members[0].Frames[0].Neighbour = 500 },
		"a route that we made not": func(c *Case) {
			c.Members[1].Routes.Routes = append(c.Members[1].Routes.Routes, api.Route{Kind: api.RouteOther, Owner: "gw-b", Fault: true, Why: "blackhole"})
		},
		"nothing to compare with": func(c *Case) {
			c.Members[1].Traffic = api.TrafficComparison{Result: api.VerifySkipped, Text: "no failover"}
		},
		"no VIP": func(c *Case) { c.Members[0].Status.VIPs, c.Members[1].Status.VIPs = nil, nil },
	} {
		k := good()
		spoil(&k)
		if v := Judge(k); v.Result != api.VerifyOK {
			t.Errorf("%s: %+v", what, v)
		}
	}
}

// TestVotes: the votes for the master are evidence where it needs a majority; that a witness is silent is no failure of the failover.
func TestVotes(t *testing.T) {
	for want, q := range map[string]*member.QuorumStatus{
		"": nil,
		"3 of 3 votes for gw-b, 2 are a majority":                                                                     {Voters: 3, Majority: 2, Support: 3, Vote: 2},
		"2 of 3 votes for gw-b, 2 are a majority; missing: gw-w (9) silent":                                           {Voters: 3, Majority: 2, Support: 2, Vote: 2, Missing: "gw-w (9) silent"},
		"1 of 3 votes for gw-b, 2 are a majority; missing: gw-w (9) silent; an operator gave it the role without one": {Voters: 3, Majority: 2, Support: 1, Vote: 2, Missing: "gw-w (9) silent", Forced: true},
	} {
		c := good()
		c.Members[1].Status.Quorum = q
		v := Judge(c)
		if got := strings.Join(v.Steps[0].Evidence, "\n"); v.Result != api.VerifyOK || want != "" && !strings.Contains(got, want) || want == "" && strings.Contains(got, "votes") {
			t.Errorf("%s, want %q in:\n%s", v.Result, want, got)
		}
	}
}

// TestThree: a third member is judged as the second is, whether it has held the role before or not.
func TestThree(t *testing.T) {
	three := func() Case {
		c := good()
		third := good().Members[0]
		third.ID, third.Name, third.Status.Member, third.Status.MemberName, third.Routes.Member = 3, "gw-c", 3, "gw-c", "gw-c"
		third.Routes.Routes[1].Owner = "gw-c"
		c.Members = append(c.Members, third)
		return c
	}
	if v := Judge(three()); v.Result != api.VerifyOK || v.Master != "gw-b" {
		t.Errorf("%+v", v)
	}
	for what, c := range map[string]struct {
		spoil  func(m *Member)
		step   int
		result api.VerifyResult
		text   string
	}{
		"a second master":           {func(m *Member) { m.Status.State, m.Status.Gate.Open = "ACTIVE", true }, 0, api.VerifyFailed, "more than one member is master: gw-b, gw-c"},
		"one that holds to another": {func(m *Member) { m.Status.Holder = 1 }, 0, api.VerifyFailed, "gw-c does not know that gw-b is master"},
		"another shared MAC":        {func(m *Member) { m.Status.VIPs[0].MAC = "10:00:00:00:10:07" }, 1, api.VerifyFailed, "gw-c would answer"},
		"a route less":              {func(m *Member) { r := &m.Routes.Routes[0]; r.Fault, r.Why = true, "it is not in the kernel" }, 2, api.VerifyFailed, "gw-c: vip 10.1.0.1/32 would not be available"},
		"no NAT":                    {func(m *Member) { m.NAT.Missing = []string{"chain postrouting"} }, 3, api.VerifyFailed, "gw-c: the kernel has not got"},
		"frames":                    {func(m *Member) { m.Frames[0].In = 200 }, 4, api.VerifyFailed, "gw-c lan gets 200 frames"},
		"silent":                    {func(m *Member) { *m = Member{ID: 3, Name: "gw-c", Silent: "unreachable"} }, 0, api.VerifyUnknown, "gw-c cannot be asked"},
	} {
		k := three()
		c.spoil(&k.Members[2])
		v := Judge(k)
		if s := v.Steps[c.step]; v.Result != c.result || s.Result != c.result || !strings.Contains(strings.Join(s.Evidence, "\n"), c.text) {
			t.Errorf("%s: %s, %+v, want %s with %q", what, v.Result, s, c.result, c.text)
		}
	}
}

// TestAdd: several spells are one watch.
func TestAdd(t *testing.T) {
	spell := func(term, in uint64, fault string) api.MemberEvidence {
		return api.MemberEvidence{Term: term, Status: member.Status{Term: term}, Frames: []api.FrameCount{{Interface: "lan", In: in, Error: fault}}}
	}
	var m Member
	m.Add(spell(3, 5, "gone"))
	m.Add(spell(4, 0, ""))
	m.Add(spell(4, 6, ""))
	if f := m.Frames[0]; f.In != 11 || f.Error != "gone" || m.Quiet != 1 || m.Term != 3 || m.Status.Term != 4 {
		t.Errorf("%+v, quiet %d", m.MemberEvidence, m.Quiet)
	}
	c := good()
	c.Spells, c.Members[1].Quiet = 12, 2
	if !slices.Contains(Judge(c).Steps[4].Evidence, "gw-b: traffic in 10 of 12 spells") {
		t.Errorf("%+v", Judge(c).Steps[4])
	}
}
