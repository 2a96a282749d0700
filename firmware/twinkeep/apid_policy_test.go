package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestAPIPolicyRefused: what is not a signed and newer policy is refused through the API with what is wrong, on both members alike, and changes nothing; a good one
// goes in after all that, in two phases, with the time to confirm.
func TestAPIPolicyRefused(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it")
	}
	r := &remote{policyPair: installed(t)}
	const a = "10.1.0.2"
	operate(t, r.A, true, "policy", "install", r.sign(2, openAPI("")))
	r.waitRuns(2, r.A, r.B)
	admin, reader := r.create(r.A, "deploy", "admin"), r.create(r.A, "monitoring", "read")
	r.token = admin
	r.Wait("the API", func() bool { status, _ := r.curl(a, "GET", "/v1/status"); return status == 200 })

	r.tool("keygen", "--out", r.at("stranger"))
	good, err := os.ReadFile(r.sign(3, openAPI(noPing)))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		t.Helper()
		if err := os.WriteFile(r.at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return r.at(name)
	}
	flipped := append([]byte(nil), good...)
	at := strings.Index(string(good), "version: 1")
	if at < 0 {
		t.Fatal("the document is not in the file as it was written")
	}
	flipped[at+len("version: ")] = '2'
	for name, bad := range map[string]struct{ file, text string }{
		"a document alone":    {write("plain", []byte(openAPI(""))), "error"},
		"nothing":             {write("empty", nil), "error"},
		"another key":         {r.sign(3, openAPI(noPing), "stranger"), "key"},
		"an older revision":   {r.sign(1, openAPI(noPing)), "not newer"},
		"the same revision":   {r.sign(2, openAPI(noPing)), "not newer"},
		"half of it":          {write("half", good[:len(good)/2]), "error"},
		"a changed document":  {write("flipped", flipped), "error"},
		"more than is a file": {write("huge", make([]byte, 21<<20)), "at most"},
		"much of nothing":     {write("zeros", make([]byte, 19<<20)), "error"},
	} {
		status, body := r.curl(a, "POST", "/v1/policy/install", "--data-binary", "@"+bad.file)
		refused := status >= 400 && status < 500 && (name != "more than is a file" || status == 413) || status == 200 && strings.Contains(body, `"installed":false`)
		if !refused || !strings.Contains(body, bad.text) {
			t.Errorf("%s: %d\n%s", name, status, body)
		}
		t.Logf("%s: %d %.300s", name, status, body)
	}
	file := write("good", good)
	r.token = reader
	r.want(403, "may only read", a, "POST", "/v1/policy/install", "--data-binary", "@"+file)
	r.token = ""
	r.want(401, "no such token", a, "POST", "/v1/policy/install", "--data-binary", "@"+file)
	for _, m := range []*pair.Member{r.A, r.B} {
		if s := r.status(m); s.InForce.Revision != 2 || !s.Standing.Eligible {
			t.Fatalf("member %s after all that: %+v", m.Name, s)
		}
	}
	r.token = admin
	r.want(200, `"installed":true`, a, "POST", "/v1/policy/install?confirm=5m", "--data-binary", "@"+file)
	r.waitRuns(3, r.A, r.B)
	r.want(200, "", a, "POST", "/v1/policy/cancel")
	r.waitRuns(2, r.A, r.B)
}

// TestAPILockdown: of a member in lockdown API and SSH are reached at its own address, by who may; nothing else of it is, nothing passes it, and the API
// leads out again.
func TestAPILockdown(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl: install it")
	}
	p := labPair(t)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(pair.NodeFile(i+1) + "registration: lan\nssh: {port: 2222}\napi: {enabled: true, port: 8443}\n")
	}
	withPassword(t, p.A, p.B)
	p.StartBoth()
	const a = "10.1.0.2"
	ssh := newOpenSSH(t, 2222, p.A, p.B)
	r := &remote{policyPair: &policyPair{Pair: p, t: t, dir: t.TempDir()}}
	r.token = r.create(p.A, "deploy", "admin")
	r.Wait("the API", func() bool { status, _ := r.curl(a, "GET", "/v1/status"); return status == 200 })
	// Something of the box itself that is no management: the rules of the node file let it in from lan if anything does.
	reaches := func(addr string) (err error) {
		p.ClientNS.Do(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp4", addr, 500*time.Millisecond); err == nil {
				c.Close()
			}
		})
		return err
	}
	ping := func(addr string) bool {
		return exec.Command("ip", "netns", "exec", p.ClientNS.Name, "ping", "-c", "1", "-W", "1", addr).Run() == nil
	}
	if !ping(a) {
		t.Error("before the lockdown: no answer to a ping")
	}
	for _, m := range []*pair.Member{p.A, p.B} { // neither serves, so nothing passes at all
		operate(t, m, true, "license", "install", licenceFile(t, m, licenceFor(m, "wan")), "--force")
	}
	p.Wait("both in lockdown", func() bool { return lockedDown(p.A) && lockedDown(p.B) })

	r.want(200, "lockdown", a, "GET", "/v1/license")
	r.want(200, "Licence", a, "GET", "/v1/status")
	r.want(401, "no such token", a, "GET", "/v1/status", "-H", "Authorization: Bearer nonsense")
	ssh.says(p, a, 0, "LOCKDOWN", "license")
	if ping(a) {
		t.Error("in lockdown a ping is answered")
	}
	if err := reaches(a + ":22"); !timeout(err) {
		t.Errorf("a port that is no management's: %v", err)
	}
	if err := reaches("192.0.2.2:8443"); !timeout(err) {
		t.Errorf("the API at the address of the WAN: %v", err)
	}
	if p.Reachable() {
		t.Error("traffic passes the pair in lockdown")
	}
	good := licenceFile(t, p.A, licenceFor(p.A, "lan"))
	r.want(200, "licensed", a, "PUT", "/v1/license", "--data-binary", "@"+good)
	p.Wait("the end of the lockdown", func() bool { return !lockedDown(p.A) && p.A.Status().State == "ACTIVE" })
	p.Wait("traffic", p.Reachable)
	if !ping(a) {
		t.Error("after the lockdown: no answer to a ping")
	}
}

func timeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
