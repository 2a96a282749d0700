package hardware

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// box is a member with four ports in the order of their places.
func box() api.Hardware {
	h := api.Hardware{Board: "apu2", Vendor: "PC Engines", Product: "apu2", CPU: "AMD GX-412TC SOC", Cores: 4, MemoryTotal: 4 << 30, Kernel: "6.18.44"}
	for i, place := range []string{"0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"} {
		n := string(rune('1' + i))
		h.NICs = append(h.NICs, api.NIC{
			Device: "G" + n, Interface: "G" + n, Place: place, Driver: "igb", MAC: "52:54:00:00:00:0" + n, NN: uint8(i+1) << 5, SharedMAC: []string{"10:00:00:00:20:07", "10:00:00:00:40:07", "10:00:00:00:60:07", "10:00:00:00:80:07"}[i], IDs: "8086:157b",
		})
	}
	return h
}

// TestCompare: what Clavister's document names (PCI places, NN, order and number of ports, drivers), and what is near it.
func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name   string
		there  func(h *api.Hardware)
		same   bool
		effect Effect
		port   string
		what   string
		remedy string
	}{
		{"another slot", func(h *api.Hardware) {
			h.NICs[1].Place, h.NICs[1].NN, h.NICs[1].SharedMAC = "0000:09:02.0", 0x28, "10:00:00:00:28:07"
		}, false, Separate, "G2", "shared MAC, by PCI place", "move the card of G2"},
		{"two ports in another order", func(h *api.Hardware) {
			a, b := &h.NICs[0], &h.NICs[1]
			a.Device, b.Device, a.Interface, b.Interface = "G2", "G1", "G2", "G1"
		}, false, Separate, "G1", "shared MAC, by PCI place", "the place 0000:01:00.0 is G2 on gw-b"},
		{"nn by hand on one", func(h *api.Hardware) { h.NICs[2].NN, h.NICs[2].SharedMAC = 7, "10:00:00:00:07:07" }, false, Separate, "G3", "shared MAC, by nn set by hand", "the same nn: for G3"},
		{"another cluster ID", func(h *api.Hardware) { h.NICs[0].SharedMAC = "10:00:00:00:20:08" }, false, Separate, "G1", "cluster ID", "cluster.id"},
		{"a card fewer", func(h *api.Hardware) { h.NICs = h.NICs[:3] }, false, Separate, "G4", "port", "put the same card into gw-b"},
		{"number of ports", func(h *api.Hardware) { h.NICs = h.NICs[:3] }, false, Risk, "", "number of ports", "order of their places"},
		{"a card more that nobody uses", func(h *api.Hardware) { h.NICs = append(h.NICs, api.NIC{Device: "eth9", Place: "0000:09:00.0", NN: 9}) }, true, Note, "eth9", "port", ""},
		{"a card more", func(h *api.Hardware) {
			h.NICs = append(h.NICs, api.NIC{Device: "G5", Interface: "G5", Place: "0000:09:00.0", NN: 9})
		}, false, Separate, "G5", "port", "put the same card into gw-a"},
		{"two ports with one NN", func(h *api.Hardware) { h.NICs[3].NN, h.NICs[3].SharedMAC = 0x20, "10:00:00:00:20:07" }, false, Separate, "G4", "NN on gw-b", "another nn: for G4"},
		{"another place with the same NN", func(h *api.Hardware) { h.NICs[0].Place = "0000:09:00.0" }, true, Note, "G1", "PCI place", ""},
		{"another driver", func(h *api.Hardware) { h.NICs[0].Driver, h.NICs[0].IDs = "virtio_net", "1af4:1041" }, true, Risk, "G1", "driver", "the same kind of card"},
		{"another card, same driver", func(h *api.Hardware) { h.NICs[0].IDs = "8086:1539" }, true, Note, "G1", "kind of card", ""},
		{"another board", func(h *api.Hardware) { h.Board, h.Cores = "generic", 2 }, true, Risk, "", "CPU cores", ""},
		{"less memory", func(h *api.Hardware) { h.MemoryTotal = 2 << 30 }, true, Risk, "", "memory", ""},
		{"another kernel", func(h *api.Hardware) { h.Kernel = "6.1" }, true, Note, "", "kernel", ""},
	} {
		there := box()
		c.there(&there)
		got := Compare("gw-a", box(), "gw-b", there)
		i := slices.IndexFunc(got.Differences, func(d Difference) bool {
			return d.Effect == c.effect && d.Interface == c.port && d.What == c.what && strings.Contains(d.Remedy, c.remedy)
		})
		if i < 0 || got.SameSharedMACs != c.same {
			t.Errorf("%s: %+v", c.name, got)
		}
		if back := Compare("gw-b", there, "gw-a", box()); back.SameSharedMACs != c.same || len(back.Differences) != len(got.Differences) {
			t.Errorf("%s, the other way round: %+v", c.name, back)
		}
		if !slices.IsSortedFunc(got.Differences, func(a, b Difference) int { return rank(a.Effect) - rank(b.Effect) }) {
			t.Errorf("%s: not the worst first: %+v", c.name, got.Differences)
		}
	}
	nearly := box()
	nearly.MemoryTotal, nearly.NICs[0].MAC, nearly.Uptime = 4<<30-100<<10, "52:54:00:00:00:ff", 5
	if got := Compare("a", box(), "b", nearly); !got.SameSharedMACs || len(got.Differences) != 0 || got.Ports != 4 {
		t.Errorf("%+v", got)
	}
	// Archives of earlier versions do not say what is configured: every port counts.
	old := box()
	for i := range old.NICs {
		old.NICs[i].Interface = ""
	}
	less := old
	less.NICs = less.NICs[:3]
	if got := Compare("a", old, "b", less); got.SameSharedMACs {
		t.Errorf("%+v", got)
	}
}

func archive(t testing.TB, files map[string]any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, v := range files {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "techsupport/" + name, Mode: 0o644, Size: int64(len(data))})
		w.Write(data)
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// TestRead: what hardware --json prints and an archive are read, other things are refused.
func TestRead(t *testing.T) {
	plain, _ := json.Marshal(box())
	whole := archive(t, map[string]any{"version.txt": "x", "hardware.json": box(), "ha.json": map[string]string{"member_name": "gw-b"}})
	for name, c := range map[string]struct {
		data   []byte
		member string
	}{"json": {plain, ""}, "archive": {whole, "gw-b"}} {
		h, member, err := Read(bytes.NewReader(c.data))
		if err != nil || len(h.NICs) != 4 || member != c.member {
			t.Errorf("%s: %d NICs of %q: %v", name, len(h.NICs), member, err)
		}
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "another object": []byte(`{"a":1}`), "too long": append(plain, bytes.Repeat([]byte(" "), maxFile)...), "half an archive": whole[:100],
		"an archive of something else": archive(t, map[string]any{"x": 1}), "gzip of something else": {0x1f, 0x8b, 0, 0}, "a bad section": archive(t, map[string]any{"hardware.json": "x"}),
	} {
		if _, _, err := Read(bytes.NewReader(data)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzRead: no file makes trouble, and what is read can be compared.
func FuzzRead(f *testing.F) {
	plain, _ := json.Marshal(box())
	f.Add(plain)
	f.Add(archive(f, map[string]any{"hardware.json": box()}))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, name, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		Compare("a", box(), name, h)
		if c := Compare("a", h, "b", h); slices.ContainsFunc(c.Differences, func(d Difference) bool {
			return d.Here != d.There && !strings.HasPrefix(d.What, "NN on") && d.What != "port" && !strings.Contains(d.What, "PCI") && !strings.Contains(d.What, "nn") && d.What != "cluster ID" && d.What != "driver" && d.What != "kind of card"
		}) {
			t.Errorf("%+v", c) // names that come twice can be compared with each other; the box itself cannot differ
		}
	})
}
