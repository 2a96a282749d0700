package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// dissect runs tshark, which is not ours, over a capture. Each line is a packet with these fields.
func dissect(t *testing.T, capture []byte, fields ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ccp.pcap")
	if err := os.WriteFile(file, capture, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-r", file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "WIRESHARK_CONFIG_DIR="+t.TempDir(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestTsharkReadsPolicyChanges: every packet carries the ID of the policy its sender runs, and a change of it is told by
// POLICY_CHANGE, with its kind: rules alone, or the cluster's settings, too.
func TestTsharkReadsPolicyChanges(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("no tshark on this machine; to prove the format: apt-get install --no-install-recommends tshark")
	}
	p := newPolicyPair(t)
	stop := captureCCP(t, p.Pair)
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "DOWN")
	p.waitHeard()
	operate(t, p.A, true, "policy", "install", p.sign(1, document("")))
	p.waitRuns(1, p.A, p.B)
	p.makeActive()
	operate(t, p.A, true, "policy", "install", p.sign(2, document(noPing)))
	p.waitRuns(2, p.A, p.B)
	time.Sleep(1200 * time.Millisecond) // a round of MY_STATE
	more := strings.Replace(document(""), "vips: ["+pair.LANVIP+"]", "vips: ["+pair.LANVIP+", 10.1.0.4]", 1)
	operate(t, p.A, true, "policy", "install", p.sign(70000, more))
	p.waitRuns(70000, p.A, p.B)
	p.Wait("the new VIP on both", func() bool { return len(p.A.Status().VIPs) == 3 && len(p.B.Status().VIPs) == 3 })
	for _, m := range []*pair.Member{p.A, p.B} {
		p.Wait("the event on member "+m.Name, func() bool {
			return strings.Contains(m.Log(), "policy ID 2") && strings.Contains(m.Log(), "it changes the cluster's settings")
		})
	}
	time.Sleep(1200 * time.Millisecond)
	lines := dissect(t, stop(), "_ws.col.Protocol", "ip.checksum.status", "udp.checksum.status", "_ws.malformed", "cpha.cluster_number", "cpha.dst_id",
		"cpha.src_id", "cpha.policy_id", "cpha.opcode", "cpha.status")
	t.Logf("%d packets", len(lines))
	// 70000 has ID 4465; each is said by every interface of a member.
	wanted := map[string]int{
		"1|0|1|": 1, "2|0|1|": 1, // MY_STATE without a policy
		"1|1|9|1": 3, "2|1|9|1": 3, "1|1|1|": 1, "2|1|1|": 1,
		"1|2|9|1": 3, "2|2|9|1": 3, "1|2|1|": 1, "2|2|1|": 1,
		"1|4465|9|2": 3, "2|4465|9|2": 3, "1|4465|1|": 1, "2|4465|1|": 1,
	}
	for i, line := range lines {
		fields := strings.Split(line, "|")
		if len(fields) != 10 || strings.Join(fields[:5], "|") != "CPHA|1|1||7" {
			t.Errorf("packet %d: %s", i+1, line)
			continue
		}
		if id := fields[7]; id != "0" && id != "1" && id != "2" && id != "4465" {
			t.Errorf("packet %d: policy ID %s", i+1, id)
		}
		wanted[strings.Join(fields[6:], "|")]--
	}
	for said, left := range wanted {
		if left > 0 {
			t.Errorf("%d more wanted on the wire: %s", left, said)
		}
		if left < 0 && strings.Contains(said, "|9|") {
			t.Errorf("%d too many on the wire: %s", -left, said)
		}
	}
	if t.Failed() {
		t.Logf("\n%s", strings.Join(lines, "\n"))
	}
}
