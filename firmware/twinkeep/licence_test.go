package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/devkey"
	"github.com/twinkeep/twinkeep/firmware/license/lockdown"
	"github.com/twinkeep/twinkeep/firmware/license/store"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// labBinary is the product as it is built for the lab: it believes the development key.
var labBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "twinkeep-lab")
	build := exec.Command("go", "build", "-tags", "lab", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

// labPair is a pair of the lab's product whose registration interface is lan. Nothing runs yet.
func labPair(t *testing.T) *pair.Pair {
	t.Helper()
	bin, err := labBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := pair.NewPair(t, bin)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(pair.NodeFile(i+1) + "registration: lan\n")
	}
	return p
}

// macOf asks a process inside: a thread of this one that has been in a member's namespace may be its first, and then
// Kill takes this process for one of the member's.
func macOf(m *pair.Member, nic string) string {
	return strings.TrimSpace(m.NS.Run("cat", "/sys/class/net/"+nic+"/address"))
}

func licenceFor(m *pair.Member, nic string) *license.Licence {
	now := time.Now().UTC().Truncate(time.Second)
	return &license.Licence{
		ID: "LAB-" + m.Name, Owner: "namespace lab", Product: license.Product, MAC: macOf(m, nic), Issued: now,
		From: license.DayOf(now), Until: license.DayOf(now.AddDate(0, 0, 10)),
	}
}

func licenceFile(t *testing.T, m *pair.Member, l *license.Licence) string {
	t.Helper()
	data, err := l.Sign(devkey.Private())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.Dir, l.ID+".licence")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func lockedDown(m *pair.Member) bool {
	return exec.Command("ip", "netns", "exec", m.NS.Name, "nft", "list", "table", "inet", lockdown.TableName).Run() == nil
}

// says fails the test unless an operator's command shows all these texts.
func says(t *testing.T, m *pair.Member, command string, texts ...string) {
	t.Helper()
	out := operate(t, m, true, strings.Fields(command)...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s of member %s does not say %q:\n%s", command, m.Name, text, out)
		}
	}
}

func licensedPair(t *testing.T) *pair.Pair {
	t.Helper()
	p := labPair(t)
	p.StartBoth()
	for _, m := range []*pair.Member{p.A, p.B} {
		operate(t, m, true, "license", "install", licenceFile(t, m, licenceFor(m, "lan")))
		says(t, m, "license", "LICENSED", "LAB-"+m.Name, macOf(m, "lan"), "lan, matches", "development key")
		says(t, m, "ifstat -maclist", macOf(m, "lan"), "matches licence LAB-"+m.Name)
	}
	p.Wait("traffic through the pair", p.Reachable)
	return p
}

// TestRegistrationInterfaceDisabled is the way into lockdown and out of it: the licence matches, the interface is
// disabled, the peer takes over, the interface is enabled, and the member is back.
func TestRegistrationInterfaceDisabled(t *testing.T) {
	p := licensedPair(t)
	if out := operate(t, p.A, false, "interface", "disable", "lan"); !strings.Contains(out, "registration interface") || !strings.Contains(out, "lockdown") || !strings.Contains(out, "--force") {
		t.Errorf("the warning:\n%s", out)
	}
	operate(t, p.A, false, "interface", "disable", "lan9")
	operate(t, p.A, false, "interface", "enable", "lan")
	if s := p.A.Status(); s.State != "ACTIVE" || lockedDown(p.A) {
		t.Fatalf("a refused order changed the state to %s", s.State)
	}
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	operate(t, p.A, true, "interface", "disable", "lan", "--force")
	if !lockedDown(p.A) {
		t.Error("no lockdown table when the order is answered")
	}
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("traffic through the peer", p.Reachable)
	onlyOwners(t, stop(), "a", "b")
	says(t, p.A, "license", "LOCKDOWN", "registration interface lan is disabled", "interface enable lan")
	says(t, p.A, "ha", "Licence: lockdown: the registration interface lan is disabled")
	says(t, p.A, "ifstat", "disabled")
	if log := p.A.Log(); !strings.Contains(log, "LOCKDOWN: the registration interface lan is disabled") {
		t.Errorf("log:\n%s", log)
	}
	syscall.Kill(p.A.Process("gatewayd"), syscall.SIGKILL) // a restart of gatewayd alone changes nothing
	time.Sleep(2 * time.Second)
	says(t, p.A, "license", "LOCKDOWN", "disabled")

	operate(t, p.A, true, "interface", "enable", "lan")
	p.WaitStates("STANDBY", "ACTIVE")
	says(t, p.A, "license", "LICENSED")
	if lockedDown(p.A) {
		t.Error("the lockdown table is still in")
	}
	p.B.Kill()
	p.WaitStates("ACTIVE", "")
	p.Wait("traffic through the member that is back", p.Reachable)
}

// TestLicenceOfAnotherBox: the licence alone puts a member into lockdown, and no peer in lockdown forwards anything.
func TestLicenceOfAnotherBox(t *testing.T) {
	p := licensedPair(t)
	wrong := licenceFile(t, p.A, &license.Licence{
		ID: "LAB-other", Owner: "somebody else", Product: license.Product, MAC: "52:54:00:77:77:77",
		Issued: time.Now().UTC().Truncate(time.Second), From: license.DayOf(time.Now()),
	})
	if out := operate(t, p.A, false, "license", "install", wrong); !strings.Contains(out, "would mean lockdown") {
		t.Errorf("refusal:\n%s", out)
	}
	operate(t, p.A, true, "license", "install", wrong, "--force")
	p.WaitStates("DOWN", "ACTIVE")
	problem := "Licence: lockdown: the registration interface lan has the MAC"
	if s := p.A.Status(); len(s.Problems) != 1 || !strings.HasPrefix(s.Problems[0], problem) {
		t.Errorf("problems %q", s.Problems)
	}
	says(t, p.A, "ifstat -maclist", "registration interface, does not match")
	p.Wait("traffic through the peer", p.Reachable)

	operate(t, p.B, true, "license", "install", wrong, "--force")
	p.Wait("both in lockdown", func() bool { return lockedDown(p.A) && lockedDown(p.B) })
	p.Wait("nothing forwarded", func() bool { return !p.Reachable() })
	time.Sleep(500 * time.Millisecond)
	if p.Reachable() {
		t.Error("traffic through a pair in lockdown")
	}
	operate(t, p.A, true, "license", "install", licenceFile(t, p.A, licenceFor(p.A, "lan")))
	p.WaitStates("ACTIVE", "DOWN")
	p.Wait("traffic again", p.Reachable)
}

// TestReleaseRefusesTheDevelopmentKey: by default, and a licence that got into the state directory is not believed either.
func TestReleaseRefusesTheDevelopmentKey(t *testing.T) {
	p := pair.NewPair(t, binary)
	file := licenceFile(t, p.A, licenceFor(p.A, "lan"))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.StartBoth()
	if out := operate(t, p.A, false, "license", "install", file); !strings.Contains(out, "a key that this firmware does not know") {
		t.Errorf("refusal:\n%s", out)
	}
	says(t, p.A, "license", "DEMO")
	p.A.Stop()
	if err := store.In(filepath.Join(p.A.Dir, "state")).PutLicence(data); err != nil {
		t.Fatal(err)
	}
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE")
	says(t, p.A, "license", "LOCKDOWN", "not valid", "license remove")
	operate(t, p.A, true, "license", "remove")
	p.WaitStates("STANDBY", "ACTIVE")
}

// TestDemoEnds on the active member and on the standby, by what they have used up before.
func TestDemoEnds(t *testing.T) {
	p := labPair(t)
	for m, left := range map[*pair.Member]time.Duration{p.A: 4 * time.Second, p.B: 9 * time.Second} {
		if err := store.In(filepath.Join(m.Dir, "state")).PutLedger(license.Ledger{Demo: license.DemoTime - left}); err != nil {
			t.Fatal(err)
		}
	}
	p.A.Start()
	p.B.Start()
	p.Wait("the demo of the active member to end", func() bool { return p.A.Status().State == "DOWN" && lockedDown(p.A) })
	p.WaitStates("DOWN", "ACTIVE")
	says(t, p.B, "license", "DEMO", "seconds left")
	says(t, p.A, "license", "LOCKDOWN", "the demo of 2 hours is used")
	p.A.Stop()
	p.A.Start()
	p.Wait("lockdown after a restart", func() bool { return lockedDown(p.A) && p.A.Status().State != "" })
	p.Wait("lockdown of the other", func() bool { return lockedDown(p.B) })
	operate(t, p.A, true, "license", "install", licenceFile(t, p.A, licenceFor(p.A, "lan")))
	p.WaitStates("ACTIVE", "DOWN")
	p.Wait("traffic", p.Reachable)
}

// TestDisabledInterfaceAcrossRestarts: for good with --persist, else until the member is started again.
func TestDisabledInterfaceAcrossRestarts(t *testing.T) {
	p := licensedPair(t)
	disabled := func() bool { return strings.Contains(operate(t, p.B, true, "ifstat", "wan"), "disabled") }
	for _, persist := range []bool{false, true} {
		order := []string{"interface", "disable", "wan"}
		if persist {
			order = append(order, "--persist")
		}
		operate(t, p.B, true, order...)
		p.WaitStates("ACTIVE", "DOWN")
		says(t, p.B, "license", "LICENSED") // wan is not the registration interface
		p.B.Stop()
		p.B.Start()
		p.WaitStates("ACTIVE", map[bool]string{false: "STANDBY", true: "DOWN"}[persist])
		if disabled() != persist {
			t.Errorf("disabled with persist %v, after a restart: %v", persist, !persist)
		}
	}
	operate(t, p.B, true, "interface", "enable", "wan")
	p.WaitStates("ACTIVE", "STANDBY")
	if log := p.B.Log(); strings.Contains(log, "LOCKDOWN") {
		t.Errorf("lockdown by an interface that is not the registration interface:\n%s", log)
	}
}

// TestSharedAddressUnspecified: a member that starts with the shared address 0.0.0.0 is in lockdown until that is mended.
func TestSharedAddressUnspecified(t *testing.T) {
	p := labPair(t)
	good := pair.NodeFile(1)
	p.A.WriteNode(strings.Replace(good, "vips: ["+pair.LANVIP+"]", "vips: [0.0.0.0]", 1))
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "ACTIVE")
	if !lockedDown(p.A) {
		t.Error("no lockdown table")
	}
	says(t, p.A, "license", "LOCKDOWN", "the shared address of lan is 0.0.0.0", "node edit")
	p.Wait("traffic through the peer", p.Reachable)
	p.A.WriteNode(good)
	operate(t, p.A, true, "node", "reload")
	p.WaitStates("STANDBY", "ACTIVE")
	says(t, p.A, "license", "DEMO")
	if lockedDown(p.A) {
		t.Error("the lockdown table is still in")
	}
}

// TestLicenceServer: what the server says counts at once, and it is asked through the lockdown.
func TestLicenceServer(t *testing.T) {
	p := labPair(t)
	var withdrawn atomic.Bool
	var ln net.Listener
	p.ServerNS.Try(func() (err error) { ln, err = net.Listen("tcp", pair.Server+":8443"); return err })
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := license.Answer{ID: strings.TrimPrefix(r.URL.Path, "/v1/licences/"), Withdrawn: withdrawn.Load(), Why: "a test"}
		if file, err := a.Sign(r.FormValue("nonce"), devkey.Private()); err == nil {
			w.Write(file)
		}
	})}
	go server.Serve(ln)
	defer server.Close()
	p.StartBoth()
	l := licenceFor(p.A, "lan")
	l.Server, l.GraceDays = "http://"+pair.Server+":8443", 14
	operate(t, p.A, true, "license", "install", licenceFile(t, p.A, l))
	says(t, p.A, "license contact", "has answered: licensed")
	withdrawn.Store(true)
	says(t, p.A, "license contact", "lockdown", "withdrawn licence LAB-a: a test")
	p.WaitStates("DOWN", "ACTIVE")
	if !lockedDown(p.A) {
		t.Error("no lockdown table")
	}
	withdrawn.Store(false)
	says(t, p.A, "license contact", "licensed")
	p.WaitStates("STANDBY", "ACTIVE")
	server.Close()
	operate(t, p.A, false, "license", "contact")
	says(t, p.A, "license", "LICENSED", "connection refused", "grace 14 days")
	// The grace runs out on a box that was away for long, and only running time counts.
	p.A.Stop()
	state := store.In(filepath.Join(p.A.Dir, "state"))
	ledger, err := state.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	ledger.Away = l.Grace() - 5*time.Second
	if err := state.PutLedger(ledger); err != nil {
		t.Fatal(err)
	}
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE")
	says(t, p.A, "license", "LOCKDOWN", "was last reached 14 days ago", "the grace of 14 days is over")
}
