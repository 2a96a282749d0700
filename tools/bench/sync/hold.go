package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// hold begins connections at a rate, and measures how long their first packets take to the server.
func (p *part) hold(ctx context.Context, o *options, rate int, on bool) error {
	l, err := newLab(o)
	defer l.close()
	if err == nil {
		err = l.addTraffic()
	}
	if err != nil {
		return err
	}
	if err := l.a.ns.Batch("addr add 192.0.2.2/24 dev wan"); err != nil {
		return err
	}
	// Private addresses are not those of the translation: connections of a member's own are not replicated.
	l.a.interfaces = "  - {name: lan, zone: lan, address: 10.255.0.1/24, place: 0/3/0}\n  - {name: wan, zone: wan, address: 192.0.2.2/24, place: 0/4/0}\n"
	if on {
		l.a.settings = "  defer: true\n"
	}
	if err := errors.Join(l.start("twinkeep", l.a, l.b), l.settle("twinkeep")); err != nil {
		return err
	}
	arrived, stop, err := l.receive()
	if err != nil {
		return err
	}
	defer stop()
	res := holdResult{Offered: rate, On: on}
	total := rate * o.seconds
	cpu0, _ := machine.ReadCPUTime()
	a0, b0 := l.a.cpu(), l.b.cpu()
	before := l.a.sync()
	began := time.Now()
	if err := l.sendPackets(ctx, total, rate); err != nil {
		return err
	}
	took := time.Since(began)
	time.Sleep(200 * time.Millisecond)
	cpu1, _ := machine.ReadCPUTime()
	stop()
	late := arrived()
	after := l.a.sync()
	res.Arrived = float64(len(late)) / took.Seconds()
	res.Lost = total - len(late)
	res.Took = stat.Of(late)
	res.Held, res.Late = after.Held-before.Held, after.HeldLate-before.HeldLate
	res.CPUA = float64((l.a.cpu() - a0).Microseconds()) / float64(total)
	res.CPUB = float64((l.b.cpu() - b0).Microseconds()) / float64(total)
	res.Busy = cpu1.Busy(cpu0)
	p.Holds = append(p.Holds, res)
	fmt.Fprintf(os.Stderr, "hold %v, %d/s: %.0f/s arrived, %d lost (%d of them for want of room in the hold), first packet %s ms, held %d, late %d, CPU %.1f + %.1f µs, busy %.0f %%\n", on, rate, res.Arrived, res.Lost, after.HeldDropped-before.HeldDropped, res.Took, res.Held, res.Late, res.CPUA, res.CPUB, res.Busy)
	return nil
}

// receive stamps what arrives (before the ingress hook drops it) at the server until stop; arrived gives how long each packet was on its way, in ms.
func (l *lab) receive() (arrived func() []float64, stop func(), err error) {
	var fd int
	if err := l.server.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		return err
	}); err != nil {
		return nil, nil, fmt.Errorf("listen at the server: %w", err)
	}
	wait := unix.NsecToTimeval(int64(50 * time.Millisecond))
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("listen at the server: %w", err)
	}
	var late []float64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		b := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil && ctx.Err() != nil {
				return
			}
			sa, ok := from.(*unix.SockaddrLinklayer)
			if err != nil || n != udpSize || b[9] != unix.IPPROTO_UDP || !ok || sa.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			sent := time.Duration(binary.BigEndian.Uint64(b[28:]))
			late = append(late, float64((time.Since(epoch)-sent).Microseconds())/1000)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	return func() []float64 { return late }, stop, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
