package gatewayd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
)

// protocols names what an operator filters by; others are numbers.
var protocols = map[string]uint8{
	"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "gre": unix.IPPROTO_GRE,
	"esp": unix.IPPROTO_ESP, "icmpv6": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP, "udplite": unix.IPPROTO_UDPLITE,
}

// tcpStates is enum tcp_conntrack of linux/netfilter/nf_conntrack_tcp.h.
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// side is what one direction of a connection has to be like.
type side struct {
	src, dst     netip.Prefix
	sport, dport ports
}

// ports is a range; the zero value is all.
type ports struct{ first, last uint16 }

// filter chooses connections.
type filter struct {
	limit       int
	proto       uint8 // 0: all
	orig, reply side
	state       string // of TCP
	status      uint32 // bits that must be set
	without     uint32 // bits that must not
	mark, mask  uint32
	zone        int // -1: all
}

// statuses are states that do not come from TCP.
var statuses = map[string]filter{
	"ASSURED": {status: statesync.StatusAssured}, "UNREPLIED": {without: statesync.StatusSeenReply}, "OFFLOAD": {status: statesync.StatusOffload},
}

func parseFilter(q url.Values) (f filter, err error) {
	f.limit, f.zone = api.DefaultLimit, -1
	for key, parse := range map[string]func(string) error{
		"limit": f.parseLimit, "proto": f.parseProto, "state": f.parseState, "mark": f.parseMark, "zone": f.parseZone,
		"src": prefixInto(&f.orig.src), "dst": prefixInto(&f.orig.dst), "sport": portsInto(&f.orig.sport), "dport": portsInto(&f.orig.dport),
		"reply-src": prefixInto(&f.reply.src), "reply-dst": prefixInto(&f.reply.dst),
		"reply-sport": portsInto(&f.reply.sport), "reply-dport": portsInto(&f.reply.dport),
	} {
		if v := q.Get(key); v != "" {
			if err := parse(v); err != nil {
				return f, fmt.Errorf("%s %q: %w", key, v, err)
			}
		}
	}
	return f, nil
}

func (f *filter) parseLimit(v string) (err error) {
	if f.limit, err = strconv.Atoi(v); err != nil || f.limit < 1 {
		return errors.New("not a number from 1 on")
	}
	return nil
}

func (f *filter) parseProto(v string) error {
	number, known := protocols[strings.ToLower(v)]
	if !known {
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			return errors.New("not known: tcp, udp, icmp, icmpv6, sctp, gre, esp, udplite or a number")
		}
		number = uint8(n)
	}
	f.proto = number
	return nil
}

func (f *filter) parseState(v string) error {
	v = strings.ToUpper(v)
	if s, yes := statuses[v]; yes {
		f.status, f.without = s.status, s.without
		return nil
	}
	if !slices.Contains(tcpStates, v) {
		return fmt.Errorf("not known: %s, assured, unreplied or offload", strings.ToLower(strings.Join(tcpStates[1:], ", ")))
	}
	f.state = v
	return nil
}

func (f *filter) parseMark(v string) error {
	value, mask, masked := strings.Cut(v, "/")
	n, err := strconv.ParseUint(value, 0, 32)
	m := uint64(1<<32 - 1)
	if err == nil && masked {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	if err != nil || m == 0 {
		return errors.New("not a number, or number/mask")
	}
	f.mark, f.mask = uint32(n), uint32(m)
	return nil
}

func (f *filter) parseZone(v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return errors.New("not a number from 0 to 65535")
	}
	f.zone = int(n)
	return nil
}

func prefixInto(into *netip.Prefix) func(string) error {
	return func(v string) (err error) {
		if a, err := netip.ParseAddr(v); err == nil {
			*into = netip.PrefixFrom(a, a.BitLen())
			return nil
		}
		if *into, err = netip.ParsePrefix(v); err != nil {
			return errors.New("neither an address nor a network")
		}
		return nil
	}
}

func portsInto(into *ports) func(string) error {
	return func(v string) error {
		first, last, isRange := strings.Cut(v, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || a == 0 || b < a {
			return errors.New("neither a port nor a range of ports, 1-65535")
		}
		*into = ports{uint16(a), uint16(b)}
		return nil
	}
}

func (p ports) has(port uint16) bool { return p == ports{} || p.first <= port && port <= p.last }

func (s *side) matches(family uint8, t *statesync.Tuple) bool {
	return (!s.src.IsValid() || s.src.Contains(t.Src.Netip(family))) && (!s.dst.IsValid() || s.dst.Contains(t.Dst.Netip(family))) &&
		s.sport.has(t.SrcPort) && s.dport.has(t.DstPort)
}

func (f *filter) matches(c *statesync.Flow) bool {
	switch {
	case f.proto != 0 && c.Orig.Proto != f.proto,
		f.state != "" && (c.Has&statesync.HasTCP == 0 || stateOf(c) != f.state),
		f.status != 0 && c.Status&f.status == 0, c.Status&f.without != 0,
		(c.Mark^f.mark)&f.mask != 0, f.zone >= 0 && int(c.Zone) != f.zone:
		return false
	}
	return f.orig.matches(c.Family, &c.Orig) && f.reply.matches(c.Family, &c.Reply)
}

// writeConnections writes api.Connections as the table is read, so that a full table takes no memory.
func writeConnections(ctx context.Context, w http.ResponseWriter, f filter) {
	d, err := ctnl.OpenDump(false)
	if err != nil {
		api.Reply(w, nil, err)
		return
	}
	defer d.Close()
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	defer out.Flush()
	enc := json.NewEncoder(out)
	out.WriteString(`{"connections":[`)
	matching := 0
	var failed error
	err = d.Each(func(flow *statesync.Flow, orig, reply ctnl.Counters) bool {
		if !f.matches(flow) {
			return ctx.Err() == nil
		}
		if matching++; matching > f.limit {
			return ctx.Err() == nil
		}
		if matching > 1 {
			out.WriteByte(',')
		}
		failed = enc.Encode(connection(flow, orig, reply))
		return failed == nil
	})
	fmt.Fprintf(out, `],"matching":%d`, matching)
	if err != nil {
		out.WriteString(`,"error":`)
		enc.Encode(err.Error())
	}
	out.WriteByte('}')
}

func stateOf(f *statesync.Flow) string {
	if f.Has&statesync.HasTCP == 0 || int(f.TCP.State) >= len(tcpStates) {
		return ""
	}
	return tcpStates[f.TCP.State]
}

func connection(f *statesync.Flow, orig, reply ctnl.Counters) api.Connection {
	c := api.Connection{
		Proto:     strconv.Itoa(int(f.Orig.Proto)),
		Original:  tuple(f.Family, &f.Orig, orig),
		Reply:     tuple(f.Family, &f.Reply, reply),
		State:     stateOf(f),
		Timeout:   f.Timeout,
		Assured:   f.Status&statesync.StatusAssured != 0,
		Offload:   f.Status&statesync.StatusOffload != 0,
		Unreplied: f.Status&statesync.StatusSeenReply == 0,
		Mark:      f.Mark,
		Zone:      f.Zone,
		Helper:    f.Helper,
	}
	for name, number := range protocols {
		if number == f.Orig.Proto {
			c.Proto = name
		}
	}
	return c
}

func tuple(family uint8, t *statesync.Tuple, n ctnl.Counters) api.Tuple {
	out := api.Tuple{
		Src: t.Src.Netip(family), Dst: t.Dst.Netip(family), Packets: n.Packets, Bytes: n.Bytes, SrcPort: t.SrcPort, DstPort: t.DstPort,
	}
	if t.Proto == statesync.ICMP || t.Proto == statesync.ICMPv6 {
		out.DstPort = 0 // type and code
	}
	return out
}

func connectionCount() (api.ConnectionCount, error) {
	var out api.ConnectionCount
	for name, into := range map[string]*uint32{"count": &out.Count, "max": &out.Max} {
		v, err := strconv.ParseUint(firstLine("/proc/sys/net/netfilter/nf_conntrack_"+name), 10, 32)
		if err != nil {
			return out, &api.Error{Message: "the kernel does not count connections", Hint: "load the module nf_conntrack"}
		}
		*into = uint32(v)
	}
	return out, nil
}
