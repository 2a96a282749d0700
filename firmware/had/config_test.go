package had

import (
	"errors"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/hal/nic"
)

func u8(v uint8) *uint8 { return &v }

func TestIdentify(t *testing.T) {
	places := map[string]nic.Place{"G1": {Bus: 1, Slot: 0, Port: 0}}
	for _, c := range []struct {
		name string
		f    node.Interface
		nn   uint8
		err  string
	}{
		{"from the PCI place", node.Interface{Name: "G1", Device: "G1"}, 0x20, ""},
		{"place by hand wins", node.Interface{Name: "G1", Device: "G1", Place: "0/5/0"}, 0x14, ""},
		{"NN by hand wins", node.Interface{Name: "G1", Device: "G1", Place: "0/5/0", NN: u8(0x77)}, 0x77, ""},
		{"no PCI, NN by hand", node.Interface{Name: "x", Device: "lo", NN: u8(1)}, 1, ""},
		{"no PCI, nothing by hand", node.Interface{Name: "x", Device: "lo"}, 0, "place: bus/slot/port"},
		{"missing", node.Interface{Name: "x", Device: "not-there"}, 0, errMissing.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := identify(c.f, places)
			if c.err == "" && (err != nil || id.NN != c.nn) {
				t.Errorf("NN %02x, %v; want %02x", id.NN, err, c.nn)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

// TestConfigNamesCollisions: two NICs with one NN would answer with one shared MAC.
func TestConfigNamesCollisions(t *testing.T) {
	n := &node.Node{
		Cluster:    &node.Cluster{ID: 7, Member: 1, Members: []node.Member{{ID: 1, Name: "gw-a"}}},
		Interfaces: []node.Interface{{Name: "lan", Device: "lo", Number: 1, Place: "0/3/0"}, {Name: "wan", Device: "lo", Number: 2, Place: "8/11/4"}},
	}
	_, _, err := config(n)
	var collision *nic.CollisionError
	if !errors.As(err, &collision) {
		t.Fatalf("error %v", err)
	}
	for _, word := range []string{"lan", "wan", "nn"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
	// One of the two given by hand, as the error says.
	n.Interfaces[1].NN = u8(0x99)
	if cfg, _, err := config(n); err != nil || cfg.Interfaces[1].NN != 0x99 || cfg.Interfaces[1].Number != 2 {
		t.Errorf("%+v, %v", cfg.Interfaces, err)
	}
}
