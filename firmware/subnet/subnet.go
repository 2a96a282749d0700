// Package subnet says which addresses count as one source where connections and failures are counted by source (pure).
package subnet

import "net/netip"

// Of is what counts as one source: an IPv4 address; a subnet of IPv6, which one host has all addresses of (/64, RFC 4291); a
// link-local address or the loopback by itself.
func Of(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() && !a.IsLinkLocalUnicast() && !a.IsLoopback() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}
