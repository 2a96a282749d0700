package node

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/twinkeep/twinkeep/firmware/yamldoc"
	"github.com/twinkeep/twinkeep/hal/nic"
)

// complaint is why a text is not the value it should be.
type complaint struct{ message, hint string }

// read parses the single value of key into *into and reports whether it is there and good.
func read[T any](s *section, key string, into *T, parse func(string) (T, *complaint)) bool {
	n, ok := s.take(key)
	if !ok {
		return false
	}
	return convert(s.reader, s.join(key), n, into, parse)
}

// need is read for a key that must be there.
func need[T any](s *section, key string, into *T, parse func(string) (T, *complaint)) bool {
	if _, ok := s.values[key]; !ok {
		s.known = append(s.known, key)
		s.fail(s.path, "add "+key+": …", "%q is missing", key)
		return false
	}
	return read(s, key, into, parse)
}

func convert[T any](r *reader, path string, n ast.Node, into *T, parse func(string) (T, *complaint)) bool {
	text, ok := r.scalar(path, n)
	if !ok {
		return false
	}
	v, bad := parse(text)
	if bad != nil {
		r.fail(path, bad.hint, "%s", bad.message)
		return false
	}
	*into = v
	return true
}

// readList parses a list of single values. A bad entry stays in the list as a zero value, so that the indices of
// the list are those of the file.
func readList[T any](s *section, key string, into *[]T, parse func(string) (T, *complaint)) {
	s.each(key, func(path string, n ast.Node) {
		var v T
		s.mark(path, n)
		convert(s.reader, path, n, &v, parse)
		*into = append(*into, v)
	})
}

// readSections parses a list of mappings.
func readSections[T any](s *section, key string, into *[]T, parse func(*section) T) {
	s.each(key, func(path string, n ast.Node) {
		if sub := s.section(path, n); sub != nil {
			*into = append(*into, parse(sub))
			sub.finish()
		}
	})
}

// each walks the entries of a list.
func (s *section) each(key string, do func(path string, n ast.Node)) {
	n, ok := s.take(key)
	if !ok {
		return
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		s.fail(s.join(key), "write it as [a, b] or as lines that begin with -", "want a list, got %s", yamldoc.Kind(n))
		return
	}
	for i, entry := range list.Values {
		do(fmt.Sprintf("%s[%d]", s.join(key), i), entry)
	}
}

func anyText(s string) (string, *complaint) {
	if strings.TrimSpace(s) == "" {
		return "", &complaint{"is empty", "give it a value or leave the key out"}
	}
	return s, nil
}

var (
	labelForm  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	deviceForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
)

func label(s string) (string, *complaint) {
	if !labelForm.MatchString(s) {
		return "", &complaint{fmt.Sprintf("%q is not a host name", s), "1 to 63 letters, digits and hyphens"}
	}
	return s, nil
}

func deviceName(s string) (string, *complaint) {
	switch {
	case !deviceForm.MatchString(s):
		return "", &complaint{fmt.Sprintf("%q is not an interface name", s), "a letter, then letters, digits, _ and -"}
	case len(s) > MaxName:
		return "", &complaint{fmt.Sprintf("%q has %d characters, the most is %d", s, len(s), MaxName),
			"the shared addresses live on " + s + VIPSuffix + ", and Linux ends names at 15"}
	case strings.HasSuffix(s, VIPSuffix):
		return "", &complaint{fmt.Sprintf("%q ends in %s", s, VIPSuffix), "names like that are for the shared addresses"}
	case s == "lo" || s == "all" || s == "default":
		return "", &complaint{fmt.Sprintf("%q is a name of the kernel's own", s), "choose another, e.g. G1"}
	}
	return s, nil
}

// number parses an unsigned number in lo..hi, decimal or with 0x.
func number[T ~uint8 | ~uint16 | ~int](lo, hi uint64) func(string) (T, *complaint) {
	return func(s string) (T, *complaint) {
		v, err := strconv.ParseUint(s, 0, 32)
		if err != nil || v < lo || v > hi {
			return 0, &complaint{fmt.Sprintf("%q is not a number from %d to %d", s, lo, hi), ""}
		}
		return T(v), nil
	}
}

func boolean(s string) (bool, *complaint) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, &complaint{fmt.Sprintf("%q is neither true nor false", s), ""}
}

func duration(s string) (time.Duration, *complaint) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, &complaint{fmt.Sprintf("%q is not a duration", s), "a number with its unit, e.g. 10ms or 1s"}
	case d < 0 || d > MaxTiming:
		return 0, &complaint{fmt.Sprintf("%s is outside 0 to %s", d, MaxTiming), ""}
	}
	return d, nil
}

// oneOf parses one of a few words.
func oneOf[T ~string](words ...T) func(string) (T, *complaint) {
	return func(s string) (T, *complaint) {
		var names []string
		for _, w := range words {
			if string(w) == s {
				return w, nil
			}
			names = append(names, string(w))
		}
		return "", &complaint{fmt.Sprintf("%q is not known", s), "one of: " + strings.Join(names, ", ")}
	}
}

func address(s string) (netip.Addr, *complaint) {
	a, err := netip.ParseAddr(s)
	switch {
	case err == nil && a.Zone() != "":
		return netip.Addr{}, &complaint{fmt.Sprintf("%q has a zone", s), "leave out everything from % on"}
	case err == nil && !a.Is4In6():
		return a, nil
	case strings.Contains(s, "/"):
		return netip.Addr{}, &complaint{fmt.Sprintf("%q is not an address", s), "no prefix length here: " + s[:strings.Index(s, "/")]}
	}
	return netip.Addr{}, &complaint{fmt.Sprintf("%q is not an IP address", s), "e.g. 10.1.0.1"}
}

// hostPrefix parses an address of a host with its subnet, of one family (32 or 128 bits).
func hostPrefix(bits int) func(string) (netip.Prefix, *complaint) {
	example := map[int]string{32: "e.g. 10.1.0.2/24", 128: "e.g. 2001:db8::2/64"}[bits]
	return func(s string) (netip.Prefix, *complaint) {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p.Addr().BitLen() != bits || p.Addr().Is4In6():
			return netip.Prefix{}, &complaint{fmt.Sprintf("%q is not an IPv%d address with a prefix length", s, map[int]int{32: 4, 128: 6}[bits]), example}
		case !isHost(p.Addr()):
			return netip.Prefix{}, &complaint{fmt.Sprintf("%s is not the address of a host", p.Addr()), example}
		case p.Bits() == 0:
			return netip.Prefix{}, &complaint{"a subnet of length 0 is the whole Internet", example}
		case isEdge(p, p.Addr()):
			return netip.Prefix{}, &complaint{fmt.Sprintf("%s is the network or broadcast address of %s", p.Addr(), p.Masked()), "choose an address between the two"}
		}
		return p, nil
	}
}

// isHost reports whether a can be the address of one interface.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isEdge reports whether a is the network or broadcast address of p. An IPv4 /31 or /32 has neither (RFC 3021), nor
// has IPv6.
func isEdge(p netip.Prefix, a netip.Addr) bool {
	if !a.Is4() || !p.Addr().Is4() || p.Bits() > 30 {
		return false
	}
	return a == p.Masked().Addr() || a == lastOf(p)
}

// lastOf is the highest address of an IPv4 prefix: its broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

// network parses a subnet; a single address is one of full length.
func network(s string) (netip.Prefix, *complaint) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, &complaint{fmt.Sprintf("%q is not a network", s), "e.g. 10.1.0.0/24"}
	}
	if p.Masked() != p {
		return netip.Prefix{}, &complaint{fmt.Sprintf("%s has host bits set", s), "the network is " + p.Masked().String()}
	}
	return p, nil
}

// place checks a PCI place and keeps it as written.
func place(s string) (string, *complaint) {
	if _, err := nic.ParsePlace(s); err != nil {
		return "", &complaint{fmt.Sprintf("%q is not a PCI place", s), "bus/slot/port, e.g. 0/5/0, or as lspci -D shows it, e.g. 0000:00:05.0"}
	}
	return s, nil
}

const makeKey = "make one with: head -c 32 /dev/urandom | base64"

func clusterKey(s string) (Key, *complaint) {
	if s == redacted {
		return Key{}, &complaint{"the key was taken out when the file was shown", "put the key back, or use key_file"}
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	switch {
	case err != nil:
		return Key{}, &complaint{"the key is not base64", makeKey}
	case len(raw) != KeySize:
		return Key{}, &complaint{fmt.Sprintf("the key has %d bytes, want %d", len(raw), KeySize), makeKey}
	case Key(raw).IsZero():
		return Key{}, &complaint{"the key is all zeroes", makeKey}
	}
	return Key(raw), nil
}

// helper parses ftp, sip, or one of them with a port: ftp:2121.
func helper(s string) (h Helper, bad *complaint) {
	name, port, given := strings.Cut(s, ":")
	switch name {
	case "ftp":
		h.Port = 21
	case "sip":
		h.Port = 5060
	default:
		return h, &complaint{fmt.Sprintf("%q is not a protocol with a helper", name), "ftp or sip, with a port if it is another one: ftp:2121"}
	}
	if given {
		if h.Port, bad = number[uint16](1, 65535)(port); bad != nil {
			return Helper{}, &complaint{fmt.Sprintf("%q is not a port", port), "1 to 65535, e.g. " + name + ":2121"}
		}
	}
	h.Protocol = name
	return h, nil
}
