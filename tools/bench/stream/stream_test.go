package stream

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = Time(time.Millisecond)

// story makes records of one datagram a millisecond that take a millisecond each way; edit changes one.
func story(n int, edit func(i int, r *Record)) []Record {
	records := make([]Record, n)
	for i := range records {
		t := Time(i+1) * ms
		records[i] = Record{Due: t, Sent: t, Server: t + ms/2, Back: t + ms, Port: 1000}
		edit(i+1, &records[i])
	}
	return records
}

func TestMeasure(t *testing.T) {
	tests := []struct {
		name string
		edit func(i int, r *Record)
		want Outage
	}{
		{"nothing happens", func(int, *Record) {},
			Outage{RoundTrip: time.Millisecond, Forward: time.Millisecond, PortBefore: 1000, PortAfter: 1000, Recovered: true}},
		{"ten lost, new port", func(i int, r *Record) {
			if i >= 100 && i < 110 {
				r.Server, r.Back = 0, 0
			} else if i >= 110 {
				r.Port = 2000
			}
		}, Outage{RoundTrip: 11 * time.Millisecond, Forward: 10*time.Millisecond + time.Millisecond/2, Lost: 10, PortBefore: 1000, PortAfter: 2000, Recovered: true}},
		{"only the way back is cut", func(i int, r *Record) {
			if i >= 100 && i < 110 {
				r.Back = 0
			}
		}, Outage{RoundTrip: 11 * time.Millisecond, Forward: time.Millisecond, Lost: 10, PortBefore: 1000, PortAfter: 1000, Recovered: true}},
		{"held up, not lost", func(i int, r *Record) {
			if i >= 100 && i < 110 {
				r.Server, r.Back = 111*ms, 111*ms
			}
		}, Outage{RoundTrip: 11 * time.Millisecond, Forward: 11*time.Millisecond - time.Millisecond/2, PortBefore: 1000, PortAfter: 1000, Recovered: true}},
		{"never again", func(i int, r *Record) {
			if i >= 100 {
				r.Server, r.Back = 0, 0
			}
		}, Outage{RoundTrip: 200 * time.Millisecond, Forward: 200 * time.Millisecond, Lost: 200, PortBefore: 1000}},
		{"the sender was late", func(i int, r *Record) {
			if i == 150 {
				r.Sent += 3 * ms
				r.Server += 3 * ms
				r.Back += 3 * ms
			}
		}, Outage{RoundTrip: 2 * time.Millisecond, Forward: 2 * time.Millisecond, Late: 3 * time.Millisecond, PortBefore: 1000, PortAfter: 1000, Recovered: true}},
		{"losses outside the window", func(i int, r *Record) {
			if i < 90 || i > 310 {
				r.Server, r.Back = 0, 0
			}
		}, Outage{RoundTrip: time.Millisecond, Forward: time.Millisecond, PortBefore: 1000, PortAfter: 1000, Recovered: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The window opens just behind an arrival at the client.
			got := Measure(story(400, tt.edit), 100*ms, 300*ms)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMeasureNothing(t *testing.T) {
	if got := Measure(nil, 0, 100*ms); got.Recovered || got.RoundTrip != 100*time.Millisecond {
		t.Errorf("no records: %+v, want the whole window as outage", got)
	}
}

// here is the namespace that the test runs in.
type here struct{}

func (here) Do(f func() error) error { return f() }

func TestMain(m *testing.M) {
	Main(func(string) here { return here{} })
	os.Exit(m.Run())
}

func TestProcessStops(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for SCHED_FIFO")
	}
	p, err := Launch("", "", netip.MustParseAddrPort("127.0.0.1:47172"), time.Minute, false)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

func TestProcessTellsWhatIsWrong(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for SCHED_FIFO")
	}
	// No address of this machine.
	if _, err := Launch("", "", netip.MustParseAddrPort("192.0.2.1:47173"), time.Second, false); err == nil {
		t.Error("a probe of an address that is not here was started")
	} else {
		t.Log(err)
	}
}

func TestLoopback(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for SCHED_FIFO")
	}
	s, err := Launch("", "", netip.MustParseAddrPort("127.0.0.1:47171"), 100*time.Millisecond, true)
	if err != nil {
		t.Fatal(err)
	}
	records, err := s.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 100 {
		t.Fatalf("%d records, want 100", len(records))
	}
	for i, r := range records {
		if r.Sent < r.Due || r.Server < r.Sent || r.Back < r.Server || r.Port == 0 {
			t.Fatalf("record %d is out of order: %+v", i, r)
		}
	}
}
