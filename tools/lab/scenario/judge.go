package scenario

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
)

// slack is what the lease check allows on top of the lease: the kernel's timers (4 ms steps), and the ways of two
// NICs through QEMU and the switch, which under TCG differ by tens of milliseconds.
const slack = 100 * time.Millisecond

// maxOutage is when a takeover counts as failed: dead time, and what an emulated machine may stand still.
func maxOutage() time.Duration { return Timing.Dead + 1500*time.Millisecond }

// Judge reads the captures of a lab and checks them and the result.
func Judge(l *Lab, r Result) ([]capture.Finding, error) {
	traces, err := readTraces(l.Dir, l.Topology)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(demoKey)
	if err != nil {
		return nil, fmt.Errorf("key of the lab: %w", err)
	}
	key, err := wire.NewKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key of the lab: %w", err)
	}
	return judge(traces, key, r), nil
}

// judge is the pure part of Judge.
func judge(traces []capture.Trace, key *wire.Key, r Result) []capture.Finding {
	of := func(stations ...string) (out []capture.Trace) {
		for _, t := range traces {
			for _, s := range stations {
				if t.Station == s {
					out = append(out, t)
				}
			}
		}
		return out
	}
	on := func(segment string) (out []capture.Trace) {
		for _, t := range of(Gateways...) {
			if t.Segment == segment {
				out = append(out, t)
			}
		}
		return out
	}
	findings := []capture.Finding{capture.Beats(of(Gateways...), clusterID)}
	for _, g := range Gateways {
		findings = append(findings, capture.Lease("gw-"+g, of(g), clusterID, key, Timing.Lease, slack))
	}
	findings = append(findings, capture.DualHolder(of(Gateways...), key, Timing.Lease))
	for _, segment := range []string{"lan", "wan"} {
		findings = append(findings, capture.DualMAC(segment, on(segment), clusterID, Timing.Lease), capture.DualForward(segment, on(segment), Timing.Lease))
	}
	return append(findings, r.checkAnnounced(capture.Announcements(of(Gateways...), clusterID, r.CutAt)), r.checkOutage(), r.checkNAT(), r.checkTCP())
}

// checkAnnounced: the survivor announces every VIP, nobody else any.
func (r Result) checkAnnounced(list []capture.Announcement) capture.Finding {
	f := capture.Finding{Name: "after the cut the survivor, and only it, announces both VIPs"}
	vips := map[string]int{}
	for _, a := range list {
		if a.Port != Port("lan", r.Survivor) && a.Port != Port("wan", r.Survivor) {
			f.Evidence = fmt.Sprintf("port %s announced %v", a.Port, a.VIP)
			return f
		}
		vips[a.VIP.String()]++
	}
	f.OK = vips[lanVIP] > 0 && vips[wanVIP] > 0
	f.Evidence = announced(list)
	return f
}

func (r Result) checkOutage() capture.Finding {
	f := capture.Finding{Name: fmt.Sprintf("the outage is over within %v", maxOutage())}
	f.OK = r.UDP.Received > 0 && r.UDP.Longest.Outage <= maxOutage()
	f.Evidence = fmt.Sprintf("%d ms without answers, %d datagrams lost", r.UDP.Longest.Outage.Milliseconds(), r.UDP.Lost)
	return f
}

// checkNAT: the server saw the shared address as the source all the time, never a private one.
func (r Result) checkNAT() capture.Finding {
	f := capture.Finding{Name: "the server sees the same NAT address before and after", Evidence: "nothing arrived"}
	vip := netip.MustParseAddr(wanVIP)
	for _, s := range r.Server.Sources {
		f.OK = s.Addr.Addr() == vip
		f.Evidence = sources(r.Server.Sources)
		if !f.OK {
			return f
		}
	}
	return f
}

func (r Result) checkTCP() capture.Finding {
	return capture.Finding{
		Name:     "the TCP connection survives",
		OK:       r.TCP.Resets == 0 && r.TCP.Reconnects() == 0 && r.TCP.Closed == 0 && r.TCP.GivenUp == 0 && r.TCP.Received > 0,
		Evidence: fmt.Sprintf("%s; sources %s", tcpText(r.TCP), sources(r.TCP.Sources)),
	}
}

func readTraces(dir string, top Topology) ([]capture.Trace, error) {
	var traces []capture.Trace
	for _, h := range top.Hosts {
		for _, n := range h.NICs {
			port := Port(n.Segment, h.Name)
			f, err := os.Open(filepath.Join(dir, port+".pcap"))
			if err != nil {
				return nil, fmt.Errorf("open capture: %w", err)
			}
			frames, err := capture.Read(f)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("capture of port %s: %w", port, err)
			}
			traces = append(traces, capture.Trace{Port: port, Segment: n.Segment, Station: h.Name, Own: []netip.Addr{n.Addr}, Frames: frames})
		}
	}
	return traces, nil
}
