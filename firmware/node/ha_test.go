package node

import (
	"net/netip"
	"testing"
	"time"
)

func TestSameHA(t *testing.T) {
	load := func() *Node {
		return &Node{Cluster: &Cluster{ID: 7, Member: 1, Name: "test", Timing: Timing{Beat: 10 * time.Millisecond}},
			Interfaces: []Interface{{Name: "G1", Zone: "lan"}}}
	}
	a, b := load(), load()
	b.Interfaces[0].Zone, b.Cluster.Name = "dmz", "other"
	if !SameHA(a, b) {
		t.Error("a zone or a name makes had start anew")
	}
	b.Interfaces[0].VIPs = []netip.Addr{netip.MustParseAddr("10.1.0.1")}
	if SameHA(a, b) || !SameHAButVIPs(a, b) {
		t.Error("VIPs are what had takes in while it runs")
	}
	b = load()
	b.Cluster.Members = []Member{{ID: 1, Priority: 9}}
	a.Cluster.Members = []Member{{ID: 1, Priority: 8}}
	if SameHA(a, b) || !SameHAButVIPs(a, b) || a.Cluster.Members[0].Priority != 8 {
		t.Error("priorities are what had takes in while it runs")
	}
	b.Cluster.Timing.Beat += time.Millisecond
	if SameHA(a, b) || SameHAButVIPs(a, b) {
		t.Error("other times do not reach had")
	}
}

func TestMixable(t *testing.T) {
	base := func() *Cluster {
		return &Cluster{ID: 7, Member: 1, Members: []Member{{ID: 1}, {ID: 2}}, Timing: Timing{Beat: 10, Lease: 40, Dead: 60, Silence: 500}}
	}
	for name, c := range map[string]struct {
		change func(a, b *Cluster)
		want   bool
	}{
		"nothing":                  {func(a, b *Cluster) {}, true},
		"mode, lock":               {func(a, b *Cluster) { b.Mode, b.Lock = ModePrimaryUp, true }, true},
		"a priority":               {func(a, b *Cluster) { b.Members[0].Priority = 9 }, true},
		"dead, silence":            {func(a, b *Cluster) { b.Timing.Dead, b.Timing.Silence = 120, 900 }, true},
		"lease":                    {func(a, b *Cluster) { b.Timing.Lease = 45 }, false},
		"beat":                     {func(a, b *Cluster) { b.Timing.Beat = 15 }, false},
		"a member":                 {func(a, b *Cluster) { b.Members = append(b.Members, Member{ID: 3}) }, false},
		"a witness":                {func(a, b *Cluster) { b.Witnesses = []Witness{{ID: 9}} }, false},
		"safety":                   {func(a, b *Cluster) { b.Safety = true }, false},
		"dead, with votes":         {func(a, b *Cluster) { a.Safety, b.Safety, b.Timing.Dead = true, true, 120 }, false},
		"dead, with three members": {func(a, b *Cluster) { a.Members, b.Members, b.Timing.Dead = make([]Member, 3), make([]Member, 3), 120 }, false},
	} {
		a, b := base(), base()
		c.change(a, b)
		if Mixable(a, b) != c.want || Mixable(b, a) != c.want {
			t.Errorf("%s: want %v", name, c.want)
		}
	}
}
