package member

import (
	"net/netip"
	"testing"
)

func TestBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.1.0.2/24": "10.1.0.255", "10.1.2.3/8": "10.255.255.255", "169.254.77.1/30": "169.254.77.3",
		"192.0.2.1/31": "255.255.255.255", "192.0.2.1/32": "255.255.255.255", "0.0.0.0/0": "255.255.255.255",
	} {
		if got := broadcast(netip.MustParsePrefix(prefix)).String(); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
