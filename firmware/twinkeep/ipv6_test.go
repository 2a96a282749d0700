package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestIPv6VIP: the active member alone answers for an IPv6 virtual address, with the shared MAC, before and after a
// takeover, and neighbours hear of it.
func TestIPv6VIP(t *testing.T) {
	const vip = "2001:db8:1::1"
	p := pair.NewPair(t, binary)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(strings.Replace(pair.NodeFile(i+1), "vips: ["+pair.LANVIP+"]",
			`vips: [`+pair.LANVIP+`, "`+vip+`"], address6: "2001:db8:1::`+string(rune('a'+i))+`/64"`, 1))
	}
	p.ClientNS.IP("addr add 2001:db8:1::10/64 dev eth0 nodad")
	p.StartBoth()
	ping := func() bool {
		return exec.Command("ip", "netns", "exec", p.ClientNS.Name, "ping", "-c1", "-W1", vip).Run() == nil
	}
	p.Wait("an answer from the IPv6 VIP", ping)
	neighbour := func() string { return p.ClientNS.IP("-6 neigh show " + vip) }
	if n := neighbour(); !strings.Contains(n, pair.SharedLAN.String()) || !strings.Contains(n, "router") {
		t.Errorf("the client knows the VIP as: %s", n)
	}

	heard := make(chan bool, 1)
	conn := p.ClientNS.Raw("eth0")
	defer conn.Close()
	go func() { // an unsolicited advertisement to all nodes, from the shared MAC
		buf := make([]byte, 2048)
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				heard <- false
				return
			}
			if n > 54 && string(buf[6:12]) == string(pair.SharedLAN) && buf[12] == 0x86 && buf[13] == 0xdd && buf[38] == 0xff && buf[54] == 136 {
				heard <- true
				return
			}
		}
	}()
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	if !<-heard {
		t.Error("no unsolicited neighbour advertisement after the takeover")
	}
	p.Wait("an answer from the IPv6 VIP after the takeover", ping)
	if n := neighbour(); !strings.Contains(n, pair.SharedLAN.String()) {
		t.Errorf("the client knows the VIP as: %s", n)
	}
}
