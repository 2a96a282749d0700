package probe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var addrCmp = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestMessageRoundTrip(t *testing.T) {
	for _, want := range []Message{
		{Run: 7, Seq: 1, Sent: 2},
		{Reply: true, Run: 1 << 31, Seq: 1 << 60, Sent: -5, Count: 9, Seen: netip.MustParseAddrPort("192.0.2.1:40000")},
		{Reply: true, Seen: netip.MustParseAddrPort("[2001:db8::1]:1")},
	} {
		b := want.Append(nil)
		if len(b) != MessageLen {
			t.Fatalf("length %d", len(b))
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, addrCmp); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Message{Reply: true, Seen: netip.MustParseAddrPort("192.0.2.1:40000")}.Append(nil))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(m.Append(nil))
		if err != nil || again != m {
			t.Errorf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

func TestAnalyse(t *testing.T) {
	const ms = time.Millisecond
	every := func(n int) (sent []time.Duration) {
		for i := range n {
			sent = append(sent, time.Duration(i)*10*ms)
		}
		return sent
	}
	for _, tt := range []struct {
		name string
		got  []time.Duration // of datagrams sent every 10 ms
		want UDPReport
	}{
		{"nothing sent", nil, UDPReport{}},
		{"all answered", []time.Duration{1 * ms, 11 * ms, 21 * ms}, UDPReport{Sent: 3, Received: 3,
			Longest: Gap{At: 1 * ms, Silence: 10 * ms, Outage: 10 * ms}, RTT: Spread{ms, ms, ms, ms}}},
		{"never answered", []time.Duration{-1, -1}, UDPReport{Sent: 2, Pending: 2}},
		{"an outage in the middle", []time.Duration{1 * ms, -1, -1, -1, 41 * ms, 51 * ms}, UDPReport{Sent: 6, Received: 3, Lost: 3,
			Longest: Gap{At: 1 * ms, Silence: 40 * ms, Outage: 40 * ms, Lost: 3},
			Gaps:    []Gap{{At: 1 * ms, Silence: 40 * ms, Outage: 40 * ms, Lost: 3}}, RTT: Spread{ms, ms, ms, ms}}},
		{"replies that were held up are a silence, not an outage", []time.Duration{1 * ms, 52 * ms, 53 * ms, 54 * ms}, UDPReport{Sent: 4, Received: 4,
			Longest: Gap{At: 1 * ms, Silence: 51 * ms, Outage: 10 * ms},
			Gaps:    []Gap{{At: 1 * ms, Silence: 51 * ms, Outage: 10 * ms}}, RTT: Spread{ms, 33 * ms, 42 * ms, 42 * ms}}},
		{"an outage that lasts", []time.Duration{1 * ms, 11 * ms, -1, -1}, UDPReport{Sent: 4, Received: 2, Pending: 2,
			Longest: Gap{At: 1 * ms, Silence: 10 * ms, Outage: 10 * ms}, RTT: Spread{ms, ms, ms, ms}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, analyse(every(len(tt.got)), tt.got, 30*ms), addrCmp); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLate(t *testing.T) {
	const ms = time.Millisecond
	if got := late([]time.Duration{0, 10 * ms, 27 * ms, 30 * ms}, 10*ms); got != 7*ms {
		t.Errorf("late %v, want 7ms", got)
	}
}

func TestBounds(t *testing.T) {
	for _, tt := range []struct {
		name               string
		interval, duration time.Duration
		n                  int
	}{
		{"1 ms for 10 s", time.Millisecond, 10 * time.Second, 10000},
		{"too fast", 50 * time.Microsecond, time.Second, 0},
		{"zero", 0, time.Second, 0},
		{"too long", time.Millisecond, time.Hour, 0},
		{"shorter than an interval", time.Second, time.Millisecond, 0},
	} {
		n, err := probes(tt.interval, tt.duration)
		if n != tt.n || (err == nil) != (tt.n > 0) {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
	}
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

func TestUDPOverLoopback(t *testing.T) {
	echo, err := ServeUDP(loopback, Priority{})
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	p, err := StartUDP(UDPConfig{Target: echo.Addr(), Interval: time.Millisecond, Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	r := p.Report()
	if r.Sent != 200 || r.Received != 200 || r.Duplicates != 0 || r.SendErrors != 0 {
		t.Errorf("report %+v", r)
	}
	if len(r.Sources) != 1 || r.Sources[0].Addr.Port() != r.Local.Port() || r.Sources[0].Count != 200 {
		t.Errorf("sources %v of %v", r.Sources, r.Local)
	}
	if er := echo.Report(); er.Requests != 200 || er.Error != "" {
		t.Errorf("echo server: %+v", er)
	}
}

func TestUDPSurvivesADeadServer(t *testing.T) {
	echo, err := ServeUDP(loopback, Priority{})
	if err != nil {
		t.Fatal(err)
	}
	addr := echo.Addr()
	p, err := StartUDP(UDPConfig{Target: addr, Interval: time.Millisecond, Duration: 10 * time.Second, Priority: Priority{LockThread: true}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	echo.Close()
	time.Sleep(50 * time.Millisecond)
	echo, err = ServeUDP(addr, Priority{})
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	time.Sleep(50 * time.Millisecond)
	r := p.Stop()
	if r.Lost < 20 || r.Longest.Outage < 20*time.Millisecond || r.Longest.Lost != r.Lost || len(r.Gaps) == 0 {
		t.Errorf("the outage of about 50 ms is not in the report: %+v", r)
	}
}

func TestTCPCountsReconnects(t *testing.T) {
	echo, err := ServeTCP(loopback)
	if err != nil {
		t.Fatal(err)
	}
	addr := echo.Addr()
	p, err := StartTCP(TCPConfig{Target: addr, Interval: 2 * time.Millisecond, Duration: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond)
	echo.Close()
	time.Sleep(60 * time.Millisecond)
	if echo, err = ServeTCP(addr); err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	time.Sleep(400 * time.Millisecond)
	r := p.Stop()
	if r.Reconnects() != 1 || r.Resets+r.Closed != 1 || r.Stall < 60*time.Millisecond || r.Stall > 5*time.Second {
		t.Errorf("report %+v", r)
	}
	if r.Received < 20 || r.BytesGot != int64(r.Received)*MessageLen || len(r.Sources) != 2 {
		t.Errorf("report %+v", r)
	}
}

func TestConfigErrors(t *testing.T) {
	if _, err := StartUDP(UDPConfig{Interval: time.Millisecond, Duration: time.Second}); err == nil {
		t.Error("UDP probe without a target started")
	}
	if _, err := StartTCP(TCPConfig{Interval: time.Millisecond, Duration: time.Second}); err == nil {
		t.Error("TCP probe without a target started")
	}
	if _, err := ServeUDP(loopback, Priority{FIFO: 100}); err == nil {
		t.Error("priority 100 was taken")
	}
}
