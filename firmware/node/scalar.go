package node

import (
	"net/netip"
	"time"
)

// The policy (firmware/policy) writes its values as the node file does. An error of these functions has a method
// Hint() string that says what to write instead.

// ParseAddress reads an IP address without a zone.
func ParseAddress(s string) (netip.Addr, error) { return result(address(s)) }

// ParseNetwork reads a subnet; a single address is one of full length.
func ParseNetwork(s string) (netip.Prefix, error) { return result(network(s)) }

// ParseHost reads an address of a host with its subnet, of one family (32 or 128 bits).
func ParseHost(s string, bits int) (netip.Prefix, error) { return result(hostPrefix(bits)(s)) }

// ParseDuration reads a duration from 0 to MaxTiming.
func ParseDuration(s string) (time.Duration, error) { return result(duration(s)) }

// ParseDevice reads the name of an interface or a device.
func ParseDevice(s string) (string, error) { return result(deviceName(s)) }

// ParseLabel reads one DNS label.
func ParseLabel(s string) (string, error) { return result(label(s)) }

// ParsePlace reads a PCI place and keeps it as written.
func ParsePlace(s string) (string, error) { return result(place(s)) }

// IsHost reports whether a can be the address of one interface.
func IsHost(a netip.Addr) bool { return isHost(a) }

// IsEdge reports whether a is the network or broadcast address of p.
func IsEdge(p netip.Prefix, a netip.Addr) bool { return isEdge(p, a) }

func result[T any](v T, bad *complaint) (T, error) {
	if bad != nil {
		return v, bad
	}
	return v, nil
}

// Error is what is wrong.
func (c *complaint) Error() string { return c.message }

// Hint is what to write instead; it can be empty.
func (c *complaint) Hint() string { return c.hint }
