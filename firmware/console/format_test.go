package console

import (
	"bytes"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update writes it):\n%s", file, diff)
	}
}

const ms = member.Duration(time.Millisecond)

func activeStatus() member.Status {
	return member.Status{
		ClusterID: 7, ClusterName: "branch", Member: 1, MemberName: "gw-a", Designated: true, State: "ACTIVE",
		Reason: "peer gw-b reports standby", StateSince: 12_400 * ms, Mode: "active-up", Priority: 120, Term: 4, Holder: 1,
		InSync: true, Connections: 1543, Gate: member.GateStatus{Open: true},
		VIPs: []member.VIPStatus{
			{Interface: "G1", Address: "10.1.0.1", MAC: "10:00:00:00:28:07", Device: "G1-vip"},
			{Interface: "G2", Address: "192.0.2.1", MAC: "10:00:00:00:30:07", Device: "G2-vip"},
		},
		Peers: []member.PeerStatus{{Member: 2, Name: "gw-b", Alive: true, State: "STANDBY", Term: 4, Priority: 100, InSync: true, Connections: 1540, LastHeard: 4 * ms, LastOn: "G3"}},
		Interfaces: []member.InterfaceStatus{
			{Name: "G1", Device: "G1", Number: 1, Present: true, Carrier: true, Heartbeat: true, Address: "10.1.0.2/24", SharedMAC: "10-00-00-00-28-07", Sent: 1200, Received: 1190, LastHeard: 8 * ms},
			{Name: "G3", Device: "G3", Number: 3, Present: true, Carrier: true, Heartbeat: true, Sync: true, Address: "169.254.77.1/30", Sent: 2400, Received: 2399, LastHeard: 4 * ms},
		},
		Failover: member.FailoverStatus{Count: 2, Last: "peer_gone: gw-b silent for 61ms", Since: 3723 * 1000 * ms},
	}
}

func sickStatus() member.Status {
	s := activeStatus()
	s.Designated, s.State, s.Reason, s.StateSince = false, "DOWN", "2 critical devices report a problem", 3*3600*1000*ms+5*60*1000*ms
	s.Gate, s.Holder, s.InSync = member.GateStatus{}, 0, false
	s.Problems = []string{"interface G1: no carrier", "interface G4: no such device"}
	s.Peers = []member.PeerStatus{{Member: 2, Name: "gw-b", State: "LOST", Demotion: 1, LastHeard: -1}}
	s.Interfaces[0].Carrier, s.Interfaces[0].Problem, s.Interfaces[0].LastHeard = false, "no carrier", -1
	s.Interfaces = append(s.Interfaces, member.InterfaceStatus{Name: "G4", Heartbeat: true, LastHeard: -1, Problem: "no such device"})
	s.Rejected = map[string]uint64{"ttl_too_low": 3, "bad_authentication": 12}
	s.Failover = member.FailoverStatus{Since: -1}
	s.ConfigError = "node.yaml:3:1: cluster: the members are missing"
	return s
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func interfaceList() []api.Interface {
	return []api.Interface{
		{Name: "G1", Device: "G1", Zone: "lan", Present: true, Up: true, Carrier: true, MAC: "52:54:00:00:00:01", SharedMAC: "10:00:00:00:28:07", Speed: 1000, MTU: 1500,
			Addresses: []netip.Prefix{prefix("10.1.0.2/24"), prefix("10.1.0.1/32")}, Place: "0000:00:05.0", Driver: "igb",
			RX: api.Counters{Bytes: 123456789, Packets: 100000, Drops: 2}, TX: api.Counters{Bytes: 1023, Packets: 1, Errors: 1}},
		{Name: "G3", Device: "G3", Sync: true, Present: true, Speed: 2500, MTU: 1500, MAC: "52:54:00:00:00:03"},
		{Name: "G4", Device: "G4", Zone: "wan"},
	}
}

func services() []supervise.ServiceStatus {
	return []supervise.ServiceStatus{
		{Name: "gatewayd", State: supervise.Ready, PID: 101, Uptime: 3725 * time.Second, RSS: 14 << 20},
		{Name: "had", State: supervise.Starting, Critical: true, CrashLoop: true, PID: 240, Uptime: 300 * time.Millisecond, Restarts: 7, RSS: 9 << 20,
			LastExit: &supervise.ExitStatus{Code: -1, Signal: "SIGKILL", Ran: 1500 * time.Millisecond}},
		{Name: "statesyncd", State: supervise.Backoff, Restarts: 1, LastExit: &supervise.ExitStatus{Code: 2, Ran: 20 * time.Millisecond}},
	}
}

const badFile = "version: 1\nhostname: gw-a\ninterfaces:\n  - {name: G1, zone: man}\n"

func badStatus() api.NodeStatus {
	return api.NodeStatus{
		File: "/etc/twinkeep/node.yaml",
		Errors: []node.Problem{
			{File: "/etc/twinkeep/node.yaml", Line: 4, Column: 22, Path: "interfaces[0].zone", Message: `"man" is not known`, Hint: "one of: lan, wan"},
		},
	}
}

func appliedStatus() api.NodeStatus {
	return api.NodeStatus{
		File: "/etc/twinkeep/node.yaml", Hostname: "gw-a", Cluster: "branch (7)", Applied: true, Running: true,
		Warnings: []node.Problem{{File: "/etc/twinkeep/node.yaml", Line: 7, Column: 8, Path: "cluster.key", Message: "this key protects nothing", Hint: "make one"}},
		Missing:  []api.MissingNIC{{Name: "G4", Device: "G4"}},
		Problems: []string{"apply network: set G1 up: device or resource busy"},
	}
}

func TestFormat(t *testing.T) {
	tests := map[string]func(io.Writer){
		"ha-active":              func(w io.Writer) { writeHA(w, activeStatus()) },
		"ha-down":                func(w io.Writer) { writeHA(w, sickStatus()) },
		"cluster-state-active":   func(w io.Writer) { writeCluster(w, activeStatus()) },
		"cluster-state-down":     func(w io.Writer) { writeCluster(w, sickStatus()) },
		"cluster-interfaces":     func(w io.Writer) { writeClusterInterfaces(w, activeStatus()) },
		"cluster-interfaces-bad": func(w io.Writer) { writeClusterInterfaces(w, sickStatus()) },
		"cluster-events": func(w io.Writer) {
			writeEvents(w, []member.Event{
				{Seq: 1, Uptime: 4012 * ms, Severity: "info", Name: "started", Text: "cluster 7, member 1"},
				{Seq: 2, Uptime: 612045 * ms, Severity: "notice", Name: "peer_gone", Text: "gw-b silent for 61ms on G1, G2, G3"},
			})
		},
		"ifstat":         func(w io.Writer) { writeInterfaces(w, interfaceList()) },
		"ifstat-maclist": func(w io.Writer) { writeMACs(w, interfaceList()) },
		"ifstat-one":     func(w io.Writer) { writeInterfaceDetails(w, interfaceList()[:1]) },
		"hardware": func(w io.Writer) {
			writeHardware(w, api.Hardware{
				Board: "apu2", BoardText: "PC Engines APU2", Vendor: "PC Engines", Product: "apu2", CPU: "AMD GX-412TC SOC", Cores: 4,
				MemoryTotal: 4 << 30, MemoryFree: 3 << 30, Kernel: "6.18.44", Uptime: 26 * time.Hour, Watchdog: "SP5100 TCO timer",
				NICs: []api.NIC{{Device: "G1", Place: "0000:01:00.0", Driver: "igb", MAC: "52:54:00:00:00:01", NN: 0x28, SharedMAC: "10:00:00:00:28:07", IDs: "8086:157b"}},
			})
		},
		"hardware-bare": func(w io.Writer) {
			writeHardware(w, api.Hardware{Cores: 1, Problems: []string{"scan NICs: /sys is not mounted"}})
		},
		"conn": func(w io.Writer) {
			writeConnections(w, api.Connections{Matching: 5, Connections: []api.Connection{
				{Proto: "tcp", State: "ESTABLISHED", Timeout: 431999, Assured: true,
					Original: api.Tuple{Src: addr("10.1.0.50"), Dst: addr("203.0.113.5"), SrcPort: 40000, DstPort: 443, Packets: 10, Bytes: 1500},
					Reply:    api.Tuple{Src: addr("203.0.113.5"), Dst: addr("192.0.2.1"), SrcPort: 443, DstPort: 40000, Packets: 12, Bytes: 15000}},
				{Proto: "udp", Timeout: 29,
					Original: api.Tuple{Src: addr("2001:db8::5"), Dst: addr("2001:db8::53"), SrcPort: 5353, DstPort: 53, Packets: 1, Bytes: 60},
					Reply:    api.Tuple{Src: addr("2001:db8::53"), Dst: addr("2001:db8::5"), SrcPort: 53, DstPort: 5353}},
				{Proto: "icmp", Timeout: 3, Original: api.Tuple{Src: addr("10.1.0.50"), Dst: addr("192.0.2.50"), SrcPort: 77, Packets: 1, Bytes: 84},
					Reply: api.Tuple{Src: addr("192.0.2.50"), Dst: addr("192.0.2.1"), Packets: 1, Bytes: 84}},
				{Proto: "tcp", Offload: true, Original: api.Tuple{Src: addr("10.1.0.51"), Dst: addr("203.0.113.9"), SrcPort: 1, DstPort: 2},
					Reply: api.Tuple{Src: addr("203.0.113.9"), Dst: addr("192.0.2.1"), SrcPort: 2, DstPort: 61000}},
			}}, api.ConnectionCount{Count: 1543, Max: 262144})
		},
		"log": func(w io.Writer) {
			writeEntry(w, supervise.Entry{Seq: 9, Uptime: 3123 * time.Millisecond, Service: "had", Line: "evil \x1b[2J line\tkept"})
		},
		"service-list": func(w io.Writer) { writeServices(w, services()) },
		"node-show":    func(w io.Writer) { writeNode(w, appliedStatus(), []byte("version: 1\nhostname: gw-a")) },
		"node-bad":     func(w io.Writer) { writeNodeStatus(w, badStatus(), []byte(badFile)) },
		"error": func(w io.Writer) {
			PrintError(w, &api.Error{Message: "had does not answer: nobody listens", Hint: "see log", Problems: badStatus().Errors})
		},
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			write(&b)
			golden(t, name, b.String())
			for line := range strings.Lines(b.String()) {
				if strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
					t.Errorf("blanks at the end of %q", line)
				}
			}
		})
	}
}

func TestLong(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1:                                "0 milliseconds",
		40 * time.Millisecond:             "40 milliseconds",
		time.Second:                       "1 second",
		12900 * time.Millisecond:          "12 seconds",
		time.Minute:                       "1 minute",
		125 * time.Second:                 "2 minutes 5 seconds",
		2*time.Hour + 59*time.Second:      "2 hours",
		49*time.Hour + 61*time.Minute:     "2 days 2 hours",
		24*time.Hour*400 + 30*time.Minute: "400 days",
	} {
		if got := long(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 30: "1.0 GiB", 1<<64 - 1: "16.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		line string
		want []string
		bad  bool
	}{
		{line: ""},
		{line: "  ha\t-activate ", want: []string{"ha", "-activate"}},
		{line: `log --service "two words" ''`, want: []string{"log", "--service", "two words", ""}},
		{line: `a"b c"d`, want: []string{"ab cd"}},
		{line: `a "b`, bad: true},
	}
	for _, tt := range tests {
		got, err := split(tt.line)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.bad {
			t.Errorf("%q: %v (-want +got):\n%s", tt.line, err, diff)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{"ha -activate", "log --service 'x y' -", "conn --proto", "node  check ?", "\x00-=\"é", "--", "- - -x=y service restart", "\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s := &session{interactive: true, Options: Options{Run: "/nonexistent"}}
		choices, partial := choicesAt(t.Context(), s.root(), line)
		for _, c := range choices {
			if c.word == "" {
				t.Errorf("%q: an empty choice", line)
			}
		}
		common(choices, partial)
		if words, err := split(line); err == nil {
			if got := Normalize(s.root(), words); len(got) != len(words) {
				t.Errorf("%q became %q", words, got)
			}
		}
	})
}
