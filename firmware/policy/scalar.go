package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// mistake is why a text is not the value it should be, and what to write instead.
type mistake struct{ message, hint string }

func (m *mistake) Error() string { return m.message }
func (m *mistake) Hint() string  { return m.hint }

func wrong(hint, format string, args ...any) error {
	return &mistake{fmt.Sprintf(format, args...), hint}
}

// scalar is one notation of single values.
type scalar struct {
	parse  func(f *field, text string) (any, error)
	schema map[string]any
}

// plain makes a scalar of a parser that needs nothing of the field.
func plain[T any](parse func(string) (T, error), schema map[string]any) scalar {
	return scalar{func(_ *field, text string) (any, error) { return parse(text) }, schema}
}

// scalars by the tag as, or by the Go type where there is none.
var scalars = map[string]scalar{
	"text":    plain(parseText, map[string]any{"type": "string", "minLength": 1}),
	"name":    plain(parseName, map[string]any{"type": "string", "pattern": nameForm.String()}),
	"label":   plain(node.ParseLabel, map[string]any{"type": "string", "format": "hostname"}),
	"device":  plain(node.ParseDevice, map[string]any{"type": "string", "pattern": `^[A-Za-z][A-Za-z0-9_-]*$`, "maxLength": node.MaxName}),
	"place":   plain(node.ParsePlace, map[string]any{"type": "string"}),
	"network": plain(node.ParseNetwork, map[string]any{"type": "string", "description": "a network such as 10.1.0.0/24"}),
	"host4": plain(func(s string) (netip.Prefix, error) { return node.ParseHost(s, 32) },
		map[string]any{"type": "string", "description": "an address with its prefix length, e.g. 10.1.0.2/24"}),
	"host6": plain(func(s string) (netip.Prefix, error) { return node.ParseHost(s, 128) },
		map[string]any{"type": "string", "description": "an address with its prefix length, e.g. 2001:db8::2/64"}),
	"bool":           plain(parseBool, map[string]any{"type": "boolean"}),
	"netip.Addr":     plain(node.ParseAddress, map[string]any{"type": "string", "description": "an IP address"}),
	"time.Duration":  plain(node.ParseDuration, map[string]any{"type": "string", "pattern": `^([0-9.]+(ns|us|µs|ms|s|m|h))+$`}),
	"policy.Address": plain(parseAddress, map[string]any{"type": "string", "description": "an address, a network, a range A-B, or the name of a group"}),
	"policy.Service": plain(parseService, map[string]any{"type": "string", "description": "tcp/443, udp/5000-5010, icmp/echo-request, esp, ip/47, or the name of a group"}),
	"policy.Target":  plain(parseTarget, map[string]any{"type": "string", "description": "vip, an address, address:port, a range A-B, or a network"}),
	"policy.Rate":    plain(parseRate, map[string]any{"type": "string", "pattern": `^[0-9]+/(second|minute|hour|day)$`}),
	"policy.Probe":   plain(parseProbe, map[string]any{"type": "string", "pattern": `^(icmp|arp|tcp:[0-9]+)$`}),
	"number":         {parseNumber, nil},
	"enum":           {parseEnum, nil},
}

var nameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,47}$`)

func parseText(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", wrong("give it a value or leave the key out", "is empty")
	}
	return s, nil
}

func parseName(s string) (string, error) {
	if !nameForm.MatchString(s) {
		return "", wrong("a letter, then up to 47 letters, digits, _ and -", "%q is not a name", s)
	}
	return s, nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, wrong("", "%q is neither true nor false", s)
}

func parseNumber(f *field, s string) (any, error) {
	v, err := strconv.ParseUint(s, 0, 32)
	if err != nil || v < f.min || v > f.max {
		return nil, wrong("", "%q is not a number from %d to %d", s, f.min, f.max)
	}
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return reflect.ValueOf(v).Convert(t).Interface(), nil
}

func parseEnum(f *field, s string) (any, error) {
	for _, w := range f.enum {
		if w == s {
			return reflect.ValueOf(s).Convert(f.typ).Interface(), nil
		}
	}
	return nil, wrong("one of: "+strings.Join(f.enum, ", "), "%q is not known", s)
}

func parseAddress(s string) (a Address, err error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		if from, err := netip.ParseAddr(first); err == nil {
			r, err := parseRange(from, last)
			return Address{Range: r}, err
		}
	}
	if nameForm.MatchString(s) && !looksLikeAddress(s) {
		return Address{Name: s}, nil
	}
	p, err := node.ParseNetwork(s)
	if err != nil {
		var hint interface{ Hint() string }
		if errors.As(err, &hint) && strings.Contains(hint.Hint(), "the network is") {
			return a, err
		}
		return a, wrong("e.g. 10.1.0.5, 10.1.0.0/24, 10.1.0.5-10.1.0.9, or a name from objects.addresses", "%q is neither an address nor a name", s)
	}
	return Address{Range: rules.RangeOf(p)}, nil
}

// looksLikeAddress tells an IPv6 address that is all letters, like "abcd::", from a name; names have no colon.
func looksLikeAddress(s string) bool { return strings.Contains(s, ":") }

func parseRange(from netip.Addr, last string) (rules.Range, error) {
	to, err := netip.ParseAddr(last)
	switch {
	case err != nil || from.Is4() != to.Is4() || from.Zone() != "" || to.Zone() != "" || from.Is4In6() || to.Is4In6():
		return rules.Range{}, wrong("two addresses of one family, e.g. 10.1.0.5-10.1.0.9", "%q is not the end of a range from %s", last, from)
	case to.Less(from):
		return rules.Range{}, wrong(fmt.Sprintf("write %s-%s", to, from), "the range ends before it begins")
	}
	return rules.Range{First: from, Last: to}, nil
}

func parseTarget(s string) (t Target, err error) {
	if s == "vip" {
		return Target{VIP: true}, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() > 0 && !ap.Addr().Is4In6() && ap.Addr().Zone() == "" {
		return Target{Range: rules.Single(ap.Addr()), Port: ap.Port()}, nil
	}
	a, err := parseAddress(s)
	if err != nil || a.Name != "" {
		return t, wrong("an address, address:port, a pool A-B or vip", "%q is not something to translate to", s)
	}
	return Target{Range: a.Range}, nil
}

func parseRate(s string) (r Rate, err error) {
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	switch unit {
	case "second", "minute", "hour", "day":
	default:
		err = errors.New("no unit")
	}
	if err != nil || n == 0 || n > 1_000_000 {
		return r, wrong("a number from 1 to 1000000 per second, minute, hour or day, e.g. 10/second", "%q is not a rate", s)
	}
	return Rate{n, unit}, nil
}

func parseProbe(s string) (p Probe, err error) {
	switch {
	case s == "icmp":
		return Probe{Kind: node.ProbeICMP}, nil
	case s == "arp":
		return Probe{Kind: node.ProbeARP}, nil
	case strings.HasPrefix(s, "tcp:"):
		if n, err := strconv.ParseUint(s[4:], 10, 16); err == nil && n > 0 {
			return Probe{node.ProbeTCP, uint16(n)}, nil
		}
	}
	return p, wrong("icmp, arp, or tcp:PORT", "%q is not known", s)
}
