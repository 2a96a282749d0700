package gatewayd

import (
	"fmt"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// protocols names what an operator filters by; others are numbers.
var protocols = map[string]uint8{
	"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "gre": unix.IPPROTO_GRE,
	"esp": unix.IPPROTO_ESP, "icmpv6": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP, "udplite": unix.IPPROTO_UDPLITE,
}

// tcpStates is enum tcp_conntrack of linux/netfilter/nf_conntrack_tcp.h.
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// filter chooses connections by their original direction.
type filter struct {
	limit    int
	proto    uint8 // 0: all
	src, dst netip.Prefix
}

func parseFilter(q url.Values) (f filter, err error) {
	f.limit = api.DefaultLimit
	if v := q.Get("limit"); v != "" {
		if f.limit, err = strconv.Atoi(v); err != nil || f.limit < 1 {
			return f, fmt.Errorf("limit %q is not a number from 1 on", v)
		}
	}
	if v := q.Get("proto"); v != "" {
		number, known := protocols[v]
		if !known {
			n, err := strconv.ParseUint(v, 10, 8)
			if err != nil {
				return f, fmt.Errorf("protocol %q is not known: tcp, udp, icmp or a number", v)
			}
			number = uint8(n)
		}
		f.proto = number
	}
	for key, into := range map[string]*netip.Prefix{"src": &f.src, "dst": &f.dst} {
		v := q.Get(key)
		if v == "" {
			continue
		}
		if a, err := netip.ParseAddr(v); err == nil {
			*into = netip.PrefixFrom(a, a.BitLen())
		} else if *into, err = netip.ParsePrefix(v); err != nil {
			return f, fmt.Errorf("%s %q is neither an address nor a network", key, v)
		}
	}
	return f, nil
}

func (f filter) matches(c *conntrack.Flow) bool {
	t := &c.TupleOrig
	return (f.proto == 0 || t.Proto.Protocol == f.proto) &&
		(!f.src.IsValid() || f.src.Contains(t.IP.SourceAddress)) &&
		(!f.dst.IsValid() || f.dst.Contains(t.IP.DestinationAddress))
}

// dumping lets one dump run at a time: a full table takes half a kilobyte an entry while it is read.
var dumping sync.Mutex

// large is the number of entries from which the memory of a dump is given back at once.
const large = 10000

func connections(f filter) (out api.Connections, err error) {
	dumping.Lock()
	defer dumping.Unlock()
	c, err := conntrack.Dial(nil)
	if err != nil {
		return out, fmt.Errorf("read connections: %w", err)
	}
	defer c.Close()
	flows, err := c.Dump(nil)
	if err != nil {
		return out, fmt.Errorf("read connections: %w", err)
	}
	out.Connections = []api.Connection{}
	for i := range flows {
		if !f.matches(&flows[i]) {
			continue
		}
		out.Matching++
		if len(out.Connections) < f.limit {
			out.Connections = append(out.Connections, connection(&flows[i]))
		}
	}
	if len(flows) > large {
		flows = nil
		defer debug.FreeOSMemory()
	}
	return out, nil
}

func connection(f *conntrack.Flow) api.Connection {
	c := api.Connection{
		Proto:    strconv.Itoa(int(f.TupleOrig.Proto.Protocol)),
		Original: tuple(&f.TupleOrig, f.CountersOrig),
		Reply:    tuple(&f.TupleReply, f.CountersReply),
		Timeout:  f.Timeout,
		Assured:  f.Status.Value&conntrack.StatusAssured != 0,
		Offload:  f.Status.Value&conntrack.StatusOffload != 0,
		Mark:     f.Mark,
	}
	for name, number := range protocols {
		if number == f.TupleOrig.Proto.Protocol {
			c.Proto = name
		}
	}
	if t := f.ProtoInfo.TCP; t != nil && int(t.State) < len(tcpStates) {
		c.State = tcpStates[t.State]
	}
	return c
}

func tuple(t *conntrack.Tuple, n conntrack.Counter) api.Tuple {
	out := api.Tuple{
		Src: t.IP.SourceAddress, Dst: t.IP.DestinationAddress, Packets: n.Packets, Bytes: n.Bytes,
		SrcPort: t.Proto.SourcePort, DstPort: t.Proto.DestinationPort,
	}
	if t.Proto.ICMPv4 || t.Proto.ICMPv6 {
		out.SrcPort, out.DstPort = t.Proto.ICMPID, 0
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
