// Package explain tells what becomes of a connection: which rules and which NAT apply to its first packet, and why. It
// evaluates the same rules that firmware/ruleset compiles, without a kernel; a test holds the two together.
package explain

import (
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// Packet is the first packet of a connection, as it comes in.
type Packet struct {
	From, To   netip.Addr
	Proto      uint8  // IANA number
	SourcePort uint16 // for protocols that have ports
	Port       uint16 // destination port
	Type       int    // for ICMP
	In         string // interface or device; "" means the one that leads to From
}

// Verdict is what becomes of the connection.
type Verdict string

// Verdicts.
const (
	Forwarded Verdict = "forwarded" // it goes on to another host
	Delivered Verdict = "delivered" // it reaches the gateway itself
	Dropped   Verdict = "dropped"   // nobody is told
	Rejected  Verdict = "rejected"  // the sender is told
)

// Step is one thing that happens to the packet.
type Step struct {
	// Rule is the one that did it: filter/NAME, nat/NAME, helper/NAME, management/NAME, ping/ZONE, spoofed/ZONE, dropped/forward or
	// dropped/input; also the name of its counter. Empty when no rule has a part in it.
	Rule string `json:"rule,omitempty"`
	Text string `json:"text"`
}

// Result is the whole story.
type Result struct {
	In      string  `json:"in"`            // interface
	InZone  string  `json:"in_zone"`       //
	Out     string  `json:"out,omitempty"` // interface, of what is forwarded or would be
	OutZone string  `json:"out_zone,omitempty"`
	Verdict Verdict `json:"verdict"`
	Steps   []Step  `json:"steps"`

	// As it leaves, or as the gateway sees it. From is a range when an address of a pool is chosen, and not valid when
	// it is the private address of Out.
	From       rules.Range `json:"from"`
	To         netip.Addr  `json:"to"`
	Port       uint16      `json:"port,omitempty"`
	RandomPort bool        `json:"random_port,omitempty"` // the source port is chosen at random
}

// Rules are the rules that had a part in it, in order.
func (r *Result) Rules() []string {
	var out []string
	for _, s := range r.Steps {
		if s.Rule != "" {
			out = append(out, s.Rule)
		}
	}
	return out
}

func (r *Result) step(rule, text string) { r.Steps = append(r.Steps, Step{rule, text}) }

func (r *Result) end(v Verdict, rule, text string) Result {
	r.Verdict = v
	r.step(rule, text)
	return *r
}

// evaluation is one packet on its way.
type evaluation struct {
	*rules.Rules
	Packet
	Result
	translated bool // DNAT has changed the destination
}

// Explain follows a packet through the rules.
func Explain(r *rules.Rules, p Packet) Result {
	e := &evaluation{Rules: r, Packet: p}
	e.Result.From, e.Result.To, e.Result.Port = rules.Single(p.From), p.To, p.Port
	e.Result.In = p.In
	if p.In == "" {
		e.Result.In = r.Route(p.From)
	}
	in := r.Interface(e.Result.In)
	if in == nil {
		return e.end(Dropped, "", "no interface leads to "+p.From.String()+": it cannot come from there, unless --in says where")
	}
	e.Result.In, e.InZone = in.Name, in.Zone
	switch {
	case in.Sync:
		e.step("", "comes in by "+in.Name+", the sync interface")
	case in.Zone == "":
		e.step("", "comes in by "+in.Name+", which is in no zone")
	default:
		e.step("", "comes in by "+in.Name+", zone "+in.Zone)
	}
	if in.Zone != "" {
		e.helper()
		e.dnat()
	}
	if slices.Contains(r.Local, e.Result.To) {
		return e.input(in)
	}
	return e.forward()
}

// matches reports whether the packet, as it is by now, meets the conditions, zones aside.
func (e *evaluation) matches(m *rules.Match) bool {
	return (len(m.Src) == 0 || rules.Contains(m.Src, e.Packet.From)) &&
		(len(m.Dst) == 0 || rules.Contains(m.Dst, e.Result.To)) &&
		(len(m.Services) == 0 || slices.ContainsFunc(m.Services, e.serves))
}

func (e *evaluation) serves(s rules.Service) bool {
	if s.Proto != e.Proto {
		return false
	}
	switch {
	case rules.HasPorts(s.Proto):
		return s.First <= e.Result.Port && e.Result.Port <= s.Last
	case s.Proto == rules.ICMP || s.Proto == rules.ICMPv6:
		return s.Type == rules.AnyType || s.Type == e.Type
	}
	return true
}

func in(zones []string, zone string) bool {
	return zone != "" && (len(zones) == 0 || slices.Contains(zones, zone))
}

// helper finds the helper that reads along in the connection, before anything is translated.
func (e *evaluation) helper() {
	for i := range e.Helpers {
		h := &e.Helpers[i]
		if proto, _ := h.Protocol.Transport(); proto != e.Proto || h.Port != e.Packet.Port || !in(h.Match.From, e.InZone) || !e.matches(&h.Match) {
			continue
		}
		e.step(h.ID, "the kernel's helper for "+string(h.Protocol)+" reads along: connections that it announces are translated and pass")
		return
	}
}

func (e *evaluation) dnat() {
	for i := range e.DNAT {
		d := &e.DNAT[i]
		if !in(d.Match.From, e.InZone) || !e.matches(&d.Match) {
			continue
		}
		if d.Exempt {
			e.step(d.ID, "destination stays "+e.Result.To.String())
			return
		}
		before := e.Result.To
		e.Result.To = d.To
		if d.Shift {
			e.Result.To = shift(before, d.Dst[0].First, d.To)
		}
		text := "destination becomes " + e.Result.To.String()
		if d.Port != 0 {
			e.Result.Port = d.Port
			text += " port " + itoa(d.Port)
		}
		e.translated = e.Result.To != before || e.Result.Port != e.Packet.Port
		e.step(d.ID, text)
		return
	}
}

// shift gives the address as far from to as a is from base.
func shift(a, base, to netip.Addr) netip.Addr {
	for ; base != a && base.IsValid(); base = base.Next() {
		to = to.Next()
	}
	return to
}

// spoofed reports whether the source cannot be behind the zone.
func (e *evaluation) spoofed(also ...rules.Range) bool {
	z := e.Zone(e.InZone)
	return z != nil && z.Sources != nil && !rules.Contains(z.Sources, e.Packet.From) && !rules.Contains(also, e.Packet.From)
}

func (e *evaluation) forward() Result {
	out := e.Interface(e.Route(e.Result.To))
	if out == nil {
		return e.end(Dropped, "", "no route leads to "+e.Result.To.String())
	}
	e.Out, e.OutZone = out.Name, out.Zone
	zone := out.Zone
	if zone == "" {
		zone = "none"
	}
	e.step("", "would leave by "+out.Name+", zone "+zone)
	if e.InZone != "" && e.spoofed() {
		return e.end(Dropped, "spoofed/"+e.InZone, "dropped: by the routes "+e.Packet.From.String()+" is not behind zone "+e.InZone)
	}
	for i := range e.Forward {
		f := &e.Forward[i]
		if !in(f.From, e.InZone) || !in(f.To, e.OutZone) || !e.matches(&f.Match) {
			continue
		}
		switch f.Action {
		case rules.Accept:
			e.step(f.ID, accepted(f))
			e.snat()
			e.Verdict = Forwarded
			return e.Result
		case rules.Reject:
			return e.end(Rejected, f.ID, "rejected")
		}
		return e.end(Dropped, f.ID, "dropped")
	}
	return e.end(Dropped, "dropped/forward", "dropped: no rule accepts it")
}

func accepted(f *rules.Filter) string {
	if f.Limit == nil {
		return "accepted"
	}
	text := "accepted, up to " + itoa(f.Limit.Rate) + "/" + f.Limit.Unit
	if f.Limit.PerSource {
		text += " of every source"
	}
	return text
}

// translates reports whether an entry of source NAT is for the packet.
func (e *evaluation) translates(s *rules.SNAT) bool {
	if len(s.Out) > 0 && !slices.Contains(s.Out, e.Out) || !in(s.Match.From, e.InZone) || s.Translated && !e.translated || !e.matches(&s.Match) {
		return false
	}
	v4 := e.Packet.From.Is4()
	switch {
	case s.Exempt && s.Family == 0:
		return true
	case s.Exempt || s.Masquerade:
		return v4 == (s.Family == 4)
	}
	return v4 == s.To.First.Is4()
}

func (e *evaluation) snat() {
	i := slices.IndexFunc(e.SNAT, func(s rules.SNAT) bool { return e.translates(&s) })
	if i < 0 {
		return
	}
	s := &e.SNAT[i]
	text := "source becomes "
	switch {
	case s.Exempt:
		e.step(s.ID, "source stays "+e.Packet.From.String())
		return
	case s.Masquerade:
		e.Result.From = rules.Range{}
		text += "the private address of " + e.Out
	case s.Shift:
		e.Result.From = rules.Single(shift(e.Packet.From, s.Src[0].First, s.To.First))
		text += e.Result.From.String()
	default:
		e.Result.From = s.To
		text += s.To.String()
	}
	if s.Random {
		e.RandomPort = true
		text += ", port at random"
	}
	e.step(s.ID, text)
}
