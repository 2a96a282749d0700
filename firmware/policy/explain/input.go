package explain

import (
	"slices"
	"strconv"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// input follows a packet to the gateway itself.
func (e *evaluation) input(from *rules.Interface) Result {
	e.step("", e.Result.To.String()+" is an address of the gateway")
	switch {
	case e.Proto == rules.ICMPv6 && slices.Contains(rules.Essential6, uint8(e.Type)):
		return e.end(Delivered, "", "delivered: IPv6 needs it on the link")
	case from.Sync:
		return e.end(Delivered, "", "delivered: the sync interface is open to the members")
	case slices.Contains(e.Peers, e.Packet.From) && e.Proto == rules.UDP && e.Result.Port == rules.PeerPort:
		return e.end(Delivered, "", "delivered: the members tell each other their state (CCP)")
	case slices.Contains(e.Peers, e.Packet.From) && e.Proto == rules.TCP && e.Result.Port == rules.PolicyPort:
		return e.end(Delivered, "", "delivered: the members give each other the policy")
	case slices.Contains(e.Peers, e.Packet.From) && (e.Proto == rules.UDP || e.Proto == rules.TCP) && e.Result.Port == rules.SyncPort:
		return e.end(Delivered, "", "delivered: the members replicate their connections (state sync)")
	case e.InZone == "":
		return e.end(Dropped, "dropped/input", "dropped: the interface is in no zone")
	case e.spoofed(rules.LinkLocal):
		return e.end(Dropped, "spoofed/"+e.InZone, "dropped: by the routes "+e.Packet.From.String()+" is not behind zone "+e.InZone)
	}
	if z := e.Zone(e.InZone); z.Ping && (e.Proto == rules.ICMP && e.Type == 8 || e.Proto == rules.ICMPv6 && e.Type == 128) {
		return e.end(Delivered, "ping/"+z.Name, "delivered: zone "+z.Name+" may ping")
	}
	if f := e.access(true); f != nil {
		return e.end(Delivered, f.ID, "delivered")
	}
	if slices.Contains(e.Shared, e.Result.To) {
		return e.end(Dropped, "", "dropped: a shared address answers nobody but those whom management lets in with vips: true")
	}
	if f := e.access(false); f != nil {
		return e.end(Delivered, f.ID, "delivered")
	}
	return e.end(Dropped, "dropped/input", "dropped: no entry of management lets it in")
}

// access finds the first entry of management for the packet, among those for shared addresses or the others.
func (e *evaluation) access(shared bool) *rules.Filter {
	for i := range e.Input {
		f := &e.Input[i]
		if f.Shared == shared && in(f.From, e.InZone) && e.matches(&f.Match) {
			return f
		}
	}
	return nil
}

func itoa[T uint16 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }
