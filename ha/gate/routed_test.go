package gate

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// TestRoutedHeartbeatsDoNotWorkTheGate: the same payload on its way to a witness behind a router passes the same hook. It
// neither opens, keeps nor shuts the gate, whatever order it carries.
func TestRoutedHeartbeatsDoNotWorkTheGate(t *testing.T) {
	b := newBench(t)
	routed := func(o wire.Order) {
		beat := wire.Beat{Version: 1, Cluster: 5, Member: 1, State: wire.Active, Interface: 32, Nonce: 1, Seq: 1, Order: o}
		router := wire.MAC{2, 0, 0, 0, 0, 7}
		e := wire.Envelope{Dst: router, Src: wire.MAC{2, 0, 0, 0, 0, 1}, SrcIP: netip.MustParseAddr("10.9.0.2"), DstIP: netip.MustParseAddr("203.0.113.9"), ValidChecksums: true}
		if _, err := b.conn.WriteTo(wire.AppendFrame(nil, e, append(beat.Append(nil), make([]byte, wire.TagLen)...)), &packet.Addr{HardwareAddr: router[:]}); err != nil {
			t.Fatalf("a routed heartbeat with order %d does not leave: %v", o, err)
		}
	}
	routed(wire.Open)
	if b.state().Open || b.answers() {
		t.Fatal("a routed heartbeat has opened the gate")
	}
	b.beat(wire.Open)
	routed(wire.Shut)
	routed(wire.Drain)
	if s := b.state(); !s.Open || s.Draining {
		t.Fatalf("a routed heartbeat has shut the gate: %+v", s)
	}
	b.beat(wire.Open)
	for end := time.Now().Add(testLease + 50*time.Millisecond); time.Now().Before(end); time.Sleep(testLease / 10) {
		routed(wire.Keep)
	}
	if b.state().Open {
		t.Fatal("routed heartbeats have kept the gate open")
	}
}
