package subnet

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.0.5": "10.1.0.5/32", "::ffff:10.1.0.5": "10.1.0.5/32", "2001:db8::1:2": "2001:db8::/64", "fe80::1%eth0": "fe80::1/128", "::1": "::1/128",
	} {
		if got := Of(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Of(%s) = %s, want %s", in, got, want)
		}
	}
}
