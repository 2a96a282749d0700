package console

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/tools/golden"
)

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

// disputedStatus is of three members, one of which two do not agree on, with verdicts of interface probing.
func disputedStatus() member.Status {
	s := activeStatus()
	opinion := func(by uint8, name, state string) member.Opinion {
		return member.Opinion{Member: by, Name: name, State: state, Age: 300 * ms}
	}
	s.Opinions = []member.Opinion{opinion(2, "gw-b", "ACTIVE"), opinion(3, "gw-c", "ACTIVE")}
	s.Peers[0].Opinions = []member.Opinion{opinion(2, "gw-b", "STANDBY"), opinion(3, "gw-c", "DOWN")}
	s.Peers = append(s.Peers, member.PeerStatus{Member: 3, Name: "gw-c", Alive: true, State: "ACTIVE!", Priority: 90, LastHeard: 9 * ms, LastOn: "G1",
		Opinions: []member.Opinion{opinion(3, "gw-c", "ACTIVE")}})
	s.Interfaces[0].Verdict = &member.VerdictStatus{Kind: "one-way", Text: "path one way only: gw-b hears us, we do not hear gw-b; neighbours answer both", Since: 12_300 * ms}
	s.Interfaces = append(s.Interfaces, member.InterfaceStatus{Name: "G4", Device: "G4", Present: true, Carrier: true, LastHeard: -1})
	s.Control = member.ControlStatus{Sent: 120, Received: 118, Rejected: map[string]uint64{"replay": 2, "bad_tag": 40}}
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

func licensedStatus() api.LicenceStatus {
	from, _ := license.ParseDay("2026-11-22")
	until, _ := license.ParseDay("2027-11-22")
	return api.LicenceStatus{
		State: "licensed", Reason: "licence TK-2026-0001 is bound to 52:54:00:00:00:01 on G1", Key: license.DevelopmentKeyID,
		Licence: &license.Licence{
			ID: "TK-2026-0001", Owner: "Example AB", MAC: "52:54:00:00:00:01", From: from, Until: until,
			Limit: license.Limits{Members: 2, Interfaces: 8, Throughput: 1000}, Server: "https://licence.example.com", GraceDays: 14,
		},
		Registration: &license.Port{Name: "G1", Device: "G1", MAC: "52:54:00:00:00:01", Present: true, Up: true},
		Contact:      &api.ContactStatus{Server: "https://licence.example.com", Last: member.Duration(3 * time.Hour)},
		Warnings:     []string{"the term ends on 2027-11-22, in 20 days; then lockdown"},
		Keys:         []string{license.DevelopmentKeyID}, Lab: true,
	}
}

func lockedStatus() api.LicenceStatus {
	s := licensedStatus()
	s.State, s.Reason, s.Leave = "lockdown", "the registration interface G1 is disabled", "enable it with: interface enable G1"
	s.Registration.Up = false
	s.Contact, s.Warnings, s.Lab, s.Keys = nil, nil, false, []string{"3f0c61a29e7b5d48"}
	s.Key = "3f0c61a29e7b5d48"
	return s
}

func services() []supervise.ServiceStatus {
	return []supervise.ServiceStatus{
		{Name: "gatewayd", State: supervise.Ready, PID: 101, Uptime: 3725 * time.Second, RSS: 14 << 20},
		{Name: "had", State: supervise.Starting, Critical: true, CrashLoop: true, PID: 240, Uptime: 300 * time.Millisecond, Restarts: 7, RSS: 9 << 20,
			LastExit: &supervise.ExitStatus{Code: -1, Signal: "SIGKILL", Ran: 1500 * time.Millisecond}},
		{Name: "statesyncd", State: supervise.Backoff, Restarts: 1, LastExit: &supervise.ExitStatus{Code: 2, Ran: 20 * time.Millisecond}},
	}
}

func syncStatus() api.SyncStatus {
	return api.SyncStatus{
		Member: 1, MemberName: "gw-a", InSync: true, Text: "this member holds the role", Since: member.Duration(3725 * time.Second), Holder: true, Term: 5,
		Entries: 15000, Expectations: 2, TableCount: 15010, TableMax: 262144, EventRate: 1234.4, OutRate: 1200,
		Peers: []api.SyncPeer{
			{Member: 2, Name: "gw-b", Connected: true, Since: member.Duration(time.Hour), Via: "G3", InSync: true, Entries: 15000, Lag: member.Duration(1800 * time.Microsecond), LagPeak: member.Duration(9 * ms), Digest: "-"},
			{Member: 3, Name: "gw-c", Since: member.Duration(time.Minute)},
		},
		Stats: statesync.Stats{RepairsGiven: 2, Passes: 12, PassTook: 340 * time.Millisecond, Refreshed: 17},
	}
}

func fullStatus() api.SyncStatus {
	return api.SyncStatus{
		Member: 2, Text: "the connection table is full: 100 of 100", RoleError: "had is restarting", Full: true, Entries: 90, TableCount: 100, TableMax: 100,
		Peers:    []api.SyncPeer{{Member: 1, Name: "gw-a", Connected: true, Via: "G1", Holder: true, InSync: true, Entries: 200, Digest: "31 of 1024 buckets differ", Repairing: true}},
		Stats:    statesync.Stats{Compared: 9, Differed: 4, Repairs: 3, Lost: 1, Refused: map[statesync.Reason]uint64{statesync.TableFull: 110, statesync.StaleTerm: 1}},
		Sessions: map[string]uint64{"wrong_key": 3, "timeout": 1},
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
		"ha-active":                 func(w io.Writer) { writeHA(w, activeStatus()) },
		"ha-down":                   func(w io.Writer) { writeHA(w, sickStatus()) },
		"cluster-state-active":      func(w io.Writer) { writeCluster(w, activeStatus()) },
		"cluster-state-down":        func(w io.Writer) { writeCluster(w, sickStatus()) },
		"cluster-state-three":       func(w io.Writer) { writeCluster(w, disputedStatus()) },
		"cluster-interfaces-probed": func(w io.Writer) { writeClusterInterfaces(w, disputedStatus()) },
		"cluster-interfaces":        func(w io.Writer) { writeClusterInterfaces(w, activeStatus()) },
		"cluster-interfaces-bad":    func(w io.Writer) { writeClusterInterfaces(w, sickStatus()) },
		"cluster-events": func(w io.Writer) {
			writeEvents(w, []member.Event{
				{Seq: 1, Uptime: 4012 * ms, Severity: "info", Name: "started", Text: "cluster 7, member 1"},
				{Seq: 2, Uptime: 612045 * ms, Severity: "notice", Name: "peer_gone", Text: "gw-b silent for 61ms on G1, G2, G3"},
			})
		},
		"ifstat":         func(w io.Writer) { writeInterfaces(w, interfaceList()) },
		"ifstat-maclist": func(w io.Writer) { writeMACs(w, interfaceList()) },
		"ifstat-maclist-licence": func(w io.Writer) {
			list := interfaceList()
			list[0].Registration, list[1].Disabled = "matches licence TK-2026-0001", true
			writeMACs(w, list)
			writeInterfaces(w, list[1:2])
		},
		"license-licensed": func(w io.Writer) { writeLicence(w, licensedStatus()) },
		"license-demo": func(w io.Writer) {
			writeLicence(w, api.LicenceStatus{State: "demo", Reason: "there is no licence", Leave: "install a licence with: license install FILE",
				Remaining: member.Duration(95 * time.Minute)})
		},
		"license-lockdown": func(w io.Writer) {
			writeLicence(w, lockedStatus())
			lockedDown(w, lockedStatus())
		},
		"ifstat-one": func(w io.Writer) { writeInterfaceDetails(w, interfaceList()[:1]) },
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
		"hardware-panel": func(w io.Writer) {
			writePanel(w, api.Panel{
				Board: "apu2", Status: "attention", Active: true, Reasons: []string{"gw-b is lost"}, Showing: "role",
				LEDs: []api.PanelLED{
					{Name: "LED1", Shows: "status", Device: "apu2:green:led1", Lit: true},
					{Name: "LED2", Shows: "active", Device: "apu*:green:*2", Problem: "no such LED: is its driver loaded?"},
				},
				Buttons: []api.PanelButton{{Name: "S1", Use: "status", Device: "apu2-keys KEY_RESTART", State: "idle", Presses: 2}},
				Sensors: []api.PanelSensor{
					{Name: "CPU", Chip: "k10temp temp1", Celsius: 61.5, Warn: 80, Critical: 95, Level: "ok", Device: true},
					{Name: "board", Chip: "nct6775 temp2", Problem: "no such hwmon chip"},
				},
				Power:  &api.PanelSupply{Device: "GPIO chip line 4", Failing: true, Count: 1},
				Buzzer: &api.PanelBuzzer{Device: "PC Speaker"},
				Watch:  &api.PanelWatchdog{Identity: "SP5100 TCO timer", State: "active", Timeout: 30, Left: 28, Fired: true},
			})
		},
		"hardware-panel-bare": func(w io.Writer) { writePanel(w, api.Panel{Status: "standby"}) },
		"conn": func(w io.Writer) {
			c := connWriter{w: w}
			for _, one := range []api.Connection{
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
			} {
				c.add(one)
			}
			c.end(5, api.ConnectionCount{Count: 1543, Max: 262144})
		},
		"sync":      func(w io.Writer) { writeSync(w, syncStatus()) },
		"sync-full": func(w io.Writer) { writeSync(w, fullStatus()) },
		"conn-diff": func(w io.Writer) {
			writeDiff(w, api.SyncDiff{Peer: "gw-a", Buckets: 3, Here: []string{"tcp 10.1.0.5:1 -> 192.0.2.9:80 as 192.0.2.1:5000 -> 192.0.2.9:80 ESTABLISHED"}, Changed: []string{"udp a  |  there: udp b"}, Expectations: 1})
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
			golden.Check(t, "testdata/"+name+".golden", b.String())
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
