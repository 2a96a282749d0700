// Package traffic remembers the volume of a member for some minutes, and holds what it is after a failover against what it was
// before. It is pure: whoever samples and asks tells it the time, on one monotonic clock. Nothing of it is kept on a disk.
package traffic

import (
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// Interval is the time between two samples; what is remembered is bounded by it.
const (
	Interval   = 2 * time.Second
	maxSamples = int(api.MaxOver/Interval) + 1
	maxChanges = 16
	// beforeTime is over what time the volume before a change is measured.
	beforeTime = time.Minute
	// settle is left out after a change: connections pick up.
	settle = time.Second
)

// Count is packets and bytes since some time.
type Count struct{ Packets, Bytes uint64 }

// Port is what one interface has counted. The fields are those of api.InterfaceVolume.
type Port struct {
	Name                      string
	Sync                      bool
	In, Out, Cluster, Refused Count
}

// Sample is the counts of all interfaces at one time.
type Sample struct {
	At    time.Duration
	Holds bool // this member holds the role
	Ports []Port
}

// Role is who holds the role, as this member knows.
type Role struct {
	Holder uint8 // 0: nobody is known to
	Term   uint64
	Since  time.Duration // when it changed last; not used when it is not before now
}

// change is one of the holder.
type change struct {
	at       time.Duration
	from, to uint8
	term     uint64
	own      *volume // of this member before
	theirs   *volume // of the member that had the role before, as it said itself
}

// volume is one that stays: its age is worked out when it is shown.
type volume struct {
	end time.Duration
	api.Volume
}

// Recorder remembers. Make it with NewRecorder. It is not safe for use by several goroutines.
type Recorder struct {
	self    uint8
	name    string
	samples []Sample // oldest first
	changes []change // oldest first
	holder  uint8    // the last that was known
	term    uint64
	told    map[uint8]volume
}

// NewRecorder makes one for a member.
func NewRecorder(self uint8, name string) *Recorder {
	return &Recorder{self: self, name: name, told: map[uint8]volume{}}
}

// Add takes in a sample, younger than those before.
func (r *Recorder) Add(s Sample) {
	if n := len(r.samples); n > 0 && s.At <= r.samples[n-1].At {
		return
	}
	if len(r.samples) == maxSamples {
		r.samples = slices.Delete(r.samples, 0, 1)
	}
	r.samples = append(r.samples, s)
}

// Observe takes in who holds the role. While nobody does, the last one counts: it is he whose traffic is missed.
func (r *Recorder) Observe(now time.Duration, role Role) {
	if role.Holder == 0 {
		return
	}
	was := r.holder
	r.holder, r.term = role.Holder, role.Term
	if was == 0 || was == role.Holder {
		return
	}
	c := change{at: now, from: was, to: role.Holder, term: role.Term}
	if role.Since <= now && now-role.Since < 2*Interval {
		c.at = role.Since // else it is the time of another change
	}
	if v, ok := r.between(max(c.at-beforeTime, r.settled()), c.at); ok {
		c.own = &v
	}
	if v, ok := r.told[was]; ok && v.end <= c.at && c.at-v.end < beforeTime {
		c.theirs = &v
	}
	if len(r.changes) == maxChanges {
		r.changes = slices.Delete(r.changes, 0, 1)
	}
	r.changes = append(r.changes, c)
}

// Told takes in what the member that holds the role says of its volume now.
func (r *Recorder) Told(now time.Duration, from uint8, v api.Volume) {
	r.told[from] = volume{now, v}
}

// settled is when the traffic of the present holder began to be his: a moment after the last change, 0 when none was seen.
func (r *Recorder) settled() time.Duration {
	if n := len(r.changes); n > 0 {
		return r.changes[n-1].at + settle
	}
	return 0
}

// Settled is for how long the present holder's traffic has been his, as far as is known, at most the time of a comparison.
func (r *Recorder) Settled(now time.Duration) time.Duration {
	return min(max(now-r.settled(), 0), beforeTime)
}

// Holder is who holds the role, 0 while nobody has.
func (r *Recorder) Holder() uint8 { return r.holder }

// between is the volume of a time; false when fewer than two samples are in it.
func (r *Recorder) between(from, to time.Duration) (volume, bool) {
	var in []Sample
	for _, s := range r.samples {
		if s.At >= from && s.At <= to {
			in = append(in, s)
		}
	}
	if len(in) < 2 {
		return volume{}, false
	}
	first, last := in[0], in[len(in)-1]
	span := last.At - first.At
	v := volume{end: last.At, Volume: api.Volume{Member: r.name, Over: member.Duration(span), Holds: last.Holds, Interfaces: []api.InterfaceVolume{}}}
	for _, p := range last.Ports {
		out := api.InterfaceVolume{Interface: p.Name, Sync: p.Sync}
		for _, kind := range []struct {
			of  func(Port) Count
			sum *api.Rate
		}{
			{func(p Port) Count { return p.In }, &out.In}, {func(p Port) Count { return p.Out }, &out.Out},
			{func(p Port) Count { return p.Cluster }, &out.Cluster}, {func(p Port) Count { return p.Refused }, &out.Refused},
		} {
			*kind.sum = rate(in, p.Name, kind.of, span)
		}
		v.Interfaces = append(v.Interfaces, out)
	}
	return v, true
}

// rate adds up what was counted between samples. Counters begin anew with their device, or with the gate.
func rate(samples []Sample, name string, of func(Port) Count, span time.Duration) api.Rate {
	var sum, before Count
	seen := false
	for _, s := range samples {
		i := slices.IndexFunc(s.Ports, func(p Port) bool { return p.Name == name })
		if i < 0 {
			continue
		}
		now := of(s.Ports[i])
		if seen {
			sum.Packets += since(before.Packets, now.Packets)
			sum.Bytes += since(before.Bytes, now.Bytes)
		}
		before, seen = now, true
	}
	return api.Rate{Packets: float64(sum.Packets) / span.Seconds(), Bytes: float64(sum.Bytes) / span.Seconds()}
}

func since(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// at gives a volume with its age.
func (v *volume) at(now time.Duration) *api.Volume {
	if v == nil {
		return nil
	}
	out := v.Volume
	out.Ago = member.Duration(now - v.end)
	return &out
}

func (c change) shown(now time.Duration, names func(uint8) string) api.RoleChange {
	return api.RoleChange{
		Ago: member.Duration(now - c.at), From: c.from, FromName: names(c.from), To: c.to, ToName: names(c.to), Term: c.term, Before: c.own.at(now),
	}
}

// Traffic is what this member says of its volume over the newest time.
func (r *Recorder) Traffic(now, over time.Duration, names func(uint8) string) api.Traffic {
	out := api.Traffic{Member: r.name, Volume: *r.newest(now, now-over).at(now), Changes: []api.RoleChange{}}
	if len(r.samples) > 0 {
		out.Recorded = member.Duration(now - r.samples[0].At)
	}
	for _, c := range r.changes {
		out.Changes = append(out.Changes, c.shown(now, names))
	}
	return out
}

// newest is the volume since a time; an empty one when there are too few samples.
func (r *Recorder) newest(now, from time.Duration) *volume {
	v, ok := r.between(from, now)
	if !ok {
		v = volume{end: now, Volume: api.Volume{Member: r.name, Interfaces: []api.InterfaceVolume{}}}
		if n := len(r.samples); n > 0 {
			v.Holds = r.samples[n-1].Holds
		}
	}
	return &v
}
