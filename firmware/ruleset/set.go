package ruleset

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// set is a named set or map.
type set struct {
	name     string
	key      []nftables.SetDatatype
	data     []nftables.SetDatatype // of a map
	verdicts bool                   // of a verdict map: its elements jump
	interval bool
	counted  bool          // every element has a counter
	dynamic  bool          // filled by packets, each element for timeout
	timeout  time.Duration // of a dynamic set
	elements []element
}

// element is one key of a set, with what a map gives for it.
type element struct {
	text        string
	first, last []byte // padded to registers; last only in interval sets
	dataText    string
	data        []byte
	jump        string // verdict maps: the chain
	id          string // of the policy's rule, when the element is counted
	packets     uint64 // counted before, to go on from
	bytes       uint64
}

// dynamicSize is the most source addresses a limit per source keeps apart.
const dynamicSize = 65535

// write renders the set as nft lists it.
func (s *set) write(b *strings.Builder) {
	word := "set"
	kind := typeNames(s.key)
	switch {
	case s.verdicts:
		word, kind = "map", kind+" : verdict"
	case s.data != nil:
		word, kind = "map", kind+" : "+typeNames(s.data)
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\ttype %s\n", word, s.name, kind)
	switch {
	case s.dynamic:
		fmt.Fprintf(b, "\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %s\n", dynamicSize, nftTime(s.timeout))
	case s.interval:
		b.WriteString("\t\tflags interval\n")
	}
	if s.counted {
		b.WriteString("\t\tcounter\n")
	}
	if len(s.elements) > 0 {
		b.WriteString("\t\telements = { ")
		for i := range s.elements {
			e := &s.elements[i]
			if i > 0 {
				b.WriteString(",\n\t\t\t     ")
			}
			b.WriteString(e.text)
			if s.counted {
				fmt.Fprintf(b, " counter packets 0 bytes 0 comment %q", e.id)
			}
			switch {
			case s.verdicts:
				b.WriteString(" : jump " + e.jump)
			case s.data != nil:
				b.WriteString(" : " + e.dataText)
			}
		}
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n\n")
}

func nftTime(d time.Duration) string {
	return fmt.Sprintf("%ds", int(d/time.Second))
}

func typeNames(types []nftables.SetDatatype) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name
	}
	return strings.Join(names, " . ")
}

// kernel gives the set without its elements.
func (s *set) kernel(table *nftables.Table) (*nftables.Set, error) {
	key, err := joinedType(s.key)
	if err != nil {
		return nil, err
	}
	out := &nftables.Set{
		Table: table, Name: s.name, KeyType: key, Interval: s.interval, Concatenation: len(s.key) > 1, Counter: s.counted,
	}
	if len(s.key) == 1 && s.key[0].Name == nftables.TypeIFName.Name {
		// A note for nft(8), which otherwise lists device names as empty strings. The kernel does not use it.
		out.KeyByteOrder = binaryutil.NativeEndian
	}
	if s.dynamic {
		out.Dynamic, out.HasTimeout, out.Timeout, out.Size = true, true, s.timeout, dynamicSize
	}
	switch {
	case s.verdicts:
		out.IsMap, out.DataType = true, nftables.TypeVerdict
	case s.data != nil:
		out.IsMap = true
		if out.DataType, err = joinedType(s.data); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// joinedType pads the parts to whole registers; a type by itself keeps its length.
func joinedType(types []nftables.SetDatatype) (nftables.SetDatatype, error) {
	if len(types) == 1 {
		return types[0], nil
	}
	return nftables.ConcatSetType(types...)
}

// padded appends a value in as many whole registers as it needs.
func padded(b, value []byte) []byte {
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func port(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// deviceKey is a name as the kernel compares it: IFNAMSIZ bytes, NUL behind the name.
func deviceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

func deviceElement(name string) element {
	return element{text: fmt.Sprintf("%q", name), first: deviceKey(name)}
}

func rangeElement(r rules.Range) element {
	return element{text: r.String(), first: r.First.AsSlice(), last: r.Last.AsSlice()}
}

// addressType is the type of a key of one family.
func addressType(family int) nftables.SetDatatype {
	if family == 4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// protoNames are the names that nft takes for protocols it could otherwise only list.
var protoNames = map[uint8]string{
	rules.ICMP: "icmp", rules.TCP: "tcp", rules.UDP: "udp", rules.DCCP: "dccp", 47: "gre", 50: "esp", 51: "ah", rules.ICMPv6: "ipv6-icmp",
	rules.SCTP: "sctp", rules.UDPLite: "udplite",
}

func protoName(n uint8) string {
	if name, ok := protoNames[n]; ok {
		return name
	}
	return fmt.Sprint(n)
}

func portText(first, last uint16) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
