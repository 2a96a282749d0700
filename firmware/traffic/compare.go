package traffic

import (
	"fmt"
	"math"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// What a comparison goes by.
const (
	// enough is the time after a failover that says something.
	enough = 3 * time.Second
	// resembles is the share of the volume before that is expected at least.
	resembles = 0.5
	// silent is the share of one interface below which it counts as having gone silent.
	silent = 0.1
	// littlePackets and littleBytes, a second: less says nothing.
	littlePackets, littleBytes = 5, 1000
)

// Asked is the volume of the member that had the role before, as it says itself now.
type Asked struct {
	Volume *api.Volume // nil: it did not say
	Why    string      // why not
}

// Predecessor names the member that has to be asked for its volume before the last failover, and the term that began then; false
// when nobody has to be.
func (r *Recorder) Predecessor() (id uint8, term uint64, ok bool) {
	if len(r.changes) == 0 {
		return 0, 0, false
	}
	last := r.changes[len(r.changes)-1]
	return last.from, last.term, last.to == r.self && r.earlier() == nil
}

// Before finds in what a member says the volume that it had before this member's term.
func Before(t api.Traffic, self uint8, term uint64) *api.Volume {
	for _, c := range t.Changes {
		if c.To == self && c.Term == term {
			return c.Before
		}
	}
	return nil
}

// earlier is the newest change at which this member lost the role, and its volume until then is known.
func (r *Recorder) earlier() *change {
	for i := len(r.changes) - 1; i >= 0; i-- {
		if c := &r.changes[i]; c.from == r.self && c.own != nil {
			return c
		}
	}
	return nil
}

// Compare holds the volume of this member over the newest time against the one before the last failover: after a failover and a
// fail-back its own of before, else that of the member that had the role before.
func (r *Recorder) Compare(now, over time.Duration, asked Asked, names func(uint8) string) api.TrafficComparison {
	out := api.TrafficComparison{Member: r.name, Holds: r.holder == r.self, Result: api.VerifySkipped}
	if len(r.changes) == 0 {
		out.After = *r.newest(now, now-over).at(now)
		recorded := time.Duration(0)
		if len(r.samples) > 0 {
			recorded = now - r.samples[0].At
		}
		out.Text = fmt.Sprintf("no failover was seen in the %v since gatewayd began to count: there is nothing to compare with", recorded.Round(time.Second))
		return out
	}
	last := r.changes[len(r.changes)-1]
	shown := last.shown(now, names)
	shown.Before = nil
	out.Change = &shown
	out.After = *r.newest(now, max(now-over, last.at+settle)).at(now)
	own := r.earlier()
	switch {
	case own != nil:
		out.Before = own.own.at(now)
		out.Basis = fmt.Sprintf("%s itself, before it lost the role to %s", r.name, names(own.to))
	case !out.Holds:
		out.Text = "this member has not held the role since gatewayd began to count"
		return out
	case asked.Volume != nil:
		out.Before = asked.Volume
		out.Basis = fmt.Sprintf("%s, before it lost the role, as it says now", names(last.from))
	case last.theirs != nil:
		out.Before = last.theirs.at(now)
		out.Basis = fmt.Sprintf("%s, as it said %v before the failover", names(last.from), (last.at - last.theirs.end).Round(time.Second))
	default:
		out.Result = api.VerifyUnknown
		out.Text = fmt.Sprintf("the volume of %s before the failover is not known", names(last.from))
		if asked.Why != "" {
			out.Text += ": " + asked.Why
		}
		out.Next = "compare with what your monitoring has of it"
		return out
	}
	before, after := Total(out.Before), Total(&out.After)
	out.PacketRatio, out.ByteRatio = ratio(before.Packets, after.Packets), ratio(before.Bytes, after.Bytes)
	if !out.Holds {
		out.Text = fmt.Sprintf("this member has not the role: %s before, %s now", Words(before), Words(after))
		return out
	}
	judge(&out, before, after)
	return out
}

// judge says whether the volume after a failover resembles the one before.
func judge(c *api.TrafficComparison, before, after api.Rate) {
	said := fmt.Sprintf("%s before, %s after: %s of the packets, %s of the bytes", Words(before), Words(after), percent(c.PacketRatio), percent(c.ByteRatio))
	if before.Packets < littlePackets && before.Bytes < littleBytes {
		c.Text = fmt.Sprintf("there was too little traffic before the failover to compare with: %s", Words(before))
		return
	}
	if time.Duration(c.After.Over) < enough {
		c.Result, c.Next = api.VerifyUnknown, "ask again in a few seconds"
		c.Text = fmt.Sprintf("only %v of the time after the failover are counted yet", time.Duration(c.After.Over).Round(100*time.Millisecond))
		return
	}
	const next = "see whether hosts and switches send to this member: traffic, then sniff on the interface; cluster failover moves the role and announces again"
	for _, b := range c.Before.Interfaces {
		for _, a := range c.After.Interfaces {
			much := b.Cluster.Packets >= littlePackets || b.Cluster.Bytes >= littleBytes
			if a.Interface == b.Interface && much && a.Cluster.Packets < silent*b.Cluster.Packets && a.Cluster.Bytes < silent*b.Cluster.Bytes {
				c.Result, c.Next = api.VerifyFailed, next
				c.Text = fmt.Sprintf("%s has gone silent: %s before, %s after", a.Interface, Words(b.Cluster), Words(a.Cluster))
				return
			}
		}
	}
	if c.PacketRatio < resembles && c.ByteRatio < resembles {
		c.Result, c.Next, c.Text = api.VerifyFailed, next, said
		return
	}
	c.Result, c.Text = api.VerifyOK, said
}

// Total is what came in for the cluster on all interfaces.
func Total(v *api.Volume) (sum api.Rate) {
	for _, f := range v.Interfaces {
		sum.Packets += f.Cluster.Packets
		sum.Bytes += f.Cluster.Bytes
	}
	return sum
}

func ratio(before, after float64) float64 {
	if before <= 0 {
		return 0
	}
	return after / before
}

func percent(r float64) string { return fmt.Sprintf("%.0f %%", 100*r) }

// Words is a rate for people.
func Words(r api.Rate) string { return Packets(r.Packets) + ", " + Bytes(r.Bytes) }

// Packets is a rate of packets for people.
func Packets(n float64) string {
	if n > 0 && n < 10 {
		return fmt.Sprintf("%.1f packets/s", n)
	}
	return fmt.Sprintf("%.0f packets/s", n)
}

// Bytes is a rate of bytes for people.
func Bytes(n float64) string {
	units := []string{"B/s", "kB/s", "MB/s", "GB/s"}
	i := 0
	for n = math.Max(n, 0); n >= 1000 && i < len(units)-1; i++ {
		n /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%.0f %s", n, units[i])
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
