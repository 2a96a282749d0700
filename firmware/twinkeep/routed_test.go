package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

func routed(t *testing.T) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	p.AddRoutedWitness()
	p.StartAll()
	return p
}

// TestRoutedWitness: a witness behind a router gives the survivor its majority, and the heartbeats to it are ordinary
// packets.
func TestRoutedWitness(t *testing.T) {
	p := routed(t)
	far := p.W.NS.Raw("eth0")
	far.SetReadDeadline(time.Now().Add(2 * time.Second))
	buf := make([]byte, 2048)
	for {
		n, _, err := far.ReadFrom(buf)
		if err != nil {
			t.Fatalf("no heartbeat at the witness: %v", err)
		}
		if n > wire.OffsetPayload && buf[23] == 17 && buf[36] == 999>>8 && buf[37] == 999&255 {
			order := buf[wire.OffsetPayload+wire.OffsetOrder]
			if ttl := buf[22]; ttl == wire.TTL || order != byte(wire.NoOrder) {
				t.Errorf("TTL %d, order %d", ttl, order)
			}
			if ip, _ := wire.ChecksumsValid(buf[:n]); !ip { // UDP's is left to the NIC, and a veth has nobody to make it
				t.Error("the IP checksum is wrong")
			}
			break
		}
	}
	far.Close()
	if s := p.W.Status(); s.State != "WITNESS" || len(s.Paths) != 1 || !strings.Contains(s.Paths[0].Remote, "1 at 192.0.2.2:999, 2 at 192.0.2.3:999") {
		t.Errorf("witness: %+v", s.Paths)
	}
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	p.Cut([]string{"a"}, []string{"b"}) // both hear the witness
	time.Sleep(time.Second)
	p.WaitStates("ACTIVE", "STANDBY")
	p.Heal()
	p.Wait("both to hear each other", func() bool { return p.B.Status().Peers[0].Alive })
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	onlyOwners(t, stop(), "a", "b")
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	votes(t, p, p.B, 3)
	// The farewell of a dead had reaches the witness too.
	syscall.Kill(p.B.Had(), syscall.SIGKILL)
	p.WaitStates("ACTIVE", "STANDBY")
	p.Wait("the farewell at the witness", func() bool { return strings.Contains(p.W.Log(), "gw-b (2) said farewell") })
	votes(t, p, p.A, 3)
}

// TestRoutedHeartbeatsDoNotHoldTheGate: when no heartbeat leaves by a NIC with a gate, the routed ones do not keep it open.
func TestRoutedHeartbeatsDoNotHoldTheGate(t *testing.T) {
	p := routed(t)
	// Everything to the group addresses is dropped behind the gate's hook; the way to the witness stays.
	p.A.NS.Run("nft", "add table netdev deaf;"+
		" add chain netdev deaf lan { type filter hook egress device lan priority -600; }; add rule netdev deaf lan ether daddr & ff:00:00:00:00:00 == 11:00:00:00:00:00 drop;"+
		" add chain netdev deaf wan { type filter hook egress device wan priority -600; }; add rule netdev deaf wan ether daddr & ff:00:00:00:00:00 == 11:00:00:00:00:00 drop;"+
		" add chain netdev deaf sync { type filter hook egress device sync priority -600; }; add rule netdev deaf sync ether daddr & ff:00:00:00:00:00 == 11:00:00:00:00:00 drop")
	p.Wait("the gate of a to shut", func() bool { return !p.A.Status().Gate.Open })
	p.WaitStates("STANDBY", "ACTIVE") // and the witness does not give the role to a member that nobody hears
	p.A.NS.Run("nft", "delete", "table", "netdev", "deaf")
	p.WaitStates("STANDBY", "ACTIVE")
}

// TestRoutedFlood: a stranger floods the witness's port, and replays what it has heard from elsewhere. Neither the votes nor
// the way to the members are lost for good, and nothing but a few answers goes to the stranger.
func TestRoutedFlood(t *testing.T) {
	p := routed(t)
	far := p.W.NS.Raw("eth0")
	var recorded []byte
	buf := make([]byte, 2048)
	far.SetReadDeadline(time.Now().Add(2 * time.Second))
	for recorded == nil {
		n, _, err := far.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > wire.OffsetPayload && buf[23] == 17 && buf[36] == 999>>8 && buf[37] == 999&255 {
			recorded = append(recorded, buf[wire.OffsetPayload:n]...)
		}
	}
	far.Close()
	p.ServerNS.IP("addr add 203.0.113.66/24 dev far")
	var conn *net.UDPConn
	p.ServerNS.Try(func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP("203.0.113.66")}, &net.UDPAddr{IP: net.ParseIP(pair.WitnessAddress), Port: wire.Port})
		return err
	})
	defer conn.Close()
	sent, answers := 0, 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		conn.Write(recorded)
		sent++
	}
	conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	for {
		if _, err := conn.Read(buf); err != nil {
			break
		}
		answers++
	}
	t.Logf("%d recordings sent, %d heartbeats came back", sent, answers)
	if answers > sent {
		t.Errorf("%d heartbeats for %d recordings", answers, sent)
	}
	if s := p.W.Status(); !strings.Contains(s.Paths[0].Remote, "1 at 192.0.2.2:999, 2 at 192.0.2.3:999") {
		t.Errorf("a recording has moved a member: %s", s.Paths[0].Remote)
	}
	junk := make([]byte, 120)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for range 100 {
			conn.Write(junk)
		}
	}
	if s := p.A.Status(); s.State != "ACTIVE" || s.Quorum.Support < s.Quorum.Majority {
		t.Errorf("under the flood: %s, %+v", s.State, s.Quorum)
	}
	votes(t, p, p.A, 3)
	if s := p.W.Status(); s.Rejected["bad_tag"] > 20000 {
		t.Errorf("the witness looked at %d datagrams of the flood", s.Rejected["bad_tag"])
	}
}
