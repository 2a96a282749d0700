package topology

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCableScript(t *testing.T) {
	want := []string{
		"link add lan-b address 02:71:01:00:00:e1 type veth peer name lan address 02:71:01:00:00:03 netns tkb1-gw-b",
		"link set lan-b master lan group 102 up",
		"link add wan-b address 02:71:02:00:00:e1 type veth peer name wan address 02:71:02:00:00:03 netns tkb1-gw-b",
		"link set wan-b master wan group 102 up",
	}
	if diff := cmp.Diff(want, cableScript(1, "tkb1-gw-b")); diff != "" {
		t.Error(diff)
	}
}

func TestAddressesDiffer(t *testing.T) {
	seen := map[string]bool{LANVIP.String(): true, WANVIP.String(): true, Client.String(): true, Server.String(): true}
	for i := range Members {
		for _, device := range []string{LAN, WAN, Sync} {
			a := Address(i, device).Addr().String()
			if seen[a] {
				t.Errorf("%s of gateway %d: %s is used twice", device, i, a)
			}
			seen[a] = true
		}
	}
}

// TestLife builds the network, lets a gateway die and come back, and looks that nothing stays behind.
func TestLife(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip of iproute2")
	}
	lab, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
		out, _ := exec.Command("ip", "netns", "list").Output()
		if strings.Contains(string(out), string(lab.Client)) {
			t.Errorf("namespaces stayed behind:\n%s", out)
		}
	}()
	for _, g := range lab.Gateways {
		if err := g.Boot(); err != nil {
			t.Fatal(err)
		}
	}
	a := lab.Gateways[0]
	if err := a.NS.Command(t.Context(), "sleep", "60").Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for range 100 {
		if pids, err = a.NS.Processes(); err != nil {
			t.Fatal(err)
		} else if len(pids) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(pids) != 1 || slices.Contains(pids, os.Getpid()) {
		t.Fatalf("processes of %s: %v, want the one started", a.Name, pids)
	}
	v, err := a.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	cut, err := v.Die()
	if err != nil {
		t.Fatal(err)
	}
	t.Log("the cut took", cut)
	if err := a.NS.KillAll(); err != nil {
		t.Error(err)
	}
	for _, link := range []struct {
		ns   Namespace
		name string
	}{{lab.network, "lan-a"}, {lab.network, "wan-a"}, {a.NS, Sync}} {
		out, err := exec.Command("ip", "-netns", string(link.ns), "-o", "link", "show", "up", link.name).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s is still up: %v %s", link.name, err, out)
		}
	}
	if out, _ := exec.Command("ip", "-netns", string(lab.network), "-o", "link", "show", "up", "lan-b").Output(); len(out) == 0 {
		t.Error("lan-b went down too")
	}
	if err := a.Off(); err != nil {
		t.Fatal(err)
	}
	if err := a.Boot(); err != nil {
		t.Fatal(err)
	}
}
