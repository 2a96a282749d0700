package nic

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// summary is one line for each NIC, in order, then one for each interface left out.
func summary(nics []NIC, skipped []Skipped) []string {
	var lines []string
	for _, n := range nics {
		lines = append(lines, fmt.Sprintf("%s %v %s %04x:%04x %s", n.Kernel, n.Path, n.Driver, n.Vendor, n.Device, n.MAC))
	}
	for _, s := range skipped {
		kind := "skip"
		if s.Fault {
			kind = "fault"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", kind, s.Kernel, s.Reason))
	}
	return lines
}

func TestScanMachines(t *testing.T) {
	tests := map[string][]string{
		"apu2": {
			"eth0 0000:00:02.2>0000:01:00.0 igb 8086:157b 00:0d:b9:00:00:04",
			"eth1 0000:00:02.3>0000:02:00.0 igb 8086:157b 00:0d:b9:00:00:05",
			"eth2 0000:00:02.4>0000:03:00.0 igb 8086:157b 00:0d:b9:00:00:06",
			"skip wlan0: wireless",
		},
		"igc-6port": { // topology, not ethN
			"eth2 0000:00:1c.0>0000:01:00.0 igc 8086:15f3 00:e0:67:00:00:01",
			"eth0 0000:00:1c.4>0000:02:00.0 igc 8086:15f3 00:e0:67:00:00:02",
			"eth1 0000:00:1c.5>0000:03:00.0 igc 8086:15f3 00:e0:67:00:00:03",
			"eth5 0000:00:1c.6>0000:04:00.0 igc 8086:15f3 00:e0:67:00:00:04",
			"eth3 0000:00:1c.7>0000:05:00.0 igc 8086:15f3 00:e0:67:00:00:05",
			"eth4 0000:00:1d.0>0000:06:00.0 igc 8086:15f3 00:e0:67:00:00:06",
		},
		"dell-edge620": {
			"eth0 0000:00:0b.0>0000:02:00.0 igb 8086:1521 e4:f0:04:00:00:01",
			"eth1 0000:00:0b.0>0000:02:00.1 igb 8086:1521 e4:f0:04:00:00:02",
			"eth2 0000:00:0b.0>0000:02:00.2 igb 8086:1521 e4:f0:04:00:00:03",
			"eth3 0000:00:0b.0>0000:02:00.3 igb 8086:1521 e4:f0:04:00:00:04",
			"eth6 0000:00:17.0>0000:07:00.0 ixgbe 8086:15e5 e4:f0:04:00:00:07",
			"eth7 0000:00:17.0>0000:07:00.1 ixgbe 8086:15e5 e4:f0:04:00:00:08",
		},
		"server-sriov": { // bus 07 of slot 03 and bus 05 of slot 02: the slot decides
			"eth0 0000:00:02.0>0000:03:00.0>0000:04:00.0>0000:05:00.0 tn40xx 1fc9:4027 00:0a:cd:00:00:01",
			"eth1 0000:00:02.0>0000:03:00.0>0000:04:08.0>0000:06:00.0 tn40xx 1fc9:4027 00:0a:cd:00:00:02",
			"ens1f0 0000:00:03.0>0000:07:00.0 ixgbe 8086:10fb 90:e2:ba:00:00:01",
			"ens1f1 0000:00:03.0>0000:07:00.1 ixgbe 8086:10fb 90:e2:ba:00:00:02",
			"eno1 0000:00:19.0 e1000e 8086:153a d8:9d:67:00:00:01",
			"enp128p0 0000:80:02.0>0000:84:00.0 ixgbe 8086:1563 a0:36:9f:00:00:11",
			"enp128p1 0000:80:02.0>0000:84:00.1 ixgbe 8086:1563 a0:36:9f:00:00:12",
			"skip ens1f0v0: SR-IOV virtual function of 0000:07:00.0",
			"skip ens1f1v0: SR-IOV virtual function of 0000:07:00.1",
		},
		"connectx3": { // dev_port, not ethN
			"eth2 0000:00:01.0>0000:01:00.0 mlx4_core 15b3:1003 f4:52:14:00:00:01",
			"eth1 0000:00:01.0>0000:01:00.1 mlx4_core 15b3:1003 f4:52:14:00:00:02",
			"eth0 0000:00:1c.4>0000:04:00.0 igb 8086:1521 a0:36:9f:00:00:21",
		},
		"vmd": {
			"eth0 0000:00:0e.0>10000:e0:1d.0>10000:e1:00.0 igc 8086:125c 00:e0:4c:00:00:01",
			"eth1 0000:00:1f.6 e1000e 8086:15fa 00:e0:4c:00:00:02",
		},
		"mixed": {
			"enp3s0 0000:00:1c.2>0000:03:00.0 r8169 10ec:8168 00:e0:4c:00:00:03",
			"skip enx00e04c000004: not a PCI device: usb2/2-1/2-1:1.0 behind 0000:00:14.0",
			`skip ib0: not Ethernet: hardware type "32"`,
			"skip wlp0s20f3: wireless",
		},
		"this-vm": {"eth0 0000:00:03.0 virtio_net 1af4:1041 02:fc:00:00:00:01"},
		"qemu-q35": {
			"eth0 0000:00:03.0 virtio_net 1af4:1000 52:54:00:12:34:56",
			"eth2 0000:00:04.0 e1000e 8086:10d3 52:54:00:12:34:57",
			"eth1 0000:00:05.0>0000:01:00.0 virtio_net 1af4:1041 52:54:00:12:34:58",
			"eth3 0000:00:05.1>0000:02:00.0 e1000e 8086:10d3 52:54:00:12:34:59",
			"eth4 0000:00:05.1>0000:02:00.1 e1000e 8086:10d3 52:54:00:12:34:5a",
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			nics, skipped, err := Scan(machine(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, summary(nics, skipped)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	dirs, _ := filepath.Glob("testdata/*/tree.txt")
	if len(dirs) != len(tests) {
		t.Errorf("%d trees in testdata, %d tested", len(dirs), len(tests))
	}
}

// Two ports in one function: the NIC keeps the true function and dev_port beside its place.
func TestScanSharedFunction(t *testing.T) {
	nics, _, err := Scan(machine(t, "connectx3"))
	if err != nil {
		t.Fatal(err)
	}
	second := nics[1]
	if second.Function != 0 || second.DevPort != 1 || second.Place() != (Place{Bus: 1, Port: 1}) {
		t.Errorf("second port: function %d, dev_port %d, place %v", second.Function, second.DevPort, second.Place())
	}
}

func TestPort(t *testing.T) {
	tests := []struct {
		name              string
		function, devPort int
		want              int // -1 for an error
	}{
		{"usual driver", 3, 0, 3},
		{"mlx4, second port of one function", 0, 1, 1},
		{"bnxt, dev_port repeats the function", 1, 1, 1},
		{"sfc, likewise", 3, 3, 3},
		{"cxgb4, first port of function 4", 4, 0, 4},
		{"cxgb4, last of its four", 4, 3, 7},
		{"largest", 0, 255, 255},
		{"too large", 1, 255, -1},
		{"wraps around", 2, 65535, -1},
	}
	for _, tt := range tests {
		got, err := port(uint8(tt.function), uint16(tt.devPort))
		if (err != nil) != (tt.want < 0) || err == nil && int(got) != tt.want {
			t.Errorf("%s: port(%d, %d) = %d, %v; want %d", tt.name, tt.function, tt.devPort, got, err, tt.want)
		}
	}
}

// One NIC in perfect order; each case spoils a line of it.
const sound = `class/net/eth0 -> ../../devices/pci0000:00/0000:00:03.0/net/eth0
devices/pci0000:00/0000:00:03.0/vendor = 0x8086
devices/pci0000:00/0000:00:03.0/device = 0x10d3
devices/pci0000:00/0000:00:03.0/driver -> ../../../bus/pci/drivers/e1000e
devices/pci0000:00/0000:00:03.0/net/eth0/device -> ../../../0000:00:03.0
devices/pci0000:00/0000:00:03.0/net/eth0/address = 52:54:00:12:34:56
devices/pci0000:00/0000:00:03.0/net/eth0/dev_port = 0
devices/pci0000:00/0000:00:03.0/net/eth0/type = 1`

func TestScanBadInput(t *testing.T) {
	dir := "devices/pci0000:00/0000:00:03.0"
	tests := []struct {
		name string
		line string // the line that starts so ...
		by   string // ... is replaced by this
		want string // part of the only line of the summary
	}{
		{"sound", "", "", "eth0 0000:00:03.0 e1000e"},
		{"no address", dir + "/net/eth0/address", "", "fault eth0: open"},
		{"garbage address", dir + "/net/eth0/address", dir + "/net/eth0/address = \xff\x00zz", `fault eth0: class/net/eth0/address: "\xff\x00zz" is not the MAC`},
		{"empty address", dir + "/net/eth0/address", dir + "/net/eth0/address =", `"" is not the MAC`},
		{"zero address", dir + "/net/eth0/address", dir + "/net/eth0/address = 00:00:00:00:00:00", "is not the MAC"},
		{"group address", dir + "/net/eth0/address", dir + "/net/eth0/address = 01:00:5e:00:00:01", "is not the MAC"},
		{"long address", dir + "/net/eth0/address", dir + "/net/eth0/address = 02:00:5e:10:00:00:00:01", "is not the MAC"},
		{"endless address", dir + "/net/eth0/address", dir + "/net/eth0/address = " + strings.Repeat("02:", 9000), "is not the MAC"},
		{"no dev_port", dir + "/net/eth0/dev_port", "", "fault eth0: open"},
		{"garbage dev_port", dir + "/net/eth0/dev_port", dir + "/net/eth0/dev_port = 0x1", `dev_port: "0x1" is not a 16-bit number`},
		{"negative dev_port", dir + "/net/eth0/dev_port", dir + "/net/eth0/dev_port = -1", "is not a 16-bit number"},
		{"huge dev_port", dir + "/net/eth0/dev_port", dir + "/net/eth0/dev_port = 65535", "dev_port: port number 65535 is out of range"},
		{"no type", dir + "/net/eth0/type", "", "fault eth0: open"},
		{"other type", dir + "/net/eth0/type", dir + "/net/eth0/type = 512", `skip eth0: not Ethernet: hardware type "512"`},
		{"no vendor", dir + "/vendor", "", "fault eth0: open"},
		{"vendor without prefix", dir + "/vendor", dir + "/vendor = 8086", `vendor: "8086" is not a 16-bit number`},
		{"vendor too large", dir + "/vendor", dir + "/vendor = 0x18086", "is not a 16-bit number"},
		{"no driver", dir + "/driver", "", "fault eth0: find driver"},
		{"dangling class link", "class/net/eth0", "class/net/eth0 -> ../../devices/gone", "fault eth0: follow link class/net/eth0"},
		{"dangling device link", dir + "/net/eth0/device", dir + "/net/eth0/device -> ../../../gone", "fault eth0: follow link class/net/eth0/device"},
		{"device link in a circle", dir + "/net/eth0/device", dir + "/net/eth0/device -> device", "fault eth0: follow link class/net/eth0/device"},
		{"device link leads out", dir + "/net/eth0/device", dir + "/net/eth0/device -> /", "is outside of sysfs"},
		{"address is a directory", dir + "/net/eth0/address", dir + "/net/eth0/address/x = 1", "fault eth0: read"},
		{"no PCI in the path", dir + "/net/eth0/device", dir + "/net/eth0/device -> ../../../../../bus", "skip eth0: not a PCI device: bus"},
		{"no device", dir + "/net/eth0/device", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lines := strings.Split(sound+"\nbus/x = 1", "\n")
			for i, l := range lines {
				if tt.line != "" && strings.HasPrefix(l, tt.line) {
					lines[i] = tt.by
				}
			}
			nics, skipped, err := Scan(buildTree(t, strings.Join(lines, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(summary(nics, skipped), "\n")
			if strings.Contains(got, "\n") || !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestScanNoSysfs(t *testing.T) {
	for _, root := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, _, err := Scan(root); err == nil || !strings.Contains(err.Error(), "scan NICs") {
			t.Errorf("Scan(%s): %v", root, err)
		}
	}
}

// The machine that runs the test: whatever it has, nothing may be faulty.
func TestScanHere(t *testing.T) {
	if _, err := os.Stat("/sys/class/net"); err != nil {
		t.Skip("no /sys/class/net here")
	}
	nics, skipped, err := Scan("/sys")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(strings.Join(summary(nics, skipped), "\n"))
}

func FuzzPCIPath(f *testing.F) {
	f.Add("devices/pci0000:00/0000:00:05.0/0000:01:00.0/virtio2")
	f.Add("devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:1d.0/10000:e1:00.0")
	f.Add("devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0")
	f.Add("devices/virtual/net/lo")
	f.Fuzz(func(t *testing.T, device string) {
		hops, pci, err := pciPath(device)
		if (err == nil) != (len(hops) > 0 && pci != "") {
			t.Fatalf("pciPath(%q) = %v, %q, %v", device, hops, pci, err)
		}
		if err == nil && (hops.Place().Port > 7 || hops.Place().Slot > 31) {
			t.Fatalf("pciPath(%q) = %v", device, hops)
		}
	})
}
