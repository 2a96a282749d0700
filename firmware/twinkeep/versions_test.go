package main

import (
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// newer stands between member b and the switch, and makes of its heartbeats those of a later version: version 2, with
// fields in the extension area that nobody knows here, before, between and behind the known ones.
type newer struct {
	key       *wire.Key
	mu        sync.Mutex
	rewritten int
	bad       error
}

func (n *newer) rewrite(frame []byte) []byte {
	env, payload, err := wire.ParseFrame(frame)
	if err != nil {
		return frame
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	body, err := n.key.Open(payload)
	if err != nil {
		return frame
	}
	b, err := wire.ParseBeat(body)
	if err != nil {
		n.bad = err
		return frame
	}
	b.Version = 2
	ext := append([]byte{200, 40}, make([]byte, 40)...)
	ext = append(ext, b.Extension...)
	b.Extension = append(ext, 201, 3, 1, 2, 3, 202) // the last one is cut short
	n.rewritten++
	return wire.AppendFrame(nil, env, n.key.Seal(b.Append(nil)))
}

// relay takes a switch port out of its bridge and passes all its frames on through another one. The result ends it.
func (n *newer) relay(p *pair.Pair, port, bridge string) (stop func()) {
	inside, outside := "r0"+bridge, "r1"+bridge
	p.Switch.IP("link add " + inside + " type veth peer name " + outside)
	p.Switch.IP("link set " + outside + " master " + bridge + " up")
	p.Switch.IP("link set " + inside + " up promisc on")
	p.Switch.IP("link set " + port + " nomaster promisc on")
	member, lan := p.Switch.Raw(port), p.Switch.Raw(inside)
	var wg sync.WaitGroup
	pass := func(from, to *packet.Conn, change func([]byte) []byte) {
		buf := make([]byte, 4096)
		for {
			k, _, err := from.ReadFrom(buf)
			if err != nil {
				return
			}
			if k >= 14 {
				to.WriteTo(change(buf[:k]), netnslab.To(buf[:6])) // a full queue loses a frame, as a switch does
			}
		}
	}
	wg.Go(func() { pass(member, lan, n.rewrite) })
	wg.Go(func() { pass(lan, member, func(b []byte) []byte { return b }) })
	return func() {
		member.Close()
		lan.Close()
		wg.Wait()
	}
}

// TestMixedVersions: a member of this version and one of a later version keep one role, hand it over and take it over.
func TestMixedVersions(t *testing.T) {
	p := pair.NewPair(t, binary)
	key, err := wire.NewKey([]byte("test key of the namespace lab 12"))
	if err != nil {
		t.Fatal(err)
	}
	n := &newer{key: key}
	for _, nic := range []string{"lan", "wan", "sync"} {
		defer n.relay(p, pair.Port("b", nic), nic)()
		for _, m := range []*pair.Member{p.A, p.B} {
			m.NS.Run("ethtool", "-K", nic, "tx", "off") // frames that pass through a program need their checksums
		}
	}
	p.StartBoth()
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	operate(t, p.A, true, "ha", "-deactivate")
	p.WaitStates("STANDBY", "ACTIVE")
	operate(t, p.A, true, "ha", "-activate")
	p.WaitStates("ACTIVE", "STANDBY")
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	p.B.Stop()
	p.WaitStates("ACTIVE", "")
	var owners []string
	for _, port := range pair.Owners(stop()) {
		if port == pair.Port("a", "lan") || port == pair.Port("b", "lan") {
			owners = append(owners, port)
		}
	}
	t.Logf("%d heartbeats of version 2; the shared MAC was served by %v", n.rewritten, owners)
	if n.rewritten == 0 || n.bad != nil {
		t.Errorf("%d heartbeats rewritten, %v", n.rewritten, n.bad)
	}
	if want := []string{"a-lan", "b-lan", "a-lan", "b-lan", "a-lan"}; len(owners) != len(want) {
		t.Errorf("owners %v, want %v", owners, want)
	}
	s := p.A.Status()
	for _, reason := range []wire.Reason{wire.Malformed, wire.BadTag, wire.Truncated, wire.Oversized} {
		if s.Rejected[string(reason)] > 0 {
			t.Errorf("%d heartbeats refused: %s", s.Rejected[string(reason)], reason)
		}
	}
}
