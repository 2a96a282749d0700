package gatewayd

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"testing"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// meter counts what is written to it and how much memory the process uses meanwhile.
type meter struct {
	header        http.Header
	bytes, writes int
	most          uint64
}

func (m *meter) Header() http.Header { return m.header }
func (m *meter) WriteHeader(int)     {}
func (m *meter) Write(b []byte) (int, error) {
	if m.bytes += len(b); m.writes%1000 == 0 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		m.most = max(m.most, s.HeapAlloc)
	}
	m.writes++
	return len(b), nil
}

// TestLargeTable: a large table is written without being held.
func TestLargeTable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	const many = 100000
	ns := netnslab.New(t)
	ns.Try(func() error {
		table, err := ctnl.OpenTable()
		if err != nil {
			return err
		}
		defer table.Close()
		f := statesync.Flow{Family: statesync.Inet, Has: statesync.HasTimeout, Timeout: 600, Status: statesync.StatusConfirmed}
		ops := make([]statesync.KernelOp, 0, 1000)
		for i := range many {
			src, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{10, 1, byte(i >> 15), 1}))
			dst, _ := statesync.AddrOf(netip.MustParseAddr("198.51.100.1"))
			f.Orig = statesync.Tuple{Proto: statesync.UDP, Src: src, SrcPort: uint16(1 + i&0x7fff), Dst: dst, DstPort: 53}
			f.Reply = f.Orig.Inverse()
			if ops = append(ops, statesync.KernelOp{Flow: f}); len(ops) == cap(ops) {
				for _, err := range table.Apply(ops) {
					if err != nil {
						return err
					}
				}
				ops = ops[:0]
			}
		}
		filter, err := parseFilter(url.Values{"limit": {"1000000"}})
		if err != nil {
			return err
		}
		m := &meter{header: http.Header{}}
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		writeConnections(context.Background(), m, filter)
		if m.bytes < 100*many {
			t.Errorf("%d bytes for %d connections", m.bytes, many)
		}
		grown := int64(m.most) - int64(before.HeapAlloc)
		t.Logf("%d MiB written, memory grew by %d KiB", m.bytes>>20, grown>>10)
		if grown > 4<<20 {
			t.Errorf("memory grew by %d bytes", grown)
		}
		return nil
	})
}
