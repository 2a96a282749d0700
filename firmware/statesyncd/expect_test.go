package statesyncd

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// ftp is a control connection through SNAT, and the data connection that the helper expects for a PORT command: from
// the server to the shared address, and on to the client.
func ftp() (control statesync.Flow, data statesync.Expect) {
	a := func(s string) statesync.Addr {
		v, _ := statesync.AddrOf(netip.MustParseAddr(s))
		return v
	}
	client, server, vip := a("10.1.0.10"), a("198.51.100.21"), a("192.0.2.1")
	control = statesync.Flow{
		Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasTCP | statesync.HasHelper, Timeout: 600, Helper: "ftp",
		Status: statesync.StatusSeenReply | statesync.StatusAssured | statesync.StatusConfirmed,
		Orig:   statesync.Tuple{Proto: statesync.TCP, Src: client, SrcPort: 40000, Dst: server, DstPort: 21},
		Reply:  statesync.Tuple{Proto: statesync.TCP, Src: server, SrcPort: 21, Dst: vip, DstPort: 51000},
	}
	control.TCP.State = 3
	data = statesync.Expect{
		Family: statesync.Inet, Master: control.Orig, Timeout: 300, Helper: "ftp", Fn: "nat-follow-master",
		Tuple: statesync.Tuple{Proto: statesync.TCP, Src: server, Dst: vip, DstPort: 52000},
		Mask:  statesync.Tuple{Proto: statesync.TCP, Src: a("255.255.255.255"), Dst: a("255.255.255.255"), DstPort: 0xffff},
		NAT:   true, NATDir: 1,
		NATTuple: statesync.Tuple{Proto: statesync.TCP, Src: client, SrcPort: 0, DstPort: 40001},
	}
	return control, data
}

// TestExpectations: what a helper expects is expected at the standby too, and no longer when it ends.
func TestExpectations(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	control, data := ftp()
	early := data
	early.Tuple.DstPort = 52999
	a.play(create(control), statesync.KernelOp{Kind: statesync.KernelExpect, Expect: &early})
	l.holder(1, 1)
	a.start()
	b.start()
	l.waitSync()
	shows := func(port string) bool {
		out := b.ns.Run("conntrack", "-L", "expect")
		for _, line := range strings.Split(out, "\n") {
			if strings.Contains(line, "dport="+port) && strings.Contains(line, "src=198.51.100.21") && strings.Contains(line, "helper=ftp") {
				return true
			}
		}
		return false
	}
	l.wait("the expectation of before", func() bool { return shows("52999") })
	a.play(statesync.KernelOp{Kind: statesync.KernelExpect, Expect: &data})
	// The kernel keeps one expectation of a control connection of FTP.
	l.wait("the new expectation in place of the old one", func() bool { return shows("52000") && !shows("52999") })
	if s := a.sync(); s.Expectations != 1 {
		t.Errorf("%d expectations", s.Expectations)
	}
	a.play(statesync.KernelOp{Kind: statesync.KernelExpectDelete, Expect: &data})
	l.wait("the expectation to end", func() bool { return !shows("52000") })
	a.play(statesync.KernelOp{Kind: statesync.KernelExpect, Expect: &early})
	l.wait("another expectation", func() bool { return shows("52999") })
	a.play(statesync.KernelOp{Kind: statesync.KernelDelete, Flow: control})
	l.wait("all to end with the control connection", func() bool { return !shows("52999") && len(b.dump()) == 0 })
	l.waitSync()
}
