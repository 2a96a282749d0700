package node

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/twinkeep/twinkeep/tools/golden"
)

func example(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var compareNetip = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestParseExample(t *testing.T) {
	n, _, err := Parse("node.yaml", example(t))
	if err != nil {
		t.Fatal(err)
	}
	want := &Node{
		Version: 1, Hostname: "gw-a",
		Cluster: &Cluster{
			ID: 7, Name: "branch", Member: 1, Key: Key([]byte("0123456789abcdef0123456789abcdef")),
			Mode: ModeActiveUp, Checksums: ChecksumsInvalid,
			Members: []Member{{ID: 1, Name: "gw-a", Priority: 120}, {ID: 2, Name: "gw-b", Priority: 100}},
			Timing:  Timing{10 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond, 500 * time.Millisecond},
		},
		Interfaces: []Interface{
			{Name: "G1", Device: "G1", Number: 1, Zone: ZoneLAN, Beats: true, Address: netip.MustParsePrefix("10.1.0.2/24"), VIPs: []VIP{netip.MustParseAddr("10.1.0.1")}},
			{Name: "G2", Device: "G2", Number: 2, Zone: ZoneWAN, Beats: true, Address: netip.MustParsePrefix("192.0.2.2/24"), VIPs: []VIP{netip.MustParseAddr("192.0.2.1")}},
			{Name: "G3", Device: "G3", Number: 3, Sync: true, Beats: true, Address: netip.MustParsePrefix("169.254.77.1/30")},
		},
		Routes: []Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254")}},
		NAT:    []NAT{{From: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, Out: "G2", To: TargetVIP, Ports: PortsKeep}},
	}
	if diff := cmp.Diff(want, n, compareNetip); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	const key = "  key: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\n"
	n, warnings, err := Parse("node.yaml", []byte("version: 1\nhostname: a\ncluster:\n  id: 0x07\n  member: 2\n"+key+
		"  members: [{id: 1, name: a}, {id: 2, name: b, priority: 90}]\n"+
		"interfaces:\n- {name: G1, device: veth0, zone: wan, address: 10.0.0.2/24, address6: \"2001:db8::2/64\", nn: 0x15, place: 0/5/0,\n"+
		"   vips: [\"2001:db8::1\", \"fe80::1\", 10.0.0.1]}\n"+
		"- {name: G2, zone: lan, address: 10.5.0.2/24, vips: [203.0.113.9], vips_outside: true}\n"+
		"nat:\n- {out: G1}\n- {out: G1, to: 198.51.100.7, ports: random}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].Message, "no sync interface") {
		t.Errorf("warnings %v", warnings)
	}
	nn := uint8(0x15)
	if diff := cmp.Diff(Interface{
		Name: "G1", Device: "veth0", Number: 1, Zone: ZoneWAN, Beats: true, NN: &nn, Place: "0/5/0",
		Address: netip.MustParsePrefix("10.0.0.2/24"), Address6: netip.MustParsePrefix("2001:db8::2/64"),
		VIPs: []VIP{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("10.0.0.1")},
	}, n.Interfaces[0], compareNetip); diff != "" {
		t.Errorf("interface (-want +got):\n%s", diff)
	}
	if got := n.Interfaces[0].VIP4().String(); got != "10.0.0.1" {
		t.Errorf("VIP4 = %s", got)
	}
	if diff := cmp.Diff(newCluster().Timing, n.Cluster.Timing); diff != "" {
		t.Errorf("timing (-want +got):\n%s", diff)
	}
	if n.Cluster.Members[0].Priority != 100 || n.Cluster.Mode != ModeActiveUp || n.Cluster.Checksums != ChecksumsInvalid {
		t.Errorf("cluster %+v", n.Cluster)
	}
	if diff := cmp.Diff([]NAT{
		{Out: "G1", To: TargetVIP, Ports: PortsKeep},
		{Out: "G1", To: TargetIP, Addr: netip.MustParseAddr("198.51.100.7"), Ports: PortsRandom},
	}, n.NAT, compareNetip); diff != "" {
		t.Errorf("nat (-want +got):\n%s", diff)
	}
}

func TestStandalone(t *testing.T) {
	tests := []struct {
		name, interfaces string
		want             []Zone
	}{
		{"plain host", "[{name: G1, address: 10.0.0.1/24}, {name: G2}]", []Zone{ZoneLAN, ZoneLAN}},
		{"gateway", "[{name: G1, address: 10.0.0.1/24, zone: lan}, {name: G2}]", []Zone{ZoneLAN, ZoneNone}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, _, err := Parse("f", []byte("version: 1\nhostname: h\ninterfaces: "+tt.interfaces+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tt.want {
				if f := n.Interfaces[i]; f.Zone != want || f.Beats {
					t.Errorf("%s: zone %q, heartbeats %v; want %q without", f.Name, f.Zone, f.Beats, want)
				}
			}
		})
	}
}

// TestBad holds what the operator reads for every file in testdata/bad.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n, warnings, err := Parse("node.yaml", data)
			var faults ErrorList
			if n != nil || !errors.As(err, &faults) {
				t.Fatalf("got %v, %v; want an ErrorList", n, err)
			}
			var b strings.Builder
			for _, p := range faults {
				fmt.Fprintf(&b, "%s\n%s", p.Error(), p.Excerpt(data))
			}
			for _, p := range warnings {
				fmt.Fprintf(&b, "warning: %s\n%s", p.Error(), p.Excerpt(data))
			}
			golden.Check(t, strings.TrimSuffix(file, ".yaml")+".golden", b.String())
			unspecified := slices.ContainsFunc(faults, func(p Problem) bool { return p.UnspecifiedVIP == "G1" })
			if want := strings.Contains(b.String(), "0.0.0.0 cannot be"); unspecified != want {
				t.Errorf("marked as a shared address 0.0.0.0: %v, want %v", unspecified, want)
			}
			var first Problem
			if !errors.As(err, &first) || first.Message != faults[0].Message {
				t.Errorf("errors.As gives %v", first)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	file := strings.Replace(string(example(t)), "key: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "key_file: cluster.key", 1)
	write(FileName, file, 0o644)
	if _, _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "cannot read the cluster key") {
		t.Fatalf("without the key file: %v", err)
	}
	want := Key([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"))
	write("cluster.key", base64.StdEncoding.EncodeToString(want[:])+"\n", 0o644)
	n, warnings, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n.Cluster.Key != want {
		t.Error("another key was read")
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "can be read by every user (mode 644)") {
		t.Errorf("warnings %v", warnings)
	}
	if got := fmt.Sprintf("%v %+v %#v", n.Cluster.Key, n.Cluster.Key, n.Cluster.Key); strings.Contains(got, "ABC") || strings.Contains(got, "65") {
		t.Errorf("the key prints itself: %s", got)
	}
}

func TestLoadMissing(t *testing.T) {
	_, _, err := Load(t.TempDir())
	var faults ErrorList
	if !errors.As(err, &faults) || faults[0].Hint != "write one with: node edit" {
		t.Errorf("got %v", err)
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	good := example(t)
	if _, err := Save(dir, good); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(dir, []byte("version: 9\n")); err == nil {
		t.Error("a bad file was saved")
	}
	got, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil || !bytes.Equal(got, good) {
		t.Errorf("the good file is gone: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRedact(t *testing.T) {
	const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	data := example(t)
	shown := Redact(data)
	if want := bytes.Replace(data, []byte(key), []byte(redacted), 1); !bytes.Equal(shown, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(string(want), string(shown)))
	}
	if back := Unredact(shown, data); !bytes.Equal(back, data) {
		t.Errorf("Unredact (-want +got):\n%s", cmp.Diff(string(data), string(back)))
	}
	for _, form := range []string{
		"'" + key + "'", "\"" + key + "\"", "|\n    " + key, ">-\n    " + key[:20] + "\n    " + key[20:], "\"" + key[:20] + "\\\n    " + key[20:] + "\"",
	} {
		written := strings.Replace(string(data), key, form, 1)
		got := string(Redact([]byte(written)))
		if strings.Contains(got, key[:20]) && strings.Contains(got, key[20:43]) {
			t.Errorf("key: %s\nis shown:\n%s", form, got)
		}
	}
	if got := string(Redact([]byte("bad: [file\ncluster: {id: 7, key: hunter2, key_file: x}\n"))); got != "bad: [file\ncluster: {id: 7, key: REDACTED, key_file: x}\n" {
		t.Errorf("got %q", got)
	}
}

// TestExcessive wants texts that would keep the YAML library busy for minutes refused at once.
func TestExcessive(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 100000), strings.Repeat("{a: ", 40000), strings.Repeat("a: [\n", 40000), strings.Repeat("- ", 100000),
		strings.Repeat("- - \n", 10) + strings.Repeat("? ", 100), strings.Repeat("a: ", 60000), "[" + strings.Repeat(",", 100000),
		strings.Repeat("a", MaxSize+1),
	} {
		start := time.Now()
		_, _, err := Parse("node.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "nested deeper") && !strings.Contains(err.Error(), "more than 4096") && !strings.Contains(err.Error(), "the most is") {
			t.Errorf("%.20q: %v", text, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%.20q took %v", text, took)
		}
	}
}

func TestExcerpt(t *testing.T) {
	src := []byte("a: 1\n\tb: ü x\r\n")
	if got, want := (Problem{Line: 2, Column: 7}).Excerpt(src), "\tb: ü x\n\t     ^\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Problem{Line: 9}).Excerpt(src); got != "" {
		t.Errorf("got %q for a line that is not there", got)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range append(files, "testdata/example.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(strings.Repeat("a: [", 40000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, _, err := Parse("node.yaml", data)
		if (n == nil) == (err == nil) {
			t.Fatalf("node %v with error %v", n, err)
		}
		var faults ErrorList
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("want an ErrorList, got %v", err)
		}
		for _, p := range faults {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Fatalf("no place or message: %+v", p)
			}
			p.Excerpt(data)
		}
		shown := Redact(data)
		if n != nil && n.Cluster != nil {
			if tm := n.Cluster.Timing; tm.Lease >= tm.Dead || tm.Beat > tm.Lease/2 || tm.Silence < tm.Dead {
				t.Fatalf("timing %+v", tm)
			}
			if key := base64.StdEncoding.EncodeToString(n.Cluster.Key[:]); n.Cluster.KeyFile == "" && bytes.Contains(shown, []byte(key)) {
				t.Fatal("the key is shown")
			}
		}
	})
}

func TestSSH(t *testing.T) {
	for text, want := range map[string]uint16{
		"": 22, "ssh: {}\n": 22, "ssh: {enabled: false}\n": 0, "ssh: {enabled: false, port: 2222}\n": 0, "ssh: {port: 2222}\n": 2222,
	} {
		n, _, err := Parse("node.yaml", []byte("version: 1\nhostname: a\ninterfaces: [{name: G1, address: 10.0.0.2/24}]\n"+text))
		if err != nil || n.SSH.Listen() != want {
			t.Errorf("%q: port %d, want %d, %v", text, n.SSH.Listen(), want, err)
		}
	}
	for _, text := range []string{"ssh: {port: 0}", "ssh: {port: 65536}", "ssh: on", "ssh: {shell: true}"} {
		if _, _, err := Parse("node.yaml", []byte("version: 1\nhostname: a\ninterfaces: [{name: G1, address: 10.0.0.2/24}]\n"+text+"\n")); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
