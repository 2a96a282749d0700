package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ti-mo/conntrack"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// TestMain runs the tests in a network namespace of the whole process, because gatewayd's goroutines run on any
// thread.
func TestMain(m *testing.M) {
	const inside = "TWINKEEP_TEST_NETNS"
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func needNamespace(t *testing.T) {
	if os.Getenv("TWINKEEP_TEST_NETNS") == "" {
		t.Skip("a network namespace needs root")
	}
}

func run(t *testing.T, command string) string {
	t.Helper()
	f := strings.Fields(command)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// start runs gatewayd until the test ends.
func start(t *testing.T, config string) *api.Client {
	t.Helper()
	runDir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			ConfigDir: config, StateDir: t.TempDir(), RunDir: runDir, Ready: func() { close(ready) },
			Log: log.New(t.Output(), "gatewayd: ", 0),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return api.NewClient(runDir)
}

func refusal(t *testing.T, err error) []node.Problem {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != 422 || len(e.Problems) == 0 {
		t.Fatalf("got %v, want a refusal with problems", err)
	}
	return e.Problems
}

// TestLife walks gatewayd through the days of a box: no file, a bad one, a good one, a late NIC, a broken file.
func TestLife(t *testing.T) {
	needNamespace(t)
	ctx := context.Background()
	config := t.TempDir()
	file, err := os.ReadFile("../node/testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set lo up")
	run(t, "ip link add G1 type veth peer name far1")
	run(t, "ip link add G2 type veth peer name far2")
	t.Cleanup(func() { // the namespace is that of all tests
		run(t, "nft delete table inet twinkeep")
		run(t, "sysctl -qw net.ipv4.ip_forward=0")
		for _, device := range []string{"G1", "G2", "G3"} {
			run(t, "ip link del "+device)
		}
	})
	run(t, "ip link set far1 up")
	run(t, "ip link set far2 up")
	c := start(t, config)
	tables := func() string { return run(t, "nft list tables") }
	forward := func() string { return strings.TrimSpace(run(t, "sysctl -n net.ipv4.ip_forward")) }

	s, err := c.Node(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Applied || s.Running || len(s.Errors) != 1 || s.Errors[0].Hint != "write one with: node edit" {
		t.Errorf("without a file: %+v", s)
	}
	closed := run(t, "nft list ruleset")
	if tables() != "table inet twinkeep\n" || strings.Contains(closed, "from-") || forward() != "0" {
		t.Errorf("without a file the box is not closed: ip_forward %s, rules\n%s", forward(), closed)
	}

	bad := []byte(strings.Replace(string(file), "zone: wan", "zone: man", 1))
	if p := refusal(t, errorOf(c.PutNode(ctx, bad))); p[0].Line != 20 || p[0].Column != 11 {
		t.Errorf("a bad file: %+v", p)
	}
	if _, err := os.Stat(filepath.Join(config, node.FileName)); !os.IsNotExist(err) {
		t.Errorf("the bad file was saved: %v", err)
	}
	if _, err := c.CheckNode(ctx, file); err != nil {
		t.Error(err)
	}
	if run(t, "nft list ruleset") != closed {
		t.Error("a check changed something")
	}

	if s, err = c.PutNode(ctx, file); err != nil {
		t.Fatal(err)
	}
	if !s.Applied || !s.Running || s.Hostname != "gw-a" || s.Cluster != "branch (7)" || len(s.Problems) > 0 {
		t.Errorf("after the first good file: %+v", s)
	}
	if diff := cmp.Diff([]api.MissingNIC{{Name: "G3", Device: "G3"}}, s.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if !strings.Contains(tables(), "table inet twinkeep") || forward() != "1" {
		t.Errorf("tables %q, ip_forward %s", tables(), forward())
	}
	if got := run(t, "ip -o -4 addr show dev G1"); !strings.Contains(got, "10.1.0.2/24 brd 10.1.0.255") {
		t.Errorf("G1: %s", got)
	}

	run(t, "ip link add G3 type veth peer name far3")
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if s, err = c.Node(ctx); err == nil && len(s.Missing) == 0 {
			break
		}
		if time.Since(start) > 5*time.Second {
			t.Fatalf("G3 appeared and is not used: %+v, %v", s, err)
		}
	}
	if got := run(t, "ip -o -4 addr show dev G3"); !strings.Contains(got, "169.254.77.1/30") {
		t.Errorf("G3: %s", got)
	}

	shown, err := c.NodeFile(ctx)
	if err != nil || strings.Contains(string(shown), "MDEyMzQ1") || !strings.Contains(string(shown), "key: REDACTED ") {
		t.Errorf("shown: %v\n%s", err, shown)
	}
	if _, err := c.PutNode(ctx, []byte(strings.Replace(string(shown), "hostname: gw-a", "hostname: gw-z", 1))); err != nil {
		t.Errorf("paste back what was shown: %v", err)
	}
	if n, _, err := node.Load(config); err != nil || n.Hostname != "gw-z" || n.Cluster.Key.IsZero() {
		t.Errorf("after pasting back: %+v, %v", n, err)
	}

	if err := os.WriteFile(filepath.Join(config, node.FileName), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	refusal(t, errorOf(c.ReloadNode(ctx)))
	if s, err = c.Node(ctx); err != nil || s.Applied || !s.Running || s.Hostname != "gw-z" {
		t.Errorf("after the file broke: %+v, %v", s, err)
	}
	if !strings.Contains(tables(), "table inet twinkeep") || forward() != "1" {
		t.Error("a broken file stopped what ran")
	}

	t.Run("interfaces", func(t *testing.T) { testInterfaces(t, c) })
	t.Run("hardware", func(t *testing.T) { testHardware(t, c) })
	t.Run("connections", func(t *testing.T) { testConnections(t, c) })
}

func errorOf[T any](_ T, err error) error { return err }

func testInterfaces(t *testing.T, c *api.Client) {
	run(t, "ip link add link G1 name G1-vip address 10:00:00:00:28:07 type macvlan mode private")
	run(t, "ip addr add 10.1.0.1/32 dev G1-vip")
	list, err := c.Interfaces(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	if diff := cmp.Diff([]string{"G1", "G2", "G3", "far1", "far2", "far3"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	want := api.Interface{
		Name: "G1", Device: "G1", Zone: "lan", Present: true, Up: true, Carrier: true, MTU: 1500, SharedMAC: "10:00:00:00:28:07",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("10.1.0.1/32")},
	}
	if diff := cmp.Diff(want, list[0], cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreFields(api.Interface{}, "MAC", "RX", "TX", "Speed")); diff != "" {
		t.Errorf("G1 (-want +got):\n%s", diff)
	}
	if list[2].Carrier || list[0].MAC == "" {
		t.Errorf("G3 has carrier without a peer that is up, or G1 no MAC: %+v", list)
	}
}

func testHardware(t *testing.T, c *api.Client) {
	h, err := c.Hardware(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if h.Board == "" || h.Cores < 1 || h.MemoryTotal < 1<<20 || h.MemoryFree < 1<<20 || h.Kernel == "" || h.Uptime <= 0 {
		t.Errorf("%+v", h)
	}
}

func testConnections(t *testing.T, c *api.Client) {
	ctx := context.Background()
	table, err := conntrack.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	server, err := net.ListenPacket("udp4", "10.1.0.2:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range 3 {
		client, err := net.Dial("udp4", "10.1.0.2:7000")
		if err != nil {
			t.Fatal(err)
		}
		client.Write([]byte("hello"))
		client.Close()
	}
	got, err := c.Connections(ctx, api.ConnectionFilter{Proto: "udp", Dst: "10.1.0.0/24", Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got.Matching != 3 || len(got.Connections) != 2 {
		t.Fatalf("%d of %d connections, want 2 of 3", len(got.Connections), got.Matching)
	}
	o := got.Connections[0].Original
	if o.Dst.String() != "10.1.0.2" || o.DstPort != 7000 || o.Packets != 1 || o.Bytes != 33 || got.Connections[0].Timeout == 0 {
		t.Errorf("%+v", got.Connections[0])
	}
	for _, f := range []api.ConnectionFilter{{ReplySrc: "10.1.0.2", ReplySPort: "7000"}, {DPort: "6999-7001", State: "unreplied", Zone: "0", Mark: "0"}} {
		if got, err = c.Connections(ctx, f); err != nil || got.Matching != 3 {
			t.Errorf("%+v: %+v, %v", f, got, err)
		}
	}
	for _, f := range []api.ConnectionFilter{{ReplyDst: "203.0.113.1"}, {SPort: "1"}, {ReplyDPort: "1"}, {State: "assured", Dst: "10.1.0.2"}, {Zone: "7"}, {Mark: "0x10/0x10"}} {
		if got, err = c.Connections(ctx, f); err != nil || got.Matching != 0 {
			t.Errorf("%+v: %+v, %v", f, got, err)
		}
	}
	seen := 0
	n2, err := c.EachConnection(ctx, api.ConnectionFilter{DPort: "7000", Limit: 2}, func(api.Connection) error { seen++; return nil })
	if err != nil || n2 != 3 || seen != 2 {
		t.Errorf("one by one: %d of %d, %v", seen, n2, err)
	}
	if got, err = c.Connections(ctx, api.ConnectionFilter{Src: "203.0.113.1"}); err != nil || got.Matching != 0 || got.Connections == nil {
		t.Errorf("nothing matches: %+v, %v", got, err)
	}
	if _, err = c.Connections(ctx, api.ConnectionFilter{Proto: "carrier-pigeon"}); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("a bad filter: %v", err)
	}
	n, err := c.ConnectionCount(ctx)
	if err != nil || n.Count < 3 || n.Max == 0 {
		t.Errorf("count %+v, %v", n, err)
	}
}

func TestSecondInstance(t *testing.T) {
	needNamespace(t)
	runDir := t.TempDir()
	ln, err := unixhttp.Listen(filepath.Join(runDir, api.GatewaydSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			if _, err := ln.Accept(); err != nil {
				return
			}
		}
	}()
	err = Run(context.Background(), Options{ConfigDir: t.TempDir(), RunDir: runDir})
	if err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("got %v", err)
	}
}

func TestParseFilter(t *testing.T) {
	tests := []struct {
		query string
		want  filter
		bad   string
	}{
		{query: "", want: filter{limit: api.DefaultLimit, zone: -1}},
		{query: "limit=5&proto=47&src=10.0.0.1&dst=2001:db8::/32", want: filter{limit: 5, proto: 47, zone: -1, orig: side{src: netip.MustParsePrefix("10.0.0.1/32"), dst: netip.MustParsePrefix("2001:db8::/32")}}},
		{query: "proto=TCP&state=Established&sport=1-9&reply-dport=443&mark=0x10/0xf0&zone=3", want: filter{limit: api.DefaultLimit, proto: 6, state: "ESTABLISHED", zone: 3, mark: 16, mask: 0xf0, orig: side{sport: ports{1, 9}}, reply: side{dport: ports{443, 443}}}},
		{query: "state=unreplied", want: filter{limit: api.DefaultLimit, zone: -1, without: statesync.StatusSeenReply}},
		{query: "state=happy", bad: "state"},
		{query: "sport=9-1", bad: "sport"},
		{query: "reply-dst=10.0.0.0/33", bad: "reply-dst"},
		{query: "mark=1/0", bad: "mark"},
		{query: "zone=65536", bad: "zone"},
		{query: "limit=0", bad: "limit"},
		{query: "limit=-1", bad: "limit"},
		{query: "proto=256", bad: "proto"},
		{query: "src=host", bad: "src"},
	}
	for _, tt := range tests {
		q, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseFilter(q)
		if tt.bad != "" {
			if err == nil || !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("%s: %v, want an error about %s", tt.query, err, tt.bad)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.query, got, err, tt.want)
		}
	}
}

// TestConnectionNames covers what a dump of one namespace does not have.
func TestConnectionNames(t *testing.T) {
	a := func(s string) statesync.Addr {
		v, _ := statesync.AddrOf(netip.MustParseAddr(s))
		return v
	}
	tcp := statesync.Flow{Family: statesync.Inet, Status: statesync.StatusAssured | 1<<14, Has: statesync.HasTCP, TCP: statesync.TCPInfo{State: 3}, Mark: 7}
	tcp.Orig = statesync.Tuple{Proto: 6, Src: a("10.1.0.50"), SrcPort: 40000, Dst: a("192.0.2.50"), DstPort: 443}
	tcp.Reply = tcp.Orig.Inverse()
	got := connection(&tcp, ctnl.Counters{Packets: 2, Bytes: 3}, ctnl.Counters{})
	if got.Proto != "tcp" || got.State != "ESTABLISHED" || !got.Assured || !got.Offload || got.Mark != 7 || got.Reply.DstPort != 40000 || got.Original.Bytes != 3 {
		t.Errorf("%+v", got)
	}
	odd := statesync.Flow{Family: statesync.Inet, Orig: statesync.Tuple{Proto: 200, Src: tcp.Orig.Src, Dst: tcp.Orig.Dst}}
	if got := connection(&odd, ctnl.Counters{}, ctnl.Counters{}); got.Proto != "200" || got.State != "" || !got.Unreplied {
		t.Errorf("%+v", got)
	}
	if !slices.IsSorted([]uint8{0, uint8(len(tcpStates) - 10)}) {
		t.Error("tcpStates is enum tcp_conntrack with ten values")
	}
}

// TestTriesAgain: what the kernel refuses while the network is being set up is tried again, without a link that changes.
func TestTriesAgain(t *testing.T) {
	needNamespace(t)
	config := t.TempDir()
	run(t, "ip link add G1 type veth peer name far1")
	t.Cleanup(func() { run(t, "ip link del G1") })
	const text = "version: 1\nhostname: gw\nboard: auto\ninterfaces:\n  - {name: G1, zone: lan, address: 10.1.0.2/24, address6: \"2001:db8::2/64\"}\n"
	if err := os.WriteFile(filepath.Join(config, node.FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses := func(v string) {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/G1/disable_ipv6", []byte(v), 0); err != nil {
			t.Fatal(err)
		}
	}
	refuses("1")
	c := start(t, config)
	s, err := c.Node(t.Context())
	if err != nil || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "2001:db8::2/64") {
		t.Fatalf("%+v, %v", s.Problems, err)
	}
	time.Sleep(20 * settle) // what the links had to say was heard
	if s, err = c.Node(t.Context()); err != nil || len(s.Problems) != 1 {
		t.Fatalf("%+v, %v", s.Problems, err)
	}
	refuses("0")
	for end := time.Now().Add(10 * time.Second); len(s.Problems) > 0; time.Sleep(50 * time.Millisecond) {
		if s, err = c.Node(t.Context()); err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", s.Problems, err)
		}
	}
	if out := run(t, "ip addr show dev G1"); !strings.Contains(out, "2001:db8::2/64") {
		t.Error(out)
	}
}
