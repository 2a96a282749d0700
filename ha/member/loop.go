package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// maxLate is after how many ticks in a row the next one is taken for a defect: the simulator holds the machine to fewer.
const maxLate = 200

// loop is the one goroutine in which the machine lives.
func (m *Member) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	late := 0
	for {
		wait := m.machine.Deadline().Sub(m.now())
		if wait <= 0 && late < maxLate {
			late++
			m.drain()
			m.step(cluster.Tick{})
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if wait <= 0 { // a defect of the machine, which a real-time process must not make the host's
			if m.spins++; m.spins%1000 == 1 {
				m.event(cluster.Log{Severity: cluster.Error, Name: "spin", Text: fmt.Sprintf("after %d ticks the machine still asks for one at %v, at %v; please report this", late, time.Duration(m.machine.Deadline()), time.Duration(m.now()))})
			}
			wait = time.Millisecond
		}
		late = 0
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case f := <-m.frames:
			m.handle(&f)
		case call := <-m.calls:
			call()
		}
	}
}

// drain takes in what has arrived already, so that a late tick judges peers by it. It is bounded: a flood
// must not keep our own beats from leaving.
func (m *Member) drain() {
	for range cap(m.frames) {
		select {
		case f := <-m.frames:
			m.handle(&f)
		default:
			return
		}
	}
}

// receive hands frames over until its port closes.
func (m *Member) receive(iface int, p *port.Port) {
	f := received{iface: iface}
	for {
		n, err := p.Receive(f.data[:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-m.stop:
				return
			case <-time.After(50 * time.Millisecond): // ENETDOWN: the NIC is down, the socket lives on
			}
			continue
		}
		f.n = n
		select {
		case m.frames <- f:
		case <-m.stop:
			return
		}
	}
}

func (m *Member) handle(f *received) {
	var payload []byte
	var envelope wire.Envelope
	var err error
	switch {
	case !f.from.IsValid():
		envelope, payload, err = wire.ParseFrame(f.data[:f.n])
	case f.n > wire.MaxPayload:
		err = wire.Oversized
	default:
		payload = f.data[:f.n]
	}
	var beat wire.Beat
	if err == nil {
		payload, err = m.key.Open(payload)
	}
	if err == nil {
		beat, err = wire.ParseBeat(payload)
	}
	if err != nil {
		var r wire.Reason
		errors.As(err, &r)
		m.step(cluster.Refused{Interface: f.iface, Reason: r})
		return
	}
	if f.from.IsValid() && !m.welcome(f.iface, f.from, &beat) {
		return
	}
	m.compare(&beat)
	m.origin(f.iface, envelope.SrcIP, &beat)
	m.step(cluster.BeatReceived{Interface: f.iface, Beat: beat})
}

// step lets the machine decide and does what it says.
func (m *Member) step(in cluster.Input) {
	now, held := m.now(), m.machine.Holds()
	for _, a := range m.machine.Step(now, in) {
		m.act(now, a)
	}
	m.recordChange(now)
	if m.cfg.Role != nil && m.machine.Holds() != held {
		go m.cfg.Role()
	}
	for len(m.queue) > 0 {
		next := m.queue[0]
		m.queue = m.queue[1:]
		m.step(next)
	}
}

func (m *Member) act(decided cluster.Instant, a cluster.Action) {
	switch a := a.(type) {
	case cluster.Send:
		m.send(decided, a)
	case cluster.Announce:
		for _, p := range m.ports {
			for _, f := range p.announce {
				if p.port != nil {
					p.port.Send(f) // counted by the NIC; repeated by the machine
				}
			}
		}
	case cluster.Barrier:
		go m.barrier(a.Successor)
	case cluster.KeepTerm:
		m.term.keep(uint64(a))
	case cluster.Reply:
		m.reply = a
	case cluster.Log:
		m.event(a)
	}
}

// send sends one heartbeat, unless its order has become stale between the decision and now (duty 3 of
// ha/cluster).
func (m *Member) send(decided cluster.Instant, a cluster.Send) {
	if a.Beat.Seq%settingsEvery == 0 {
		a.Beat.Extension = m.settings
	}
	if a.Interface >= len(m.ports) {
		// No gate sees it, so it is neither live nor late. A member whose heartbeats leave by no NIC is silent here too:
		// it cannot hold a gate open, and a witness that vouches for it would keep its peers from serving.
		if len(m.ports) > 0 && decided.Sub(m.lastOut) > m.cfg.Timing.Dead {
			return
		}
		m.payload = m.key.Seal(a.Beat.Append(m.payload[:0]))
		m.paths[a.Interface-len(m.ports)].send(m.payload)
		return
	}
	p := m.ports[a.Interface]
	if p.port == nil {
		return
	}
	live := a.Beat.Order == wire.Keep || a.Beat.Order == wire.Open
	if live {
		now, since := m.now(), m.lastLive
		if a.Beat.Order == wire.Open {
			since = decided
		}
		if now > a.By {
			m.queue = append(m.queue, cluster.GateLost{Why: fmt.Sprintf("a heartbeat would have left %v after the majority's support had ended", now.Sub(a.By).Round(100*time.Microsecond))})
			return
		}
		if late := now.Sub(since); late > m.cfg.Timing.Lease {
			m.queue = append(m.queue, cluster.GateLost{Why: fmt.Sprintf("a heartbeat would have left %v after the last one, later than the lease of %v", late.Round(100*time.Microsecond), m.cfg.Timing.Lease)})
			return
		}
	}
	m.payload = m.key.Seal(a.Beat.Append(m.payload[:0]))
	m.frame = wire.AppendFrame(m.frame[:0], p.envelope, m.payload)
	if err := p.port.Send(m.frame); err != nil {
		p.failed++ // a NIC that is down; the kernel's gate has not seen the beat either
		if a.Beat.Order == wire.Keep && gate.Refused(err) {
			select {
			case m.doubt <- struct{}{}:
			default:
			}
		}
		return
	}
	p.sent++
	now := m.now()
	m.lastOut = now
	switch {
	case live:
		m.lastLive = now
	case a.Beat.Order != wire.NoOrder && now.Sub(decided) > cluster.ShutMargin:
		m.queue = append(m.queue, cluster.ShutLate{})
	}
}
