package vswitch

import (
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

const (
	// MaxFrame is the longest frame that is taken from a port: QEMU's NET_BUFSIZE (4096 + 65536). A longer
	// length word means that the stream is out of step.
	MaxFrame = 4096 + 65536

	// DefaultAge is the ageing time that IEEE 802.1Q-2018 table 8-6 recommends.
	DefaultAge = 300 * time.Second
	// DefaultStations bounds the table. When it is full, new stations are not learned, their frames are flooded.
	DefaultStations = 4096
)

// Verdict says what the table did with a frame.
type Verdict string

// Verdicts of Table.Forward.
const (
	Forwarded Verdict = "forwarded"  // to the one port of a known station
	Flooded   Verdict = "flooded"    // group address or unknown station: to every other port
	Local     Verdict = "local"      // the station is on the port that the frame came from
	Runt      Verdict = "runt"       // shorter than an Ethernet header
	BadSource Verdict = "bad source" // the source is a group address, which no station has
	Reserved  Verdict = "reserved"   // 01-80-C2-00-00-0x never passes a bridge (IEEE 802.1Q-2018 8.6.3)
)

// Move says that a station was seen on another port than before.
type Move struct {
	MAC      ether.MAC
	From, To int // port numbers
	At       time.Time
}

// Decision is what to do with one frame.
type Decision struct {
	Verdict Verdict
	Out     []int // ports to send it to, ascending
	Move    *Move // set when this frame moved its source to another port
}

type station struct {
	port int
	seen time.Time
}

// Table is the forwarding database of one switch. It is pure: no clock, no lock. The zero value is not usable,
// see NewTable.
type Table struct {
	age      time.Duration
	limit    int
	stations map[ether.MAC]station
}

// NewTable makes an empty table. A station that was silent for age is forgotten; at most limit are known.
// Zero values stand for DefaultAge and DefaultStations.
func NewTable(age time.Duration, limit int) *Table {
	if age <= 0 {
		age = DefaultAge
	}
	if limit <= 0 {
		limit = DefaultStations
	}
	return &Table{age: age, limit: limit, stations: make(map[ether.MAC]station)}
}

// Forward learns the source of a frame that arrived on port in and says where the frame goes. ports are the
// ports that are up, ascending.
func (t *Table) Forward(frame []byte, in int, ports []int, now time.Time) Decision {
	if len(frame) < ether.HeaderLen {
		return Decision{Verdict: Runt}
	}
	dst, src := ether.Dst(frame), ether.Src(frame)
	if src.Group() {
		return Decision{Verdict: BadSource}
	}
	d := Decision{Move: t.learn(src, in, now)}
	if reserved(dst) {
		d.Verdict = Reserved
		return d
	}
	if !dst.Group() {
		if s, ok := t.lookup(dst, now); ok && slices.Contains(ports, s.port) {
			if s.port == in {
				d.Verdict = Local
				return d
			}
			d.Verdict, d.Out = Forwarded, []int{s.port}
			return d
		}
	}
	d.Verdict = Flooded
	for _, p := range ports {
		if p != in {
			d.Out = append(d.Out, p)
		}
	}
	return d
}

// learn notes where a station is. A move is followed at once: after a takeover the first frame from the new
// holder must bring the traffic to it.
func (t *Table) learn(src ether.MAC, in int, now time.Time) *Move {
	old, known := t.lookup(src, now)
	if !known && len(t.stations) >= t.limit {
		t.expire(now)
		if len(t.stations) >= t.limit {
			return nil
		}
	}
	t.stations[src] = station{port: in, seen: now}
	if known && old.port != in {
		return &Move{MAC: src, From: old.port, To: in, At: now}
	}
	return nil
}

func (t *Table) lookup(m ether.MAC, now time.Time) (station, bool) {
	s, ok := t.stations[m]
	if ok && now.Sub(s.seen) >= t.age {
		delete(t.stations, m)
		return station{}, false
	}
	return s, ok
}

func (t *Table) expire(now time.Time) {
	for m, s := range t.stations {
		if now.Sub(s.seen) >= t.age {
			delete(t.stations, m)
		}
	}
}

// Flush forgets every station behind a port, as a switch does when the port loses its link.
func (t *Table) Flush(port int) {
	for m, s := range t.stations {
		if s.port == port {
			delete(t.stations, m)
		}
	}
}

// Port returns the port behind which a station is, as known at now.
func (t *Table) Port(m ether.MAC, now time.Time) (int, bool) {
	s, ok := t.lookup(m, now)
	return s.port, ok
}

func reserved(m ether.MAC) bool {
	return m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0 && m[5] <= 0x0f
}
