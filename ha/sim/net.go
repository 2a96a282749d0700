package sim

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// path is what the network did to the heartbeats of one member for another, over all interfaces.
type path struct {
	newest cluster.Instant // when the newest of those that arrived was sent
	lost   cluster.Instant // when the newest of those that were lost, or late by more than a lease, was sent
}

// stranger is the number of a key that is not the cluster's.
const stranger = 1

// seal is the frame of a beat and, unless the key is real, what its receiver makes of it.
func (w *World) seal(iface int, from uint8, b wire.Beat, key int) (in cluster.Input, frame []byte) {
	if !w.RealKey {
		// The tag is the name of the key: as good as a MAC against everybody who does not forge.
		w.buf = b.Append(w.buf[:0])
		if key != 0 {
			return cluster.Refused{Interface: iface, Reason: wire.BadTag}, nil
		}
		return input(iface, w.buf), nil
	}
	k := w.keys[key]
	if k == nil {
		secret := append([]byte(nil), Key...)
		secret[0] += byte(key)
		var err error
		if k, err = wire.NewKey(secret); err != nil {
			panic("sim: " + err.Error())
		}
		w.keys[key] = k
	}
	f := w.Nodes[0].Config.Interfaces[iface]
	return nil, wire.AppendFrame(nil, wire.Envelope{Dst: wire.BeatMAC(f.NN, b.Cluster), Src: wire.MAC{2, 0, 0, 0, 0, from},
		SrcIP: netip.AddrFrom4([4]byte{10, 0, byte(iface), from}), DstIP: netip.AddrFrom4([4]byte{10, 0, byte(iface), 255})},
		k.Seal(b.Append(nil)))
}

// open is what a receiver makes of a frame, as ha/member does.
func (w *World) open(iface int, frame []byte) cluster.Input {
	_, p, err := wire.ParseFrame(frame)
	if err == nil {
		p, err = w.keys[0].Open(p)
	}
	if err != nil {
		return cluster.Refused{Interface: iface, Reason: err.(wire.Reason)}
	}
	return input(iface, p)
}

func input(iface int, payload []byte) cluster.Input {
	b, err := wire.ParseBeat(payload)
	if err != nil {
		return cluster.Refused{Interface: iface, Reason: err.(wire.Reason)}
	}
	return cluster.BeatReceived{Interface: iface, Beat: b}
}

// transmit puts a heartbeat that has passed its sender's gate on the wire.
func (w *World) transmit(n *Node, iface int, b wire.Beat) {
	if n.newer {
		b.Version, b.Extension = wire.Version+1, []byte("what this version does not know")
	}
	in, frame := w.seal(iface, n.ID, b, 0)
	if n.tape != nil {
		n.tape.record(iface, in, frame, b.Order)
	}
	loss, damage, delay := w.noise(iface)
	for _, to := range w.Nodes {
		if to == n {
			continue
		}
		p := &w.path[n.ID][to.ID]
		if n.down[iface] > 0 || w.cuts[n.ID][to.ID][iface] > 0 || w.Cut != nil && w.Cut(n.ID, to.ID, iface) || loss > 0 && w.rng.Float64() < loss {
			p.lost = w.Now
			continue
		}
		if damage > 0 && w.rng.Float64() < damage {
			p.lost = w.Now
			w.post(w.damaged(to, iface, frame), delay)
			continue
		}
		d := w.post(event{kind: evFrame, to: to, from: n.ID, iface: uint8(iface), in: in, data: frame, sent: w.Now}, delay)
		if d > w.timing.Lease {
			p.lost = w.Now
		}
		if w.Net.Duplicate > 0 && w.rng.Float64() < w.Net.Duplicate {
			w.post(event{kind: evFrame, to: to, from: n.ID, iface: uint8(iface), in: in, data: frame, sent: w.Now}, delay)
		}
	}
	if w.mirror[n.ID][iface] > 0 {
		w.post(event{kind: evFrame, to: n, from: n.ID, iface: uint8(iface), in: in, data: frame, sent: w.Now}, delay)
	}
}

// damaged is a frame that arrives with one bit turned over. It says nothing about its path.
func (w *World) damaged(to *Node, iface int, frame []byte) event {
	e := event{kind: evFrame, to: to, from: to.ID, iface: uint8(iface), in: cluster.Refused{Interface: iface, Reason: wire.BadTag}}
	if frame != nil {
		e.in, e.data = nil, append([]byte(nil), frame...)
		e.data[w.rng.IntN(len(frame))] ^= 1 << w.rng.IntN(8)
	}
	return e
}

// post lets a frame travel, and says for how long.
func (w *World) post(e event, delay time.Duration) time.Duration {
	d := delay + w.upTo(w.Net.Jitter)
	e.at = w.Now.Add(d)
	w.queue.push(e)
	return d
}

// noise is the loss, the damage and the delay on an interface now.
func (w *World) noise(iface int) (loss, damage float64, delay time.Duration) {
	loss, delay = w.Net.Loss, w.Net.Delay
	for _, f := range w.faults {
		if f.Interface != All && f.Interface != iface {
			continue
		}
		switch f.Kind {
		case Loss:
			loss = 1 - (1-loss)*(1-f.Value)
		case Corrupt:
			damage = 1 - (1-damage)*(1-f.Value)
		case Delay:
			delay += time.Duration(f.Value * float64(w.timing.Dead))
		case Jitter:
			delay += w.upTo(time.Duration(f.Value * float64(w.timing.Dead)))
		}
	}
	return loss, damage, delay
}

// arrive is a frame at its receiver's NIC.
func (w *World) arrive(e *event) {
	n := e.to
	p := &w.path[e.from][n.ID]
	if n.down[e.iface] > 0 {
		p.lost = max(p.lost, e.sent)
		return
	}
	if e.from != n.ID && e.sent > p.newest {
		w.heard(e.from, n.ID) // before the news, for it may end a silence
		p.newest = e.sent
	}
	if w.DropAsleep && w.Now < n.asleep {
		return
	}
	in := e.in
	if in == nil {
		in = w.open(int(e.iface), e.data)
	}
	n.Input(in)
}

// deaf reports whether the network has kept every beat of one member from the other for longer than the lease.
// A member that sends nothing does not make the other deaf.
func (w *World) deaf(from, to uint8) bool {
	p := &w.path[from][to]
	return p.lost > p.newest && w.Now.Sub(p.newest) > w.timing.Lease
}

// tape keeps heartbeats of a member for those who replay them.
type tape struct {
	frames []event
	every  int
}

// maxTape bounds a tape.
const maxTape = 400

// record keeps each order that is not the usual one and a part of the others.
func (t *tape) record(iface int, in cluster.Input, frame []byte, o wire.Order) {
	t.every++
	if len(t.frames) < maxTape && (o > wire.Keep || t.every%8 == 0) {
		t.frames = append(t.frames, event{kind: evFrame, iface: uint8(iface), in: in, data: frame})
	}
}

// replay sends everything on a member's tape again, to everybody.
func (w *World) replay(n *Node) {
	for _, e := range n.tape.frames {
		for _, to := range w.Nodes {
			if to != n {
				e.to, e.from = to, to.ID // it says nothing about the path from n
				w.post(e, w.Net.Delay)
			}
		}
	}
}

// Deliver gives a member a frame that arrived on an interface, for stories that make their own frames.
func (n *Node) Deliver(iface int, b wire.Beat) {
	in, frame := n.w.seal(iface, 0, b, 0)
	n.w.arrive(&event{to: n, from: n.ID, iface: uint8(iface), in: in, data: frame})
}
