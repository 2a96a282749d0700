package statesyncd

import (
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// badLink is what happens to frames on the sync link, in percent, and whether the first member hears nothing there.
type badLink struct {
	loss, late, twice, damage int
	deaf                      bool
}

// put replaces the bridge of the sync link between two members by a link that is bad in both directions.
func (b badLink) put(l *lab) {
	l.t.Helper()
	if _, err := exec.LookPath("ethtool"); err != nil {
		l.t.Skip("needs ethtool: frames that pass through a program must have their checksums")
	}
	for _, m := range l.members {
		m.ns.Run("ethtool", "-K", "sync", "tx", "off")
	}
	l.sw.IP("link set dev sync1 nomaster")
	l.sw.IP("link set dev sync2 nomaster")
	one, two := l.sw.Raw("sync1"), l.sw.Raw("sync2")
	var wg sync.WaitGroup
	back := b
	if b.deaf {
		back.loss = 100
	}
	wg.Go(func() { b.carry(one, two, &wg) })
	wg.Go(func() { back.carry(two, one, &wg) })
	l.t.Cleanup(func() { one.Close(); two.Close(); wg.Wait() })
}

// carry brings frames from one port to the other until a port is closed.
func (b badLink) carry(from, to *packet.Conn, wg *sync.WaitGroup) {
	chance := func(percent int) bool { return rand.IntN(100) < percent }
	for {
		buf := make([]byte, 64<<10)
		n, _, err := from.ReadFrom(buf)
		if err != nil {
			return
		}
		f := buf[:n]
		if n < 14 || chance(b.loss) {
			continue
		}
		if chance(b.damage) {
			f[14+rand.IntN(n-14)] ^= 1
		}
		send := func() { to.WriteTo(f, netnslab.To(f[:6])) }
		if chance(b.late) {
			wg.Go(func() { time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond); send() })
			continue
		}
		send()
		if chance(b.twice) {
			send()
		}
	}
}
