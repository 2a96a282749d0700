package scenario

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// askEvery is how often an asker asks: who serves an address is known to that.
const askEvery = 50 * time.Millisecond

// asker is a station made of code that asks for a virtual address all the time, so that the captures show who answers.
type asker struct {
	conn net.Conn
	stop chan struct{}
	wg   sync.WaitGroup
}

// startAsker plugs an asker into a port of a switch, which is made if need be.
func startAsker(sw *vswitch.Switch, port string, mac ether.MAC, from, vip netip.Addr) (*asker, error) {
	if _, err := sw.Stats(port); err != nil {
		if err := sw.AddPort(port); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	if err := sw.Attach(port, there); err != nil {
		return nil, fmt.Errorf("asker for %v: %w", vip, err)
	}
	a := &asker{conn: here, stop: make(chan struct{})}
	frame := ether.ARP{Op: 1, SenderMAC: mac, SenderIP: from, TargetIP: vip}.Frame(mac)
	a.wg.Go(func() { io.Copy(io.Discard, here) }) // the answers are in the captures
	a.wg.Go(func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			select {
			case <-a.stop:
				return
			case <-tick.C:
				if vswitch.WriteFrame(here, frame) != nil {
					return // the switch is closed
				}
			}
		}
	})
	return a, nil
}

// close unplugs it.
func (a *asker) close() {
	close(a.stop)
	a.conn.Close()
	a.wg.Wait()
}

// askerPort is the port of one of the two askers of a segment; the second one is for the other side of a split.
func askerPort(segment string, n int) string { return fmt.Sprintf("%s-asker%d", segment, n) }

// startAskers starts the n-th asker of each segment with a virtual address.
func (l *Lab) startAskers(n int) (out []*asker, err error) {
	for i, s := range []struct{ segment, vip, from string }{{"lan", lanVIP, "10.1.0.20"}, {"wan", wanVIP, "192.0.2.20"}} {
		mac := ether.MAC{0x52, 0x54, 0, 0, 0x30 + byte(n), byte(i + 1)}
		a, err := startAsker(l.Switches[s.segment], askerPort(s.segment, n), mac, netip.MustParseAddr(fmt.Sprintf("%s%d", s.from, n)), netip.MustParseAddr(s.vip))
		if err != nil {
			closeAskers(out)
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func closeAskers(list []*asker) {
	for _, a := range list {
		a.close()
	}
}
