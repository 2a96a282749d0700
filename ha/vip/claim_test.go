package vip

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

func TestParseClaim(t *testing.T) {
	frame, _ := hex.DecodeString("ffffffffffff020000000066" + "0806" + "0001080006040002" + "020000000066" + "0a010001" + "020000000001" + "0a010002")
	c, ok := parseClaim(frame)
	if !ok || c.Addr != netip.MustParseAddr("10.1.0.1") || c.MAC != (wire.MAC{2, 0, 0, 0, 0, 0x66}) {
		t.Errorf("%+v, %v", c, ok)
	}
	for n := range frame {
		if _, ok := parseClaim(frame[:n]); ok {
			t.Errorf("%d bytes are taken for a claim", n)
		}
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add(make([]byte, 42))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, ok := parseClaim(frame); ok && !c.Addr.Is4() {
			t.Errorf("%+v", c)
		}
	})
}

// TestClaims: a host that answers for a shared address is found by asking, one that answers rightly is passed over.
func TestClaims(t *testing.T) {
	gw, other := netnslab.New(t), netnslab.New(t)
	netnslab.Veth(gw, "lan", other, "eth0")
	gw.IP("addr add 10.1.0.2/24 dev lan")
	other.IP("addr add 10.1.0.66/24 dev eth0")
	mac := wire.SharedMAC(3, 7)
	var c *Claims
	gw.Try(func() (err error) {
		c, err = OpenClaims("lan", mac, netip.MustParseAddr("10.1.0.2"), []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fe80::1")})
		return err
	})
	defer c.Close()
	claim := func() (Claim, bool) {
		t.Helper()
		if err := c.Ask(); err != nil {
			t.Fatal(err)
		}
		c.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			got, foreign, err := c.Receive()
			if err != nil {
				return Claim{}, false
			}
			if foreign {
				return got, true
			}
		}
	}
	if got, ok := claim(); ok {
		t.Errorf("a claim of %+v on a quiet LAN", got)
	}
	other.IP("addr add 10.1.0.1/24 dev eth0")
	if got, ok := claim(); !ok || got.Addr.String() != "10.1.0.1" || got.MAC != wire.MAC(other.MAC("eth0")) {
		t.Errorf("%+v, %v", got, ok)
	}
	other.IP("addr del 10.1.0.1/24 dev eth0")
	other.IP("addr add 10.1.0.2/24 dev eth0") // our private address
	if got, ok := claim(); !ok || got.Addr.String() != "10.1.0.2" {
		t.Errorf("%+v, %v", got, ok)
	}
}
