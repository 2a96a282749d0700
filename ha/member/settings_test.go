package member

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

func ours() settings {
	return settingsOf(Config{
		Timing: cluster.Timing{Beat: 10 * time.Millisecond, Lease: 30 * time.Millisecond, Dead: 80 * time.Millisecond, Silence: time.Second},
		Mode:   cluster.PrimaryUp, Lock: true, Witnesses: []Witness{{ID: 10}},
		Members: []cluster.Member{{ID: 1, Priority: 120}, {ID: 2, Priority: 100}},
		Interfaces: []Interface{
			{Number: 2, VIPs: addresses("192.0.2.1")},
			{Number: 1, VIPs: addresses("10.1.0.9", "10.1.0.1")},
		},
	})
}

func addresses(list ...string) (out []netip.Addr) {
	for _, p := range list {
		out = append(out, netip.MustParseAddr(p))
	}
	return out
}

func TestSettingsOnTheWire(t *testing.T) {
	const golden = "011f" + "00000064" + "0000012c" + "00000320" + "00002710" + "01" + "02" + "7864000000000000" + "02" + "a32083fe"
	got := appendSettings(nil, ours())
	if hex.EncodeToString(got) != golden {
		t.Errorf("%x, want %s", got, golden)
	}
	// Fields of a later version around it, and more in it, are passed over.
	longer := append([]byte{200, 3, 1, 2, 3, 1, settingsLen + 2}, append(got[2:], 9, 9)...)
	if s, ok := parseSettings(append(longer, 77, 1, 0)); !ok || s != ours() {
		t.Errorf("%+v, %v", s, ok)
	}
	older := append([]byte{fieldSettings, settingsLeast}, got[2:2+settingsLeast]...)
	want := ours()
	want.vips = 0
	if s, ok := parseSettings(older); !ok || s != want || ours().differ(s) != "" {
		t.Errorf("%+v, %v", s, ok)
	}
	for n := range got {
		if _, ok := parseSettings(got[:n]); ok {
			t.Errorf("%d bytes are taken for settings", n)
		}
	}
}

func TestSettingsDiffer(t *testing.T) {
	if said := ours().differ(ours()); said != "" {
		t.Errorf("equal settings differ: %s", said)
	}
	theirs := ours()
	theirs.timing[2], theirs.mode, theirs.safety, theirs.priorities = 600, 0, true, [8]uint8{120, 90, 80}
	theirs.witnesses = 1
	theirs.vips++
	const want = "timing.dead 80ms here, 60ms there; mode primary-up here, active-up there; safety false here, true there; " +
		"priority of member 2 100 here, 90 there; member 3 is listed there only; witness 9 is listed there only; witness 10 is listed here only; the shared addresses are not the same, compare 'vips' of the interfaces"
	if said := ours().differ(theirs); said != want {
		t.Errorf("%s\nwant %s", said, want)
	}
}

// TestDiffersText: an operator is sent to what the settings come from.
func TestDiffersText(t *testing.T) {
	none, one, two := cluster.Policy{}, cluster.Policy{Revision: 1, Digest: 0x11}, cluster.Policy{Revision: 2, Digest: 0x22}
	const said = "lock true here, false there"
	for _, c := range []struct {
		said         string
		ours, theirs cluster.Policy
		want         string
	}{
		{said, none, none, "the node file of b differs: lock true here, false there; make them equal with 'node edit'"},
		{"", none, none, "the node files of b and of this member agree again"},
		{said, one, two, "b runs by another policy: lock true here, false there; policy revision 2 (0000000000000022) runs there, policy revision 1 (0000000000000011) here; see 'policy status' on both"},
		{said, one, one, "b runs by other settings: lock true here, false there; both run policy revision 1 (0000000000000011), which one of them has not taken in yet"},
		{said, one, none, "b runs by other settings: lock true here, false there; no policy runs there, policy revision 1 (0000000000000011) here; see 'policy status' on both"},
		{"", one, one, "b and this member run by the same settings again"},
	} {
		if got := differsText("b", c.said, c.ours, c.theirs); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(appendSettings(nil, ours()))
	f.Add([]byte{200, 3, 1, 2, 3, 1, 27})
	f.Fuzz(func(t *testing.T, ext []byte) {
		s, ok := parseSettings(ext)
		if !ok {
			return
		}
		ours().differ(s)
		s.mode &= 1
		if again, ok := parseSettings(appendSettings(nil, s)); !ok || again != s {
			t.Errorf("%+v became %+v", s, again)
		}
	})
}

// TestSameButVIPs: what a running member takes in, and what needs another life.
func TestSameButVIPs(t *testing.T) {
	base := func() Config {
		return Config{ClusterID: 7, Self: 1, Members: []cluster.Member{{ID: 1, Priority: 9}}, Timing: cluster.DefaultTiming,
			Interfaces: []Interface{{Name: "G1", Number: 1, VIPs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}}, Barrier: nil, RunDir: "/run"}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   bool
	}{
		"nothing":      {func(*Config) {}, true},
		"VIPs":         {func(c *Config) { c.Interfaces[0].VIPs = nil }, true},
		"a priority":   {func(c *Config) { c.Members[0].Priority = 1 }, true},
		"what runs it": {func(c *Config) { c.Role, c.RunDir, c.Policy = func() {}, "", cluster.Policy{Revision: 1} }, true},
		"a name":       {func(c *Config) { c.Members[0].Name = "x" }, false},
		"a member":     {func(c *Config) { c.Members = append(c.Members, cluster.Member{ID: 2}) }, false},
		"timing":       {func(c *Config) { c.Timing.Beat++ }, false},
		"an address":   {func(c *Config) { c.Interfaces[0].Address = netip.MustParsePrefix("10.1.0.2/24") }, false},
		"a NIC":        {func(c *Config) { c.Interfaces = nil }, false},
		"the key":      {func(c *Config) { c.Key = []byte{1} }, false},
		"lock":         {func(c *Config) { c.Lock = true }, false},
	} {
		next := base()
		c.change(&next)
		if sameButVIPs(base(), next) != c.want || sameButVIPs(next, base()) != c.want {
			t.Errorf("%s: want %v", name, c.want)
		}
	}
}
