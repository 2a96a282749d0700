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
	late   cluster.Instant // when the first of those was sent that are newer than newest, and late by more than the receiver's slack
}

// stranger is the number of a key that is not the cluster's.
const stranger = 1

// frame is a heartbeat on its way to all its receivers.
type frame struct {
	in    cluster.Input // what they make of it: a Refused, or its beat
	beat  cluster.BeatReceived
	heard [wire.MaxHeard]wire.Heard // the beat's
	data  []byte                    // its bytes, when the key is real
	uses  int                       // how many hold it; then its memory is used again
}

// newFrame is an empty frame that its maker holds.
func (w *World) newFrame() *frame {
	n := len(w.frames)
	if n == 0 {
		return &frame{uses: 1}
	}
	f := w.frames[n-1]
	w.frames = w.frames[:n-1]
	f.uses, f.data = 1, nil
	return f
}

// release lets go of a frame; nil is none.
func (w *World) release(f *frame) {
	if f == nil {
		return
	}
	if f.uses--; f.uses == 0 {
		w.frames = append(w.frames, f)
	}
}

// seal is the frame of a beat, with what its receivers make of it.
func (w *World) seal(iface int, from uint8, b *wire.Beat, key int) *frame {
	f := w.newFrame()
	w.buf = b.Append(w.buf[:0])
	if !w.RealKey {
		// The tag is the name of the key: as good as a MAC against everybody who does not forge.
		if key != 0 {
			f.in = cluster.Refused{Interface: iface, Reason: wire.BadTag}
		} else {
			f.read(iface, w.buf)
		}
		return f
	}
	i := &w.Nodes[0].Config.Interfaces[iface]
	w.buf = w.key(key).Seal(w.buf)
	f.data = wire.AppendFrame(nil, wire.Envelope{Dst: wire.BeatMAC(i.NN, b.Cluster), Src: wire.MAC{2, 0, 0, 0, 0, from},
		SrcIP: netip.AddrFrom4([4]byte{10, 0, byte(iface), from}), DstIP: netip.AddrFrom4([4]byte{10, 0, byte(iface), 255})}, w.buf)
	w.open(f, iface)
	return f
}

// key is ours or a stranger's.
func (w *World) key(i int) *wire.Key {
	if w.keys[i] == nil {
		secret := append([]byte(nil), Key...)
		secret[0] += byte(i)
		k, err := wire.NewKey(secret)
		if err != nil {
			panic("sim: " + err.Error())
		}
		w.keys[i] = k
	}
	return w.keys[i]
}

// open finds out what receivers make of a frame's bytes, as ha/member does.
func (w *World) open(f *frame, iface int) {
	_, p, err := wire.ParseFrame(f.data)
	if err == nil {
		p, err = w.key(0).Open(p)
	}
	if err != nil {
		f.in = cluster.Refused{Interface: iface, Reason: err.(wire.Reason)}
		return
	}
	f.read(iface, p)
}

// read parses a payload.
func (f *frame) read(iface int, payload []byte) {
	f.beat.Interface, f.beat.Beat.Heard = iface, f.heard[:0]
	f.in = &f.beat
	if err := f.beat.Beat.Parse(payload); err != nil {
		f.in = cluster.Refused{Interface: iface, Reason: err.(wire.Reason)}
	}
}

// transmit puts a heartbeat that has passed its sender's gate on the wire.
func (w *World) transmit(n *Node, iface int, b *wire.Beat) {
	if n.newer {
		b.Version, b.Extension = wire.Version+1, []byte("what this version does not know")
	}
	f := w.seal(iface, n.ID, b, 0)
	if n.tape != nil {
		n.tape.record(iface, f, b.Order)
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
			w.damaged(to, iface, f, delay)
			continue
		}
		e := event{kind: evFrame, to: to, from: n.ID, iface: uint8(iface), frame: f, sent: w.Now}
		d := w.post(&e, delay)
		if d > w.timing.Lease {
			p.lost = w.Now
		}
		if d > to.slack() && p.late <= p.newest {
			p.late = w.Now
		}
		if w.Net.Duplicate > 0 && w.rng.Float64() < w.Net.Duplicate {
			w.post(&e, delay)
		}
	}
	if w.mirror[n.ID][iface] > 0 {
		w.post(&event{kind: evFrame, to: n, from: n.ID, iface: uint8(iface), frame: f, sent: w.Now}, delay)
	}
	w.release(f)
}

// damaged lets a frame arrive with one bit turned over. It says nothing about its path.
func (w *World) damaged(to *Node, iface int, f *frame, delay time.Duration) {
	bad := w.newFrame()
	if f.data == nil {
		bad.in = cluster.Refused{Interface: iface, Reason: wire.BadTag}
	} else {
		bad.data = append([]byte(nil), f.data...)
		bad.data[w.rng.IntN(len(bad.data))] ^= 1 << w.rng.IntN(8)
		w.open(bad, iface)
	}
	w.post(&event{kind: evFrame, to: to, from: to.ID, iface: uint8(iface), frame: bad}, delay)
	w.release(bad)
}

// post lets a frame travel, and says for how long.
func (w *World) post(e *event, delay time.Duration) time.Duration {
	d := delay + w.upTo(w.Net.Jitter)
	e.at = w.Now.Add(d)
	e.frame.uses++
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
		w.release(e.frame)
		return
	}
	if e.from != n.ID && e.sent > p.newest {
		w.heard(e.from, n.ID) // before the news, for it may end a silence
		p.newest = e.sent
	}
	if w.DropAsleep && w.Now < n.asleep {
		w.release(e.frame)
		return
	}
	n.receive(message{e.frame.in, e.frame})
}

// deaf reports whether the network has kept every beat of one member from the other for longer than the lease.
// A member that sends nothing does not make the other deaf.
func (w *World) deaf(from, to uint8) bool {
	p := &w.path[from][to]
	return p.lost > p.newest && w.Now.Sub(p.newest) > w.timing.Lease
}

// slack is by how much a beat may be late on its way without a member that stood still for up to its lease being taken for dead.
func (n *Node) slack() time.Duration {
	t := &n.Config.Timing
	return t.Dead - t.Lease - t.Beat
}

// overdue reports whether a beat of one member to another has been under way for longer than that.
func (w *World) overdue(from, to *Node) bool {
	p := &w.path[from.ID][to.ID]
	return p.late > p.newest && w.Now.Sub(p.late) >= to.slack()
}

// tape keeps heartbeats of a member for those who replay them.
type tape struct {
	frames []event
	every  int
}

// maxTape bounds a tape.
const maxTape = 400

// record keeps each order that is not the usual one and a part of the others.
func (t *tape) record(iface int, f *frame, o wire.Order) {
	t.every++
	if len(t.frames) < maxTape && (o > wire.Keep || t.every%8 == 0) {
		f.uses++ // for good
		t.frames = append(t.frames, event{kind: evFrame, iface: uint8(iface), frame: f})
	}
}

// replay sends everything on a member's tape again, to everybody.
func (w *World) replay(n *Node) {
	for _, e := range n.tape.frames {
		for _, to := range w.Nodes {
			if to != n {
				e.to, e.from = to, to.ID // it says nothing about the path from n
				w.post(&e, w.Net.Delay)
			}
		}
	}
}

// Deliver gives a member a frame that arrived on an interface, for stories that make their own frames.
func (n *Node) Deliver(iface int, b wire.Beat) {
	n.w.arrive(&event{to: n, from: n.ID, iface: uint8(iface), frame: n.w.seal(iface, 0, &b, 0)})
}
