package port

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// TestSolicit asks real kernels: who is there answers, who is not does not, and what we did not ask for is no answer.
func TestSolicit(t *testing.T) {
	a, b := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(a, "v0", b, "v1")
	a.IP("addr add 10.9.0.1/24 dev v0")
	b.IP("addr add 10.9.0.2/24 dev v1")
	b.IP("-6 addr add 2001:db8::2/64 dev v1 nodad")
	a.IP("-6 addr add fe80::1/64 dev v0 nodad")
	here := []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("2001:db8::2")}
	absent := []netip.Addr{netip.MustParseAddr("10.9.0.9"), netip.MustParseAddr("2001:db8::9")}
	ask := func() (got []netip.Addr) {
		a.Try(func() error {
			return Solicit("v0", netip.MustParseAddr("10.9.0.1"), append(slices.Clone(here), absent...), 400*time.Millisecond, func(h netip.Addr) { got = append(got, h) })
		})
		slices.SortFunc(got, netip.Addr.Compare)
		return got
	}
	if got := ask(); !slices.Equal(got, here) {
		t.Errorf("answers of %v, want %v", got, here)
	}
	// The kernel knows them now, and its neighbour table tells us of them.
	exec.Command("ip", "netns", "exec", a.Name, "ping", "-c1", "-W1", "10.9.0.2").Run()
	a.IP("route add 10.10.0.0/16 via 10.9.0.254")
	var known []netip.Addr
	a.Try(func() (err error) { known, err = Neighbours("v0", 4); return err })
	if len(known) < 2 || known[0] != netip.MustParseAddr("10.9.0.254") || !slices.Contains(known, here[0]) {
		t.Errorf("neighbours %v, want the gateway 10.9.0.254 first, then %v", known, here[0])
	}
	// The other direction is cut: nobody answers, and that is no error.
	b.Run("nft", "add table netdev cut; add chain netdev cut in { type filter hook ingress device v1 priority 0; policy drop; }")
	if got := ask(); len(got) != 0 {
		t.Errorf("answers of %v through a cut", got)
	}
	a.Do(func() {
		if err := Solicit("gone", here[0], here, time.Second, nil); err == nil {
			t.Error("no error for a NIC that is not there")
		}
	})
}

// FuzzAnswers: whatever arrives, only a host that was asked has answered.
func FuzzAnswers(f *testing.F) {
	mac := []byte{2, 0, 0, 0, 0, 1}
	asked := []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fe80::2")}
	reply, err := arpRequest(mac, asked[0])(netip.MustParseAddr("10.9.0.1"))
	if err != nil {
		f.Fatal(err)
	}
	copy(reply, mac)
	reply[21] = 2
	if a, ok := arpAnswer(mac, asked)(reply); !ok || a != asked[0] {
		f.Fatalf("a good reply: %v %v", a, ok)
	}
	announced := slices.Clone(reply)
	copy(announced, ethernet.Broadcast)
	if _, ok := arpAnswer(mac, asked)(announced); ok {
		f.Fatal("a broadcast counts as an answer to us")
	}
	f.Add(reply)
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, parse := range []func([]byte) (netip.Addr, bool){arpAnswer(mac, asked), advertised(asked)} {
			if a, ok := parse(frame); ok && !slices.Contains(asked, a) {
				t.Errorf("%v was not asked", a)
			}
		}
	})
}
