package ccp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// pcap returns frames as a capture file: the classic format, microseconds, Ethernet.
func pcap(frames ...[]byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(nil, 0xA1B2C3D4)
	b = append(b, 0, 2, 0, 4) // version 2.4
	for _, v := range []uint32{0, 0, 65535, 1} {
		b = be.AppendUint32(b, v)
	}
	for i, f := range frames {
		for _, v := range []uint32{uint32(i), 0, uint32(len(f)), uint32(len(f))} {
			b = be.AppendUint32(b, v)
		}
		b = append(b, f...)
	}
	return b
}

// TestTshark lets Wireshark's dissector, which is not ours, read one packet of every message.
func TestTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark on this machine; to prove the format: apt-get install --no-install-recommends tshark")
	}
	header := []string{"Cluster Number: 7", "Source Interface: 3", "Random ID: 48879", "Source Machine ID: 2",
		"Destination Machine ID: 1", "Policy ID: 5", "Filler: 0"}
	trailer := "5443002600010102030405060708" + "1112131415161718"
	cases := []struct {
		message Message
		want    []string // everything below the header, as tshark prints it
	}{
		{goldens[0].message, []string{
			"HA OpCode: FWHA_MY_STATE - Report source machine's state (1)",
			"Number of IDs reported: 5", "Report code: Machine & Interface information included (3)",
			"HA mode: FWHA_ONE_UP_MODE (4)", "HA Time unit: 100",
			"State node: Down/Dead (0) (Nodes 0)", "State node: Initializing (1) (Nodes 1)", "State node: Standby (2) (Nodes 2)",
			"State node: Ready (3) (Nodes 3)", "State node: Active/Active-Attention (4) (Nodes 4)",
			"Interfaces up in the Inbound: 2", "Interfaces assumed up in the Inbound: 1",
			"Interfaces up in the Outbound: 3", "Interfaces assumed up in the Outbound: 1",
			"Last packet seen: 0", "Last packet seen: 1", "Last packet seen: 2", "Last packet seen: 3", "Last packet seen: 127"}},
		{goldens[1].message, []string{
			"HA OpCode: FWHA_MY_STATE - Report source machine's state (1)",
			"Number of IDs reported: 2", "Report code: Machine information included (1)",
			"HA mode: FWHA_PRIMARY_UP_MODE (3)", "HA Time unit: 100",
			"State node: Active/Active-Attention (4) (Nodes 0)", "State node: Standby (2) (Nodes 1)"}},
		{goldens[2].message, []string{
			"HA OpCode: FWHA_MY_STATE - Report source machine's state (1)",
			"Number of IDs reported: 2", "Report code: Interface information included (2)",
			"HA mode: FWHA_ONE_UP_MODE (4)", "HA Time unit: 1000",
			"Interfaces up in the Inbound: 1", "Interfaces assumed up in the Inbound: 0",
			"Interfaces up in the Outbound: 1", "Interfaces assumed up in the Outbound: 0",
			"Last packet seen: 0", "Last packet seen: 5"}},
		{QueryState{}, []string{"HA OpCode: FWHA_QUERY_STATE - Query other machine's state (2)"}},
		{IfProbeReq{Interface: 9}, []string{"HA OpCode: FWHA_IF_PROBE_REQ - Interface active check request (3)", "Interface Number: 9"}},
		{IfProbeReply{Interface: 9}, []string{"HA OpCode: FWHA_IF_PROBE_REPLY - Interface active check reply (4)", "Interface Number: 9"}},
		{IfConfReq{}, []string{"HA OpCode: FWHA_IFCONF_REQ - Interface configuration request (5)"}},
		{IfConfReply{MAC: wire.MAC{0x52, 0x54, 0, 0, 0, 1}, Trusted: true, Addr: netip.MustParseAddr("10.1.0.3")}, []string{
			"HA OpCode: FWHA_IFCONF_REPLY - Interface configuration reply (6)",
			"Reported Interfaces: 1", "Ethernet Address: 52:54:00:00:00:01", "Interface Trusted: True", "IP Address: 10.1.0.3"}},
		{LBConf{Slot: 4, Machine: 2, Seed: 5, Hash: []uint8{1, 2, 1}}, []string{
			"HA OpCode: FWHA_LB_CONF - LB configuration report request (7)",
			"Slot Number: 4", "Machine Number: 2", "Seed: 5", "Hash list length: 3"}},
		{LBConfirm{Slot: 4, Machine: 2, Seed: 5}, []string{"HA OpCode: FWHA_LB_CONFIRM - LB configuration report reply (8)",
			"Data: 0004000200000005" + trailer}},
		{PolicyChange{Status: ReadyToChange}, []string{"HA OpCode: FWHA_POLICY_CHANGE - Policy ID change request/notification (9)",
			"Status: Ready to change configuration (3)"}},
		{Sync{Data: []byte("hello")}, []string{"HA OpCode: FWHAP_SYNC - New Sync packet (10)", "Data: 000568656c6c6f" + trailer}},
	}
	var frames [][]byte
	for _, c := range cases {
		frames = append(frames, AppendFrame(nil, sampleEnvelope, seal(t, c.message)))
	}
	file := filepath.Join(t.TempDir(), "ccp.pcap")
	if err := os.WriteFile(file, pcap(frames...), 0o600); err != nil {
		t.Fatal(err)
	}

	seen := map[Opcode]bool{}
	packets := strings.Split(strings.TrimSpace(tshark(t, file, "-V", "-O", "cpha")), "\n\n")
	if len(packets) != len(cases) {
		t.Fatalf("tshark shows %d packets of %d", len(packets), len(cases))
	}
	for i, c := range cases {
		seen[c.message.Opcode()] = true
		t.Run(fmt.Sprint(i+1, " ", c.message.Opcode()), func(t *testing.T) {
			t.Log("\n" + packets[i])
			want := slices.Concat([]string{"Check Point High Availability Protocol", "Magic Number: 0x1a90"}, header, c.want)
			rest := strings.Split(packets[i], "\n")
			for _, w := range want {
				j := slices.IndexFunc(rest, func(line string) bool {
					line = strings.TrimSpace(line)
					return line == w || strings.HasPrefix(w, "Data: ") && strings.HasPrefix(line, w) || strings.HasPrefix(line, w+" (Cluster ")
				})
				if j < 0 {
					t.Errorf("missing: %s", w)
					continue
				}
				rest = slices.Delete(rest, j, j+1)
			}
		})
	}
	for o := OpMyState; o <= OpSync; o++ {
		if !seen[o] {
			t.Errorf("%v was not shown to tshark", o)
		}
	}

	// What the layers below think: checksums right (1), TTL, addresses; nothing malformed.
	got := tshark(t, file, "-T", "fields", "-E", "separator=,", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
		"-e", "_ws.col.Protocol", "-e", "ip.checksum.status", "-e", "udp.checksum.status", "-e", "ip.ttl",
		"-e", "eth.dst", "-e", "ip.dst", "-e", "udp.dstport", "-e", "_ws.malformed", "-e", "_ws.expert")
	for i, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if want := "CPHA,1,1,255,01:00:5e:7f:00:07,239.255.0.7,8116,,"; line != want {
			t.Errorf("packet %d: %s\nwant %s", i+1, line, want)
		}
	}
}

// tshark runs tshark over file with the user's settings left out.
func tshark(t *testing.T, file string, args ...string) string {
	t.Helper()
	cmd := exec.Command("tshark", append([]string{"-n", "-r", file}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "WIRESHARK_CONFIG_DIR="+t.TempDir(), "LC_ALL=C")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return string(out)
}
