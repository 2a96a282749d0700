package capture

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// Trace is the capture of one port with what is known about the station behind it.
type Trace struct {
	Port    string       // lan-a
	Segment string       // lan
	Station string       // a
	Own     []netip.Addr // private addresses of the station there
	Frames  []Frame
}

// Finding is the result of one check.
type Finding struct {
	Name     string
	OK       bool
	Evidence string // numbers when it went well, the first offence when not
}

// heartbeat UDP port, DESIGN §5
const beatPort = 999

// sent are the frames that the station itself sent.
func (t Trace) sent(yield func(Frame) bool) {
	for _, f := range t.Frames {
		if f.Dir == In && !yield(f) {
			return
		}
	}
}

// Beats checks that every heartbeat that a gateway sent has the form of DESIGN §5: TTL 255, UDP 999→999,
// destination 11-00-00-00-NN-MM with MM the cluster ID, wrong IP and UDP checksums. Every trace must hold some.
func Beats(traces []Trace, cluster uint8) Finding {
	f := Finding{Name: "heartbeats: TTL 255, UDP 999→999, to 11:00:00:00:NN:MM, both checksums wrong"}
	total := 0
	var words []string
	for _, t := range traces {
		n, dst := 0, ether.MAC{}
		for fr := range t.sent {
			u, ok := ether.ParseUDP(fr.Data)
			if !ok || u.SrcPort != beatPort && u.DstPort != beatPort {
				continue
			}
			if why := beatForm(fr.Data, u, cluster); why != "" {
				f.Evidence = fmt.Sprintf("port %s, heartbeat %d at %s: %s", t.Port, n+1, clock(fr.Time), why)
				return f
			}
			n, dst = n+1, ether.Dst(fr.Data)
		}
		if n == 0 {
			f.Evidence = fmt.Sprintf("port %s sent no heartbeat", t.Port)
			return f
		}
		total += n
		words = append(words, fmt.Sprintf("%s %d to %v", t.Port, n, dst))
	}
	f.OK = total > 0
	f.Evidence = fmt.Sprintf("%d heartbeats: %s", total, strings.Join(words, ", "))
	return f
}

// beatForm says what is wrong with a heartbeat, empty when nothing is.
func beatForm(frame []byte, u ether.UDP, cluster uint8) string {
	dst := ether.Dst(frame)
	switch {
	case u.SrcPort != beatPort || u.DstPort != beatPort:
		return fmt.Sprintf("UDP %d→%d", u.SrcPort, u.DstPort)
	case u.IP.TTL != 255:
		return fmt.Sprintf("TTL %d", u.IP.TTL)
	case [4]byte(dst[:4]) != [4]byte{0x11, 0, 0, 0} || dst[5] != cluster:
		return fmt.Sprintf("destination %v, want 11:00:00:00:NN:%02x", dst, cluster)
	case u.IP.ChecksumOK:
		return "the IP checksum is right"
	case u.ChecksumOK || u.NoChecksum:
		return "the UDP checksum is right or missing"
	}
	return ""
}

// Holding reports whether a frame is a heartbeat that holds its sender's gate open.
func Holding(frame []byte, key *wire.Key) bool {
	_, sealed, err := wire.ParseFrame(frame)
	if err != nil {
		return false
	}
	payload, err := key.Open(sealed)
	if err != nil {
		return false
	}
	b, err := wire.ParseBeat(payload)
	return err == nil && (b.Has(wire.Holder) || b.Order == wire.Open || b.Order == wire.Keep)
}

// shared reports whether an address is a shared unicast MAC, 10-00-00-00-NN-MM.
func shared(m ether.MAC, cluster uint8) bool {
	return [4]byte(m[:4]) == [4]byte{0x10, 0, 0, 0} && m[5] == cluster
}

// merged are the frames that the stations of several traces sent, in time order.
func merged(traces []Trace) []sentFrame {
	var all []sentFrame
	for i := range traces {
		for f := range traces[i].sent {
			all = append(all, sentFrame{f, &traces[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b sentFrame) int { return a.Time.Compare(b.Time) })
	return all
}

type sentFrame struct {
	Frame
	trace *Trace
}

// Lease checks that a member uses the shared MACs only within the lease after a heartbeat that holds its gate;
// after its last one, on whatever interface, it must be silent. traces are all ports of that member. slack
// covers the kernel's timer steps, and that a beat and a frame that leave by two NICs one after the other may be
// seen in the other order.
func Lease(member string, traces []Trace, cluster uint8, key *wire.Key, lease, slack time.Duration) Finding {
	f := Finding{Name: fmt.Sprintf("%s uses the shared MACs only within the lease after its holder beats", member)}
	all := merged(traces)
	var beats []time.Time
	for _, s := range all {
		if Holding(s.Data, key) {
			beats = append(beats, s.Time)
		}
	}
	var worst, final time.Duration
	uses := 0
	for _, s := range all {
		src := ether.Src(s.Data)
		if !shared(src, cluster) {
			continue
		}
		uses++
		next, _ := slices.BinarySearchFunc(beats, s.Time, func(b, t time.Time) int { return b.Compare(t) })
		age := time.Duration(-1)
		if next > 0 {
			age = s.Time.Sub(beats[next-1])
		}
		if age < 0 || age > lease+slack {
			if next < len(beats) && beats[next].Sub(s.Time) <= slack {
				continue // the beat that opened the gate, seen a moment late
			}
			f.Evidence = tooLate(s, age, lease, slack)
			return f
		}
		worst = max(worst, age)
		if next == len(beats) {
			final = age
		}
	}
	f.OK = true
	f.Evidence = fmt.Sprintf("%d frames from shared MACs, %d holder beats; longest from a beat to a use %v, the lease is %v",
		uses, len(beats), round(worst), lease)
	if final > 0 {
		f.Evidence += fmt.Sprintf("; the last %v after its last holder beat", round(final))
	} else {
		f.Evidence += "; none after its last holder beat"
	}
	return f
}

// tooLate describes a use of a shared MAC without a beat that allows it; age is negative when there was no beat.
func tooLate(s sentFrame, age, lease, slack time.Duration) string {
	use := fmt.Sprintf("port %s sent from %v at %s", s.trace.Port, ether.Src(s.Data), clock(s.Time))
	if age < 0 {
		return use + ", before any holder beat"
	}
	return fmt.Sprintf("%s, %v after the last holder beat; the lease is %v (allowed on top: %v)", use, round(age), lease, slack)
}

// Announcement is a gratuitous ARP on the wire.
type Announcement struct {
	Time time.Time
	Port string
	VIP  netip.Addr
	MAC  ether.MAC // sender address in the ARP message
}

// Announced reports whether a frame is a gratuitous ARP from a shared MAC, in the header as well as in the message.
func Announced(frame []byte, cluster uint8) (Announcement, bool) {
	a, ok := ether.ParseARP(frame)
	if !ok || !a.Gratuitous() || !shared(a.SenderMAC, cluster) || ether.Src(frame) != a.SenderMAC {
		return Announcement{}, false
	}
	return Announcement{VIP: a.SenderIP, MAC: a.SenderMAC}, true
}

// Announcements lists the gratuitous ARPs that stations sent after a moment, in time order.
func Announcements(traces []Trace, cluster uint8, after time.Time) []Announcement {
	var out []Announcement
	for _, s := range merged(traces) {
		if a, ok := Announced(s.Data, cluster); ok && s.Time.After(after) {
			a.Time, a.Port = s.Time, s.trace.Port
			out = append(out, a)
		}
	}
	return out
}

func clock(t time.Time) string            { return t.Format("15:04:05.000000") }
func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
