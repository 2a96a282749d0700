package wireshark

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// tshark shows frames through the dissector.
func tshark(t *testing.T, frames [][]byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark on this machine; to test the dissector: apt-get install --no-install-recommends tshark")
	}
	be := binary.BigEndian
	b := append(be.AppendUint32(nil, 0xA1B2C3D4), 0, 2, 0, 4)
	for _, v := range []uint32{0, 0, 65535, 1} {
		b = be.AppendUint32(b, v)
	}
	for i, f := range frames {
		for _, v := range []uint32{uint32(i), 0, uint32(len(f)), uint32(len(f))} {
			b = be.AppendUint32(b, v)
		}
		b = append(b, f...)
	}
	file := filepath.Join(t.TempDir(), "beats.pcap")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("twinkeep.lua")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", append([]string{"-n", "-X", "lua_script:" + script, "-r", file}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "WIRESHARK_CONFIG_DIR="+t.TempDir(), "LC_ALL=C")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), "Lua:") || strings.Contains(stderr.String(), ".lua:") {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return string(out)
}

func frame(t *testing.T, b wire.Beat) []byte {
	t.Helper()
	key, err := wire.NewKey([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	e := wire.Envelope{Dst: wire.BeatMAC(0x28, 7), Src: wire.MAC{0x52, 0x54, 0, 0, 0, 1}, SrcIP: netip.MustParseAddr("10.1.0.2"), DstIP: netip.MustParseAddr("10.1.0.255")}
	return wire.AppendFrame(nil, e, key.Seal(b.Append(nil)))
}

var sample = wire.Beat{
	Version: wire.Version, Flags: wire.Holder | wire.InSync, Cluster: 7, Member: 1, State: wire.ActiveAttention, Interface: 3, Nonce: 0x0102030405060708,
	Seq: 1 << 40, Term: 9, Demotion: 17, Priority: 120, NN: 0x28, Connections: 70000, Serial: 0x525400000001, StateDigest: 0xa1, PolicyRevision: 42, PolicyDigest: 0xb2,
	Order: wire.Keep, Successor: 2, Heard: []wire.Heard{{Member: 2, Nonce: 0xc3, Seq: 5}, {Member: 3, Nonce: 0xd4, Seq: 6}}, Extension: []byte{9, 8, 7},
}

// TestDissector: every field of a heartbeat as ha/wire writes it.
func TestDissector(t *testing.T) {
	fields := []struct{ name, want string }{
		{"_ws.col.Protocol", "TWINKEEP"}, {"_ws.col.Info", "cluster 7 member 1 ACTIVE!, term 9, seq 1099511627776, gate: keep"},
		{"twinkeep.magic", "0x544b"}, {"twinkeep.version", "1"}, {"twinkeep.flags", "0x05"}, {"twinkeep.flags.holder", "1"}, {"twinkeep.flags.sync", "0"},
		{"twinkeep.flags.in_sync", "1"}, {"twinkeep.flags.farewell", "0"}, {"twinkeep.flags.yielding", "0"}, {"twinkeep.flags.claiming", "0"}, {"twinkeep.flags.bidding", "0"},
		{"twinkeep.cluster", "7"}, {"twinkeep.member", "1"}, {"twinkeep.state", "5"}, {"twinkeep.interface", "3"}, {"twinkeep.nonce", "0x0102030405060708"},
		{"twinkeep.seq", "1099511627776"}, {"twinkeep.term", "9"}, {"twinkeep.demotion", "17"}, {"twinkeep.priority", "120"}, {"twinkeep.nn", "0x28"},
		{"twinkeep.connections", "70000"}, {"twinkeep.serial", "0x0000525400000001"}, {"twinkeep.state_digest", "0x00000000000000a1"},
		{"twinkeep.policy_revision", "42"}, {"twinkeep.policy_digest", "0x00000000000000b2"}, {"twinkeep.order", "1"}, {"twinkeep.successor", "2"},
		{"twinkeep.heard.member", "2,3"}, {"twinkeep.heard.nonce", "0x00000000000000c3,0x00000000000000d4"}, {"twinkeep.heard.seq", "5,6"},
		{"twinkeep.extension", "090807"}, {"_ws.expert.message", ""}, {"_ws.malformed", ""},
	}
	args := []string{"-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f.name)
	}
	got := strings.Split(strings.TrimSuffix(tshark(t, [][]byte{frame(t, sample)}, args...), "\n"), "|")
	if len(got) != len(fields) {
		t.Fatalf("%d fields of %d: %q", len(got), len(fields), got)
	}
	for i, f := range fields {
		if v := strings.ReplaceAll(got[i], ":", ""); v != strings.ReplaceAll(f.want, ":", "") {
			t.Errorf("%s = %q, want %q", f.name, got[i], f.want)
		}
	}
}

// TestFlagsAndStates: every flag by its bit, every state and order by its name.
func TestFlagsAndStates(t *testing.T) {
	names := []string{"holder", "sync", "in_sync", "farewell", "yielding", "claiming", "bidding"}
	args := []string{"-T", "fields", "-E", "separator=|"}
	for _, n := range names {
		args = append(args, "-e", "twinkeep.flags."+n)
	}
	var frames [][]byte
	for i := range names {
		frames = append(frames, frame(t, wire.Beat{Version: 1, Cluster: 7, Member: 1, State: wire.State(i%6) + wire.Init, Flags: 1 << i, Order: wire.Order(i % 5)}))
	}
	for i, line := range strings.Split(strings.TrimSpace(tshark(t, frames, args...)), "\n") {
		want := make([]string, len(names))
		for j := range want {
			want[j] = "0"
			if i == j {
				want[j] = "1"
			}
		}
		if line != strings.Join(want, "|") {
			t.Errorf("flag %s: %s", names[i], line)
		}
	}
	orders := []string{"none", "keep", "open", "shut", "drain"}
	for i, line := range strings.Split(strings.TrimSpace(tshark(t, frames, "-T", "fields", "-e", "_ws.col.Info")), "\n") {
		if want := " " + (wire.State(i%6) + wire.Init).String() + ", "; !strings.Contains(line, want) || !strings.HasSuffix(line, "gate: "+orders[i%5]) {
			t.Errorf("%s, want state%sorder %s", line, want, orders[i%5])
		}
	}
}

// TestBadFrames: what members refuse is shown as such and breaks nothing; another protocol on the port is left alone.
func TestBadFrames(t *testing.T) {
	whole := frame(t, sample)
	routed := append([]byte(nil), whole...)
	routed[22] = 64
	lying := append([]byte(nil), whole...)
	lying[42+72] = 200 // heard members
	other := append([]byte(nil), whole...)
	other[42] = 0
	cut := wire.AppendFrame(nil, wire.Envelope{SrcIP: netip.MustParseAddr("10.1.0.2"), DstIP: netip.MustParseAddr("10.1.0.255")}, whole[42:42+40])
	want := []string{"TWINKEEP|TTL is not 255: it passed a router, members refuse it", "TWINKEEP|Shorter than its own lengths say", "TWINKEEP|Shorter than its own lengths say", "UDP|"}
	got := strings.Split(strings.TrimSuffix(tshark(t, [][]byte{routed, lying, cut, other}, "-T", "fields", "-E", "separator=|", "-e", "_ws.col.Protocol", "-e", "_ws.expert.message"), "\n"), "\n")
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("frame %d: %q, want %q", i+1, got[min(i, len(got)-1)], want[i])
		}
	}
}
