package gatewayd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/capture/dissect"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

// captured reads a capture to its end.
func captured(t *testing.T, r io.ReadCloser) (lines []string, last pcapng.Statistics) {
	t.Helper()
	defer r.Close()
	p := pcapng.NewReader(r)
	for {
		k, s, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			return lines, last
		case err != nil:
			t.Fatal(err)
		case k != nil:
			lines = append(lines, dissect.Line(k.Data, k.Length, dissect.Options{}))
		default:
			last = *s
		}
	}
}

// TestCapture: frames come as they pass, within the bounds that were asked for and within gatewayd's own.
func TestCapture(t *testing.T) {
	needNamespace(t)
	ctx := t.Context()
	run(t, "ip link add cap0 type veth peer name cap1")
	t.Cleanup(func() { run(t, "ip link del cap0") })
	run(t, "sysctl -qw net.ipv6.conf.cap0.disable_ipv6=1 net.ipv6.conf.cap1.disable_ipv6=1")
	run(t, "ip link set cap0 up")
	run(t, "ip link set cap1 up")
	run(t, "ip addr add 10.77.0.1/24 dev cap0")
	c := start(t, t.TempDir())
	ask := func(q api.CaptureQuery) io.ReadCloser {
		t.Helper()
		q.Interface = "cap0"
		r, err := c.Capture(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	// The kernel asks who has an address that nobody has, once a second.
	ping := func() { run(t, "ip neigh flush dev cap0"); go pingNobody() }

	r := ask(api.CaptureQuery{Filter: "arp and outbound", Count: 1})
	ping()
	lines, stats := captured(t, r)
	if want := "ARP, Request who-has 10.77.0.9 tell 10.77.0.1, length 28"; len(lines) != 1 || lines[0] != want || stats.Received == 0 || stats.Dropped != 0 {
		t.Errorf("%q %+v", lines, stats)
	}
	begin := time.Now()
	if lines, _ := captured(t, ask(api.CaptureQuery{Filter: "udp port 4242", For: 200 * time.Millisecond})); len(lines) != 0 || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("%q after %v", lines, time.Since(begin))
	}
	r = ask(api.CaptureQuery{Filter: "arp", Size: 300})
	ping()
	if _, stats := captured(t, r); !strings.Contains(stats.Comment, "size limit") {
		t.Errorf("%+v", stats)
	}
	var refused *api.Error
	for _, q := range []api.CaptureQuery{
		{Interface: "nosuch"}, {Interface: "cap0", Filter: "host"}, {Interface: "cap0", Filter: "host gw-a", Except: netip.MustParseAddrPort("10.77.0.9:5000")},
	} {
		_, err := c.Capture(ctx, q)
		if !errors.As(err, &refused) || refused.Hint == "" || q.Filter == "host gw-a" && !strings.Contains(refused.Message, "character 6") {
			t.Errorf("%+v: %v", q, err)
		}
	}
	// As many as there may be; one that its reader leaves makes room.
	var running []io.ReadCloser
	for range api.MaxCaptures {
		running = append(running, ask(api.CaptureQuery{Except: netip.MustParseAddrPort("10.77.0.9:5000"), Filter: "arp or vlan"}))
	}
	if _, err := c.Capture(ctx, api.CaptureQuery{Interface: "cap0"}); !errors.As(err, &refused) || refused.Status != 409 {
		t.Error(err)
	}
	for _, r := range running {
		r.Close()
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var err error
		if r, err = c.Capture(ctx, api.CaptureQuery{Interface: "cap0", Filter: "arp"}); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	run(t, "ip link del cap0")
	if _, stats := captured(t, r); !strings.Contains(stats.Comment, "gone") {
		t.Errorf("%+v", stats)
	}
	run(t, "ip link add cap0 type veth peer name cap1") // for the cleanup
}

// TestCaptureExcept: the connection that carries a capture away is not in it, all others are.
func TestCaptureExcept(t *testing.T) {
	needNamespace(t)
	for _, except := range []string{"10.77.0.9:5000", "[2001:db8::9]:5000", "[::ffff:10.77.0.9]:5000", "[fe80::9%lan]:5000"} {
		c, err := openCapture("lo", api.CaptureQuery{Except: netip.MustParseAddrPort(except), Filter: "tcp or vlan"})
		if err != nil {
			t.Errorf("%s: %v", except, err)
			continue
		}
		c.Close()
	}
	run(t, "ip link set lo up")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	from, to := talk(ctx, t)
	for _, own := range []bool{true, false} {
		q := api.CaptureQuery{Filter: "tcp"}
		if own {
			q.Except = from
		}
		c, err := openCapture("lo", q)
		if err != nil {
			t.Fatal(err)
		}
		to()
		p, err := c.Next(time.Now().Add(300 * time.Millisecond))
		if own == (err == nil) {
			t.Errorf("left out %v: %v %s", own, err, dissect.Line(p.Data, p.Length, dissect.Options{}))
		}
		c.Close()
	}
}

// pingNobody sends to an address that nobody has.
func pingNobody() {
	conn, err := net.Dial("udp", "10.77.0.9:9")
	if err != nil {
		return
	}
	defer conn.Close()
	conn.Write([]byte("x"))
}

// talk is a TCP connection over lo: where it comes from, and what sends something over it.
func talk(ctx context.Context, t *testing.T) (netip.AddrPort, func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return netip.MustParseAddrPort(conn.LocalAddr().String()), func() { conn.Write([]byte("x")) }
}
