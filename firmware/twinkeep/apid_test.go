package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

const apiPort = 8443

// remote is curl at the client of a pair, asking members over the network.
type remote struct {
	*policyPair
	pin, token string
}

// openAPI is a document with the API open to the LAN.
func openAPI(rules string) string {
	return document(rules, fmt.Sprintf("services: {api: {enabled: true, port: %d}}\nmanagement: [{name: lan, from: [lan], service: [ssh, api, ping]}]", apiPort))
}

func (r *remote) state(m *pair.Member) (s api.RemoteStatus) {
	m.Request("GET", api.RemoteSocket, "/v1/remote", &s)
	return s
}

// create makes a token on a member.
func (r *remote) create(m *pair.Member, name, role string) string {
	r.t.Helper()
	out := operate(r.t, m, true, "api", "token", "create", name, "--role", role)
	token, _, _ := strings.Cut(out, "\n")
	return token
}

// curl gives the status and the body; the status is 0 when there was no answer.
func (r *remote) curl(addr, method, path string, args ...string) (status int, body string) {
	r.t.Helper()
	all := append([]string{"netns", "exec", r.ClientNS.Name, "curl", "-sk", "--connect-timeout", "2", "--max-time", "20", "-w", "\n%{http_code}", "-X", method}, args...)
	if r.pin != "" {
		all = append(all, "--pinnedpubkey", r.pin)
	}
	if r.token != "" {
		all = append(all, "-H", "Authorization: Bearer "+r.token)
	}
	out, _ := exec.Command("ip", append(all, fmt.Sprintf("https://%s:%d%s", addr, apiPort, path))...).CombinedOutput()
	i := strings.LastIndex(string(out), "\n")
	fmt.Sscan(string(out[i+1:]), &status)
	return status, string(out[:max(i, 0)])
}

func (r *remote) want(status int, text, addr, method, path string, args ...string) {
	r.t.Helper()
	if got, body := r.curl(addr, method, path, args...); got != status || !strings.Contains(body, text) {
		r.t.Errorf("%s %s at %s: %d, want %d with %q\n%s", method, path, addr, got, status, text, body)
	}
}

// TestAPI: a program on the LAN looks at the cluster, installs a policy, moves the role and reports a device; without a token, or
// with one that may only read, it does not.
func TestAPI(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it")
	}
	r := &remote{policyPair: installed(t)}
	const a, b = "10.1.0.2", "10.1.0.3"
	operate(t, r.A, true, "policy", "install", r.sign(2, openAPI("")))
	r.waitRuns(2, r.A, r.B)
	if s := r.state(r.A); !s.Enabled || s.Open || len(s.Tokens) != 0 {
		t.Errorf("without a token: %+v", s)
	}
	if status, _ := r.curl(a, "GET", "/v1/status"); status != 0 {
		t.Errorf("without a token something answers: %d", status)
	}
	admin := r.create(r.A, "deploy", "admin")
	reader := r.create(r.A, "monitoring", "read")
	r.Wait("the API of a", func() bool { return r.state(r.A).Open })
	r.pin = r.state(r.A).Pin

	r.want(401, "no such token", a, "GET", "/v1/status")
	r.token = reader
	r.Wait("the API to answer", func() bool { status, _ := r.curl(a, "GET", "/v1/status"); return status == 200 })
	var st member.Status
	r.Wait("the status, with the policy in force", func() bool { // had is told of it last
		_, body := r.curl(a, "GET", "/v1/status")
		return json.Unmarshal([]byte(body), &st) == nil && st.State == "ACTIVE" && st.Policy.Revision == 2
	})
	for _, path := range []string{"/v1/events", "/v1/changes", "/v1/sync", "/v1/node", "/v1/interfaces", "/v1/hardware", "/v1/license", "/v1/connections/count", "/v1/policy", "/v1/services",
		"/v1/routes", "/v1/verify?for=1s", "/v1/peers/gw-b/routes", "/v1/peers/2/hardware"} {
		r.want(200, "", a, "GET", path)
	}
	r.want(404, "not part of this API", a, "GET", "/v1/secrets")
	r.want(400, "no path", a, "GET", "/../sign", "--path-as-is")
	r.want(403, "may only read", a, "POST", "/v1/failover")
	r.want(403, "may only read", a, "GET", "/v1/policy/file?revision=2")
	if status, _ := r.curl(pair.LANVIP, "GET", "/v1/status"); status != 0 {
		t.Errorf("a virtual address answers: %d", status)
	}
	if status, _ := r.curl(b, "GET", "/v1/status"); status != 0 {
		t.Errorf("member b, which has no token, answers: %d", status)
	}
	right := r.pin
	r.pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	if status, _ := r.curl(a, "GET", "/v1/status"); status != 0 {
		t.Error("the pin of another key is taken")
	}
	r.pin = right
	// A client that wants a certificate and a name.
	cert := r.at("api.pem")
	if err := os.WriteFile(cert, []byte(operate(t, r.A, true, "api", "certificate")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "exec", r.ClientNS.Name, "curl", "-sf", "--cacert", cert, "-H", "Authorization: Bearer "+reader,
		fmt.Sprintf("https://%s:%d/v1/status", a, apiPort)).CombinedOutput(); err != nil {
		t.Errorf("with the certificate: %v\n%s", err, out)
	}

	r.token = admin
	file := r.sign(3, openAPI(noPing))
	r.want(200, `"installed":true`, a, "POST", "/v1/policy/install", "--data-binary", "@"+file)
	r.waitRuns(3, r.A, r.B)
	r.want(200, "", a, "PUT", "/v1/devices/backup", "-d", `{"state":"problem","text":"the backup runs"}`)
	r.WaitStates("DOWN", "ACTIVE")
	r.want(200, "", a, "DELETE", "/v1/devices/backup")
	r.WaitStates("STANDBY", "ACTIVE")
	saved := r.at("api.tar.gz")
	r.want(200, "", a, "GET", "/v1/techsupport", "-o", saved)
	checkArchive(t, saved, "ACTIVE", "\"in_force\"")
	huge := r.at("huge")
	if err := os.WriteFile(huge, make([]byte, 21<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body := r.curl(a, "POST", "/v1/policy/install", "--data-binary", "@"+huge); status >= 200 && status < 300 {
		t.Errorf("21 MB as a policy: %d %s", status, body)
	}
	operate(t, r.A, true, "api", "token", "remove", "monitoring")
	r.token = reader
	r.want(401, "no such token", a, "GET", "/v1/status")
	if log := r.A.Log(); !strings.Contains(log, "operator=deploy") {
		t.Error("what a token did is not in the log")
	}
}

// TestAPIFailover: the role moves by the API of the active member.
func TestAPIFailover(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it")
	}
	r := &remote{policyPair: installed(t)}
	operate(t, r.A, true, "policy", "install", r.sign(2, openAPI("")))
	r.waitRuns(2, r.A, r.B)
	r.token = r.create(r.A, "deploy", "admin")
	r.Wait("the API", func() bool { status, _ := r.curl("10.1.0.2", "GET", "/v1/status"); return status == 200 })
	r.inSync(r.A, r.B)
	r.want(200, "", "10.1.0.2", "POST", "/v1/failover", "-d", "{}")
	r.WaitStates("STANDBY", "ACTIVE")
}

// TestAPIFront: the process that speaks with the network has nothing; killed, it comes back; filled with silent connections, it
// still answers who has a token.
func TestAPIFront(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it")
	}
	r := &remote{policyPair: installed(t)}
	operate(t, r.A, true, "policy", "install", r.sign(2, openAPI("")))
	r.waitRuns(2, r.A, r.B)
	r.token = r.create(r.A, "deploy", "admin")
	answers := func() bool { status, _ := r.curl("10.1.0.2", "GET", "/v1/status"); return status == 200 }
	r.Wait("the API", answers)
	front := func() (pid int) {
		out, _ := exec.Command("ps", "-eo", "pid,args").Output()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "apid-front "+filepath.Join(r.A.Run(), "apid.front")) {
				fmt.Sscan(line, &pid)
			}
		}
		return pid
	}
	pid := front()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
		if !strings.Contains(string(data), line) {
			t.Errorf("the front does not have %q:\n%s", line, data)
		}
	}
	if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err != nil || root != filepath.Join(r.A.Run(), "apid.front") {
		t.Errorf("its root is %q, %v", root, err)
	}
	if out, _ := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-n", "ip", "-o", "link").Output(); strings.Contains(string(out), "UP") {
		t.Errorf("it has interfaces:\n%s", out)
	}
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for i := range 8 { // from eight sources, as many as are let in
		addr := fmt.Sprintf("10.1.0.%d", 50+i)
		r.ClientNS.Run("ip", "addr", "add", addr+"/24", "dev", "eth0")
		for range 12 {
			r.ClientNS.Do(func() {
				d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
				if c, err := d.Dial("tcp", fmt.Sprintf("10.1.0.2:%d", apiPort)); err == nil {
					idle = append(idle, c)
				}
			})
		}
	}
	if len(idle) < 90 {
		t.Errorf("only %d silent connections were made", len(idle))
	}
	r.want(200, "ACTIVE", "10.1.0.2", "GET", "/v1/status")
	syscall.Kill(pid, syscall.SIGKILL)
	r.Wait("another front", func() bool { return front() != pid && answers() })
	if s := r.state(r.A); s.Counts.Crashes != 1 {
		t.Errorf("%+v", s.Counts)
	}
	// It goes with its keeper, or the next one would find the port taken.
	out, _ := exec.Command("ps", "-o", "ppid=", "-p", fmt.Sprint(front())).Output()
	keeper, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("the front's parent: %q", out)
	}
	pid = front()
	syscall.Kill(keeper, syscall.SIGKILL)
	r.Wait("the front's end with its keeper, and the next one's start", func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && front() != 0 && answers()
	})
	// Off by the policy: nobody listens, and no front is left.
	operate(t, r.A, true, "policy", "install", r.sign(3, document("")))
	r.waitRuns(3, r.A, r.B)
	r.Wait("the end of the front", func() bool { return front() == 0 && !r.state(r.A).Enabled })
}

// checkArchive looks into an archive of techsupport: it is whole, tells the states, and has no secret.
func checkArchive(t *testing.T, path string, texts ...string) {
	t.Helper()
	list, err := exec.Command("tar", "-tzf", path).CombinedOutput()
	if err != nil {
		t.Fatalf("techsupport: %v\n%s", err, list)
	}
	all, err := exec.Command("tar", "-xzOf", path).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ha.json", "changes.json", "hardware.json", "node.yaml", "journal.json", "proc/net/dev"} {
		if !strings.Contains(string(list), "techsupport/"+name+"\n") {
			t.Errorf("the archive has no %s:\n%s", name, list)
		}
	}
	for _, text := range texts {
		if !strings.Contains(string(all), text) {
			t.Errorf("the archive does not say %s", text)
		}
	}
	for _, secret := range []string{"dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=", "$argon2id$", "PRIVATE KEY"} {
		if strings.Contains(string(all), secret) {
			t.Errorf("the archive has a secret: %s", secret)
		}
	}
}
