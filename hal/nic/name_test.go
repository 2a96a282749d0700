package nic

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"G1", "Sync", "wan-a", "ABCDEFGHIJK", "x_1"} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":             "want a letter",
		"1G":           "want a letter",
		"G1.7":         "want a letter",
		"G/1":          "want a letter",
		"G 1":          "want a letter",
		"Gö":           "want a letter",
		"ABCDEFGHIJKL": "has 12 characters: at most 11",
		"lo":           "reserved",
		"all":          "reserved",
		"default":      "reserved",
	} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckName(%q): %v, want %q", name, err, want)
		}
	}
}

func TestAssign(t *testing.T) {
	tests := []struct {
		name, machine string
		table         [][2]string // name, path
		want          []string    // kernel name=name
		missing       []string
	}{
		{
			name: "generic: PCI order", machine: "igc-6port",
			want: []string{"eth2=G1", "eth0=G2", "eth1=G3", "eth5=G4", "eth3=G5", "eth4=G6"},
		},
		{
			name: "generic: ports of one function", machine: "connectx3",
			want: []string{"eth2=G1", "eth1=G2", "eth0=G3"},
		},
		{
			name: "generic: QEMU", machine: "qemu-q35",
			want: []string{"eth0=G1", "eth2=G2", "eth1=G3", "eth3=G4", "eth4=G5"},
		},
		{
			name: "front panel in another order than PCI", machine: "dell-edge620",
			table: [][2]string{
				{"GE1", "0000:00:0b.0>0000:02:00.2"}, {"GE2", "0000:00:0b.0>0000:02:00.3"},
				{"GE3", "0000:00:0b.0>0000:02:00.0"}, {"GE4", "0000:00:0b.0>0000:02:00.1"},
				{"GE5", "0000:00:17.0>0000:07:00.1"}, {"GE6", "0000:00:17.0>0000:07:00.0"},
			},
			want: []string{"eth0=GE3", "eth1=GE4", "eth2=GE1", "eth3=GE2", "eth6=GE6", "eth7=GE5"},
		},
		{
			name: "unlisted NICs, X1 taken, buses renumbered", machine: "igc-6port",
			table: [][2]string{{"X1", "0/29/0 > 9/0/0"}, {"WAN", "0000:01:00.0"}},
			want:  []string{"eth2=WAN", "eth0=X2", "eth1=X3", "eth5=X4", "eth3=X5", "eth4=X1"},
		},
		{
			name: "ports without a NIC keep their names", machine: "apu2",
			table: [][2]string{{"X1", "0000:00:05.0"}, {"G2", "0000:00:02.3>0000:02:00.0"}},
			want:  []string{"eth0=X2", "eth1=G2", "eth2=X3"},
			missing: []string{
				"port X1: no NIC at 0000:00:05.0: it is broken, disabled in the firmware setup or without a driver",
			},
		},
		{
			name: "one NIC listed twice", machine: "vmd",
			table: [][2]string{{"G1", "0000:00:1f.6"}, {"G2", "0000:00:0e.0>10000:e0:1d.0>10000:e1:00.0"}, {"G3", "10000:e1:00.0"}},
			want:  []string{"eth0=G2", "eth1=G1"},
			missing: []string{
				"port G3 at 10000:e1:00.0: its NIC is already port G2: remove one of them from the board file",
			},
		},
		{
			name: "port of a shared function", machine: "connectx3",
			table: [][2]string{{"SFP2", "0000:00:01.0>0000:01:00.1"}, {"SFP1", "0000:00:01.0>0000:01:00.0"}},
			want:  []string{"eth2=SFP1", "eth1=SFP2", "eth0=X1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nics, _, err := Scan(machine(t, tt.machine))
			if err != nil {
				t.Fatal(err)
			}
			var table []Port
			for _, p := range tt.table {
				table = append(table, Port{Name: p[0], Path: mustPath(t, p[1])})
			}
			named, missing := Assign(nics, table)
			var got, gone []string
			for _, n := range named {
				got = append(got, n.Kernel+"="+n.Name)
			}
			for _, m := range missing {
				gone = append(gone, m.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.missing, gone); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
	if named, missing := Assign(nil, nil); len(named) != 0 || missing != nil {
		t.Errorf("no NICs: %v, %v", named, missing)
	}
}

// What init and had do with all this: names, NNs and shared MACs of a machine.
func TestIdentities(t *testing.T) {
	nics, _, err := Scan(machine(t, "qemu-q35"))
	if err != nil {
		t.Fatal(err)
	}
	named, _ := Assign(nics, nil)
	var ids []Identity
	var got []string
	for _, n := range named {
		ids = append(ids, n.Identity())
		got = append(got, n.Name+" "+SharedMAC(n.Identity().NN, 1).String())
	}
	want := []string{
		"G1 10:00:00:00:0c:01", "G2 10:00:00:00:10:01", "G3 10:00:00:00:20:01", "G4 10:00:00:00:40:01", "G5 10:00:00:00:41:01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := Collisions(ids); err != nil {
		t.Error(err)
	}
}

// Two interfaces that sysfs gives the same place: one gets the name, the other is not lost.
func TestAssignSamePlace(t *testing.T) {
	path := mustPath(t, "0000:00:03.0")
	nics := []NIC{{Kernel: "a", Path: path}, {Kernel: "b", Path: path}}
	named, missing := Assign(nics, []Port{{Name: "G1", Path: path}})
	if named[0].Name != "G1" || named[1].Name != "X1" || missing != nil {
		t.Errorf("names %s, %s, missing %v", named[0].Name, named[1].Name, missing)
	}
}
