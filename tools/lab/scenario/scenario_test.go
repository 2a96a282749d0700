package scenario

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// TestNodeFiles: the product's own parser takes the node files of the lab, and they say what the topology says.
func TestNodeFiles(t *testing.T) {
	top, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range top.Hosts {
		t.Run(h.Name, func(t *testing.T) {
			n, warnings, err := node.Parse(h.Name, []byte(h.Node))
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%v; warnings %v", err, warnings)
			}
			if len(n.Interfaces) != len(h.NICs) {
				t.Fatalf("%d interfaces for %d NICs", len(n.Interfaces), len(h.NICs))
			}
			for i, f := range n.Interfaces {
				if f.Address.Addr() != h.NICs[i].Addr {
					t.Errorf("%s: address %v in the node file, %v in the topology", f.Name, f.Address, h.NICs[i].Addr)
				}
			}
			if n.Cluster != nil && n.Cluster.Timing != (node.Timing{Beat: Timing.Beat, Lease: Timing.Lease, Dead: Timing.Dead, Silence: Timing.Silence}) {
				t.Errorf("timing %+v", n.Cluster.Timing)
			}
		})
	}
}

func TestParsePID1(t *testing.T) {
	for _, tt := range []struct {
		log  string
		want time.Duration
		ok   bool
	}{
		{"[    2.1] Run /init\r\ninit: PID 1 at 2.31s\r\ninit: NICs G1 at 4.00s\r\n", 2310 * time.Millisecond, true},
		{"init: PID 1 at 4.2 s\n", 4200 * time.Millisecond, true},
		{"kernel panic", 0, false},
		{"init: PID 1 at 99999999999.0s\n", 0, false},
	} {
		got, ok := parsePID1(tt.log)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%q: %v, %v", tt.log, got, ok)
		}
	}
}

func TestParseMeminfo(t *testing.T) {
	got := parseMeminfo("MemTotal:  210000 kB\nMemFree: 1 kB\nMemAvailable:  100000 kB\nHugePages: \nMemTotal: -5 kB\n")
	if diff := cmp.Diff(Memory{Total: 210000 << 10, Available: 100000 << 10}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnnouncerCountsWhatStationsSend(t *testing.T) {
	vmac, vip := ether.MAC{0x10, 0, 0, 0, 0x20, clusterID}, netip.MustParseAddr(lanVIP)
	garp := ether.ARP{Op: 1, SenderMAC: vmac, SenderIP: vip, TargetIP: vip}.Frame(vmac)
	var a Announcer
	now := time.Now()
	for i, dir := range []capture.Direction{capture.In, capture.Out, capture.In} {
		a.OnFrame(vswitch.Frame{Port: "lan-b", Dir: dir, Time: now.Add(time.Duration(i) * time.Second), Data: garp})
	}
	if got := a.After(now); len(got) != 1 || got[0].Port != "lan-b" || got[0].VIP != vip {
		t.Errorf("%+v", got)
	}
}

func goodResult() Result {
	vip := netip.MustParseAddrPort("192.0.2.1:4000")
	return Result{
		Active: "a", Survivor: "b", CutAt: time.Unix(1795350000, 0),
		After:  member.Status{State: "ACTIVE", Term: 2, RSS: 13_000_000},
		UDP:    probe.UDPReport{Sent: 100, Received: 65, Lost: 35, Interval: 20 * time.Millisecond, Longest: probe.Gap{Outage: 720 * time.Millisecond, Lost: 35}, Sources: []probe.Source{{Addr: vip}}},
		TCP:    probe.TCPReport{Connects: 1, Sent: 50, Received: 50, Stall: 776 * time.Millisecond, Sources: []probe.Source{{Addr: vip}}},
		Server: probe.EchoReport{Sources: []probe.Source{{Addr: vip}}},
		Boots:  map[string]Boot{"a": {PID1: 2 * time.Second}, "b": {PID1: 2 * time.Second}},
		Memory: Memory{Total: 215_000_000, Available: 115_000_000}, Twinkeep: 9_700_000,
	}
}

func TestChecksOfTheResult(t *testing.T) {
	other := netip.MustParseAddrPort("192.0.2.3:4000")
	garp := func(port, vip string) capture.Announcement {
		return capture.Announcement{Port: port, VIP: netip.MustParseAddr(vip)}
	}
	both := []capture.Announcement{garp("lan-b", lanVIP), garp("wan-b", wanVIP)}
	for _, tt := range []struct {
		name     string
		edit     func(*Result)
		announce []capture.Announcement
		failed   int // of announced, outage, NAT, TCP
	}{
		{"good", func(*Result) {}, both, 0},
		{"one VIP is not announced", func(*Result) {}, both[:1], 1},
		{"the dead one announces", func(*Result) {}, append(both[:2:2], garp("lan-a", lanVIP)), 1},
		{"long outage", func(r *Result) { r.UDP.Longest.Outage = time.Minute }, both, 1},
		{"no answers at all", func(r *Result) { r.UDP = probe.UDPReport{Sent: 9} }, both, 1},
		{"private address seen", func(r *Result) { r.Server.Sources = append(r.Server.Sources, probe.Source{Addr: other}) }, both, 1},
		{"reset", func(r *Result) { r.TCP.Resets, r.TCP.Connects = 1, 2 }, both, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := goodResult()
			tt.edit(&r)
			failed := 0
			for _, f := range []capture.Finding{r.checkAnnounced(tt.announce), r.checkOutage(), r.checkNAT(), r.checkTCP()} {
				if !f.OK {
					failed++
				}
			}
			if failed != tt.failed {
				t.Errorf("%d checks failed, want %d", failed, tt.failed)
			}
		})
	}
}

// TestJudgeNeedsEvidence: empty captures pass nothing.
func TestJudgeNeedsEvidence(t *testing.T) {
	key, err := wire.NewKey(bytes.Repeat([]byte{1}, wire.KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range judge(nil, key, Result{Survivor: "b"}) {
		if f.OK && !strings.Contains(f.Name, "within the lease") {
			t.Errorf("%q passes without evidence: %s", f.Name, f.Evidence)
		}
	}
}

func TestTable(t *testing.T) {
	dir := t.TempDir()
	for name, n := range map[string]int{"vmlinuz": 8_000_000, "initramfs.cpio.zst": 13_000_000} {
		if err := os.Truncate(touch(t, filepath.Join(dir, name)), int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	r := goodResult()
	r.Image = imageSizes(filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initramfs.cpio"))
	var b bytes.Buffer
	if err := r.Print(&b, []capture.Finding{{Name: "good", OK: true, Evidence: "x"}, {Name: "bad", Evidence: "y"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"gw-a, the ACTIVE member", "720 ms (one datagram every 20 ms, at most 0.0 ms late)", "35 of 100, 35 of them in the outage", "none seen",
		"longest stall 776 ms, 0 resets, 0 reconnects, 50 of 50", "192.0.2.1:4000 → the same (UDP)", "13.0 MB",
		"vmlinuz 8.0 MB + initramfs.cpio.zst 13.0 MB = 21.0 MB", "PID 1 at 2.0 s, STANDBY at ?", "ok   good", "FAIL bad",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in the table:\n%s", want, &b)
		}
	}
}

func touch(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
