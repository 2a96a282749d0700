package nic

import (
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// renames reads "eth0=G1 eth1=G2".
func renames(s string) []Named {
	var named []Named
	for pair := range strings.FieldsSeq(s) {
		from, to, _ := strings.Cut(pair, "=")
		named = append(named, Named{NIC: NIC{Kernel: from, Path: Path{{}}}, Name: to})
	}
	return named
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name, present, named string
		want                 []Step
		err                  string
	}{
		{"nothing to do", "lo G1 G2", "G1=G1 G2=G2", nil, ""},
		{"fresh", "lo eth0 eth1", "eth0=G1 eth1=G2", []Step{{"eth0", "G1"}, {"eth1", "G2"}}, ""},
		{"swap", "lo G1 G2", "G1=G2 G2=G1", []Step{{"G1", "twk0"}, {"G2", "twk1"}, {"twk0", "G2"}, {"twk1", "G1"}}, ""},
		{"chain", "G1 G2", "G1=G2 G2=G3", []Step{{"G2", "twk0"}, {"G1", "G2"}, {"twk0", "G3"}}, ""},
		{"rotation with one at home", "a b c d", "a=b b=c c=a d=d",
			[]Step{{"a", "twk0"}, {"b", "twk1"}, {"c", "twk2"}, {"twk0", "b"}, {"twk1", "c"}, {"twk2", "a"}}, ""},
		{"temporary name in use", "a b twk0 twk1", "a=b b=a",
			[]Step{{"a", "twk2"}, {"b", "twk3"}, {"twk2", "b"}, {"twk3", "a"}}, ""},
		{"temporary name wanted", "a b c", "a=b b=a c=twk0",
			[]Step{{"a", "twk1"}, {"b", "twk2"}, {"twk1", "b"}, {"twk2", "a"}, {"c", "twk0"}}, ""},
		{"held by a stranger", "eth0 G1", "eth0=G1", nil, "cannot be named G1: another interface has that name"},
		{"same name twice", "eth0 eth1", "eth0=G1 eth1=G1", nil, "are both to be named G1"},
		{"name of one that stays", "eth0 G1", "eth0=G1 G1=G1", nil, "are both to be named G1"},
		{"gone", "lo", "eth0=G1", nil, "NIC eth0 (0000:00:00.0) has gone"},
		{"bad name", "eth0", "eth0=all", nil, "reserved"},
		{"no name", "eth0", "eth0=", nil, "want a letter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Plan(strings.Fields(tt.present), renames(tt.named))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// table is a Links that keeps the kernel's rules: the name must be there, the new one free.
type table struct {
	names  []string
	refuse string // name that cannot be taken away
	broken error
}

func (l *table) Names() ([]string, error) { return slices.Clone(l.names), l.broken }

func (l *table) Rename(from, to string) error {
	i := slices.Index(l.names, from)
	switch {
	case i < 0:
		return errors.New("no such device")
	case from == l.refuse:
		return errors.New("device or resource busy")
	case slices.Contains(l.names, to):
		return errors.New("file exists")
	}
	l.names[i] = to
	return nil
}

func TestRename(t *testing.T) {
	l := &table{names: []string{"lo", "G3", "G1", "G2", "eth3"}}
	if err := Rename(l, renames("G3=G1 G1=G2 G2=G3 eth3=X1")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lo", "G1", "G2", "G3", "X1"}, l.names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	l = &table{names: []string{"eth0", "eth1"}, refuse: "eth0"}
	err := Rename(l, renames("eth0=G1 eth1=G2"))
	if err == nil || err.Error() != "rename NIC eth0 to G1: device or resource busy" || l.names[1] != "G2" {
		t.Errorf("one refuses: %v, names %v", err, l.names)
	}

	if err := Rename(&table{broken: errors.New("no netlink")}, nil); err == nil || err.Error() != "rename NICs: no netlink" {
		t.Errorf("no list: %v", err)
	}
	if err := Rename(&table{}, renames("eth0=G1")); err == nil {
		t.Error("no NIC: no error")
	}
}

// inNamespace runs f on a thread in a new network namespace. The thread ends with the goroutine, and the namespace
// with the thread.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.New()
		defer func() { done <- err }()
		if err != nil {
			return
		}
		defer ns.Close()
		f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
}

func TestRenameKernel(t *testing.T) {
	inNamespace(t, func() {
		mac := make(map[string]string)
		for i, name := range []string{"G2", "G1", "eth7", "stranger"} {
			hw := net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.HardwareAddr = name, hw
			// Not dummy: some kernels we are built on lack it, and every kernel for containers has bridges.
			if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
				t.Errorf("add %s: %v", name, err)
				return
			}
			mac[name] = hw.String()
		}
		link := func(name string) netlink.Link {
			l, err := netlink.LinkByName(name)
			if err != nil {
				t.Errorf("find %s: %v", name, err)
				return &netlink.Bridge{}
			}
			return l
		}
		if err := netlink.LinkSetUp(link("G2")); err != nil { // up must not hinder, and must last
			t.Error(err)
		}
		if err := netlink.LinkAddAltName(link("stranger"), "G9"); err != nil {
			t.Error(err)
		}

		if err := Rename(Kernel{}, renames("G2=G1 G1=G2 eth7=X1")); err != nil {
			t.Error(err)
		}
		for now, before := range map[string]string{"G1": "G2", "G2": "G1", "X1": "eth7"} {
			if got := link(now).Attrs().HardwareAddr.String(); got != mac[before] {
				t.Errorf("%s has MAC %s, want that of the former %s, %s", now, got, before, mac[before])
			}
		}
		for name, up := range map[string]bool{"G1": true, "G2": false, "X1": false} {
			if got := link(name).Attrs().Flags&net.FlagUp != 0; got != up {
				t.Errorf("%s is up: %t, want %t", name, got, up)
			}
		}

		if err := Rename(Kernel{}, renames("X1=stranger")); err == nil || !strings.Contains(err.Error(), "another interface has that name") {
			t.Errorf("name of a stranger: %v", err)
		}
		if err := Rename(Kernel{}, renames("X1=G9")); err == nil || !strings.Contains(err.Error(), "another interface has that name") {
			t.Errorf("alternative name of a stranger: %v", err)
		}
		if err := (Kernel{}).Rename("G1", "stranger"); err == nil {
			t.Error("kernel let a name be used twice")
		} else if link("G1").Attrs().Flags&net.FlagUp == 0 {
			t.Error("interface is down after a failed rename")
		}
		if err := (Kernel{}).Rename("none", "G7"); err == nil {
			t.Error("rename of an interface that is not there: no error")
		}
	})
}
