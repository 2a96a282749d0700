package console

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/hardware"
	"github.com/twinkeep/twinkeep/tools/golden"
)

// twins are two members, one with its second card in another slot, of another kind.
func twins() (a, b api.Hardware) {
	for i, h := range []*api.Hardware{&a, &b} {
		*h = api.Hardware{Board: "qemu", CPU: "QEMU", Cores: 2, MemoryTotal: 1 << 30, Kernel: "6.18.44"}
		h.NICs = []api.NIC{
			{Device: "G1", Interface: "G1", Place: "0000:00:02.0", Driver: "virtio_net", NN: 8, SharedMAC: "10:00:00:00:08:07", IDs: "1af4:1041"},
			{Device: "G2", Interface: "G2", Place: "0000:00:03.0", Driver: "virtio_net", NN: 12, SharedMAC: "10:00:00:00:0c:07", IDs: "1af4:1041"},
		}
		if i == 1 {
			h.NICs[1] = api.NIC{Device: "G2", Interface: "G2", Place: "0000:00:05.0", Driver: "e1000e\x1b[2J", NN: 20, SharedMAC: "10:00:00:00:14:07", IDs: "8086:10d3"}
		}
	}
	return a, b
}

func TestHardwareDiff(t *testing.T) {
	a, b := twins()
	var out bytes.Buffer
	writeHardwareDiff(&out, hardware.Compare("gw-a", a, "gw-b", b))
	golden.Check(t, "testdata/hardware-diff.golden", out.String())

	dir := t.TempDir()
	file := func(name string, h api.Hardware) string {
		data, _ := json.Marshal(h)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := file("one.json", a), file("two.json", b)
	diff := func(opts Options, stdin string, args ...string) (string, error) {
		var out bytes.Buffer
		root := NewCommand(opts)
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetIn(strings.NewReader(stdin))
		root.SetArgs(append([]string{"hardware", "diff"}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	nowhere := Options{Run: "/nonexistent"}
	if text, err := diff(nowhere, "", one, two); err != nil || !strings.Contains(text, "one.json and two.json DO NOT have the same") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := diff(nowhere, "", one, one); err != nil || !strings.Contains(text, "the same shared MACs on 2 ports.\nTheir hardware is the same.") {
		t.Errorf("%v\n%s", err, text)
	}
	data, _ := os.ReadFile(one)
	if text, err := diff(nowhere, string(data), "-", two); err != nil || !strings.Contains(text, "standard input and two.json") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := diff(nowhere, "", "--json", one, two); err != nil || !strings.Contains(text, `"same_shared_macs": false`) {
		t.Errorf("%v\n%s", err, text)
	}
	operator := Options{Run: "/nonexistent", Operator: "admin"}
	for _, c := range []struct {
		opts Options
		args []string
		want string
	}{
		{nowhere, []string{one, filepath.Join(dir, "none")}, "no such file"}, {operator, []string{one, two}, "no file of the device"}, {nowhere, []string{"gw-b"}, "gatewayd does not answer"},
		{nowhere, []string{one, "gw-b"}, "gatewayd does not answer"}, {nowhere, []string{one, "/proc/version"}, "hardware --json"},
	} {
		if _, err := diff(c.opts, "", c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}
