package member

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// idle is a member with one NIC whose machine does not run: what the driver does can be seen step by step.
func idle(t *testing.T) *Member {
	t.Helper()
	gw, far := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(gw, "lan", far, "eth0")
	cfg := Config{
		ClusterID: 7, Self: 1, Members: []cluster.Member{{ID: 1, Name: "gw-a"}, {ID: 2, Name: "gw-b"}}, Key: make([]byte, wire.KeyLen),
		Witnesses:  []Witness{{ID: 9, Name: "gw-w", Address: netip.MustParseAddr("203.0.113.9")}},
		Timing:     cluster.Timing{Beat: 10 * time.Millisecond, Lease: 200 * time.Millisecond, Dead: 300 * time.Millisecond, Silence: time.Second},
		Interfaces: []Interface{{Name: "lan", Device: "lan", Number: 1, NN: 3, Heartbeat: true, Address: netip.MustParsePrefix("10.1.0.2/24")}},
		StateDir:   t.TempDir(), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	}
	var m *Member
	gw.Try(func() (err error) { m, err = New(cfg); return err })
	t.Cleanup(m.close)
	return m
}

// TestSendDuties are duties 3 and 5 of ha/cluster: a heartbeat that opens or keeps the gate leaves in time or not at all,
// one that shuts it leaves in any case, and is told when late.
func TestSendDuties(t *testing.T) {
	const lan, path = 0, 1
	past := func(m *Member) cluster.Instant { return m.now() - 1 }
	late := func(m *Member) cluster.Instant { return m.now().Add(-2 * cluster.ShutMargin) }
	never := func(*Member) cluster.Instant { return cluster.Never }
	tests := map[string]struct {
		iface       int
		order       wire.Order
		by, decided func(*Member) cluster.Instant
		leaves      bool
		want        string
	}{
		"open in time":                 {lan, wire.Open, never, (*Member).now, true, ""},
		"open after the majority":      {lan, wire.Open, past, (*Member).now, false, "GateLost"},
		"open later than the lease":    {lan, wire.Open, never, func(m *Member) cluster.Instant { return m.now().Add(-time.Second) }, false, "GateLost"},
		"keep after the majority":      {lan, wire.Keep, past, (*Member).now, false, "GateLost"},
		"shut in time":                 {lan, wire.Shut, past, (*Member).now, true, ""},
		"shut late":                    {lan, wire.Shut, never, late, true, "ShutLate"},
		"drain late":                   {lan, wire.Drain, never, late, true, "ShutLate"},
		"no order, late":               {lan, wire.NoOrder, past, late, true, ""},
		"over routers, whatever order": {path, wire.Shut, past, late, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := idle(t)
			time.Sleep(time.Millisecond)
			m.lastLive = m.now()
			before := m.lastLive
			m.send(tt.decided(m), cluster.Send{Interface: tt.iface, By: tt.by(m), Beat: wire.Beat{Version: 1, Cluster: 7, Member: 1, State: wire.Active, Nonce: 1, Seq: 1, Order: tt.order}})
			got := ""
			for _, in := range m.queue {
				switch in.(type) {
				case cluster.GateLost:
					got += "GateLost"
				case cluster.ShutLate:
					got += "ShutLate"
				}
			}
			if left := m.ports[0].sent == 1; got != tt.want || left != tt.leaves {
				t.Errorf("leaves %v, input %q; want %v, %q", left, got, tt.leaves, tt.want)
			}
			if live := m.lastLive != before; live != (tt.leaves && tt.order == wire.Open) {
				t.Errorf("counts as live: %v", live)
			}
		})
	}
}
