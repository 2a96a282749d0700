package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestVIPAddedOnOneMemberFirst: no second owner of any address (keepalived's users get one), and the difference has a name
// until the other member has the address too.
func TestVIPAddedOnOneMemberFirst(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	const extra = "10.1.0.77"
	add := func(id int) string {
		return strings.Replace(pair.NodeFile(id), "vips: ["+pair.LANVIP, "vips: ["+pair.LANVIP+", "+extra, 1)
	}
	reload := func(m *pair.Member) {
		for _, socket := range []string{"gatewayd.sock", "had.sock"} {
			if err := m.Request("POST", socket, "/v1/reload", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.B.WriteNode(add(2)) // the standby first, as one does
	reload(p.B)
	p.Wait("the difference to be named by both", func() bool {
		const said = "the shared addresses are not the same"
		return strings.Contains(p.A.Log(), said) && strings.Contains(p.B.Log(), said)
	})
	p.WaitStates("ACTIVE", "STANDBY")
	p.A.WriteNode(add(1))
	reload(p.A) // it hands over, and is back on standby
	p.WaitStates("STANDBY", "ACTIVE")
	p.Wait("the end of the difference to be named", func() bool { return strings.Contains(p.B.Log(), "agree again") })
	p.Wait("the new address", func() bool { return len(whoHas(t, p, []string{extra})) == 1 })
	onlyOwners(t, stop(), "a", "b")
}

// TestManyVIPs: 254 shared addresses on one NIC; none is left behind at a takeover, and the burst of announcements costs no
// heartbeats.
func TestManyVIPs(t *testing.T) {
	p := pair.NewPair(t, binary)
	var vips []string
	for i := range 253 {
		vips = append(vips, fmt.Sprintf("10.1.1.%d", i+1))
	}
	for i, m := range []*pair.Member{p.A, p.B} {
		text := strings.ReplaceAll(pair.NodeFile(i+1), "/24, vips: ["+pair.LANVIP, "/23, vips: ["+pair.LANVIP+", "+strings.Join(vips, ", "))
		m.WriteNode(text)
	}
	p.StartBoth()
	want := append([]string{pair.LANVIP}, vips...)
	stop := p.Watch()
	time.Sleep(200 * time.Millisecond)
	for _, m := range []*pair.Member{p.A, p.B} {
		m.Kill()
		p.Wait("the other to take over", func() bool { return p.A.Status().State == "ACTIVE" || p.B.Status().State == "ACTIVE" })
		got := map[string]bool{}
		p.Wait("all addresses", func() bool {
			for vip := range whoHas(t, p, slices.DeleteFunc(slices.Clone(want), func(s string) bool { return got[s] })) {
				got[vip] = true
			}
			return len(got) == len(want)
		})
		m.Start()
		p.Wait("both in touch", func() bool {
			a, b := p.A.Status(), p.B.Status()
			return len(a.Peers) == 1 && len(b.Peers) == 1 && a.Peers[0].Alive && b.Peers[0].Alive && min(a.State, b.State) == "ACTIVE" && max(a.State, b.State) == "STANDBY"
		})
		p.WaitSync(m)
	}
	onlyOwners(t, stop(), "a", "b", "a")
}

// whoHas asks for addresses from the client by ARP, and is told by which of them the shared MAC answers.
func whoHas(t *testing.T, p *pair.Pair, addrs []string) map[string]bool {
	t.Helper()
	conn := p.ClientNS.Raw("eth0")
	defer conn.Close()
	mac := p.ClientNS.MAC("eth0")
	got := map[string]bool{}
	for _, a := range addrs {
		if _, err := conn.WriteTo(pair.ARPRequest(mac, net.ParseIP(pair.Client).To4(), net.ParseIP(a).To4()), netnslab.To(net.HardwareAddr{255, 255, 255, 255, 255, 255})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Microsecond)
	}
	buf := make([]byte, 2048)
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for len(got) < len(addrs) {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			break
		}
		if n >= 42 && buf[12] == 8 && buf[13] == 6 && buf[21] == 2 && string(buf[22:28]) == string(pair.SharedLAN) {
			if a := net.IP(buf[28:32]).String(); slices.Contains(addrs, a) {
				got[a] = true
			}
		}
	}
	return got
}
