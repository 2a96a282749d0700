package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var mutate = flag.Bool("mutations", false, "run TestMutations, which compiles this package once for every defect")

// mutation is a defect that stories or histories must find.
type mutation struct {
	name, file, old, new string
	why                  string // what it would do to a network
}

const (
	machineGo = "../cluster/machine.go"
	decideGo  = "../cluster/decide.go"
	peerGo    = "../cluster/peer.go"
	clBeatGo  = "../cluster/beat.go"
	wireGo    = "../wire/beat.go"
	quorumGo  = "../cluster/quorum.go"
	echoGo    = "../cluster/echo.go"
	votesGo   = "../cluster/votes.go"
	clocksGo  = "../cluster/clocks.go"
	bidGo     = "../cluster/bid.go"
)

var mutations = []mutation{
	{"lease not checked after a stall", machineGo, "if m.active() && m.now.Sub(m.lastHold) > t.Lease {", "if false {",
		"a member that slept goes on as active"},
	{"backlog acted on after a stall", machineGo, "m.quietUntil = max(m.quietUntil, m.now.Add(t.Dead+t.Beat))", "",
		"a standby that slept takes the role by old news"},
	{"own sleep taken for silence of peers", machineGo, "p.lastHeard = min(m.now, p.lastHeard.Add(gap))", "",
		"a standby that slept buries a living active member"},
	{"sleep of a standby not noticed", machineGo, "if gap <= t.Lease {", "if true {", "a standby that slept takes the role from a living member"},
	{"quiet time ignored", decideGo, "m.now >= m.quietUntil && m.willing()", "m.willing()", "a member takes the role before it knows who has it"},
	{"no listening after a lost role", machineGo, "m.listenUntil = m.now.Add(m.cfg.Timing.Dead + m.cfg.Timing.Beat)\n\tm.quietUntil = m.listenUntil", "m.listenUntil = m.now",
		"it takes the role back beside its successor"},
	{"no listening after the start", machineGo, "listenUntil: now.Add(cfg.Timing.Silence)", "listenUntil: now",
		"every restart makes two actives"},
	{"term not incremented", machineGo, "max(m.term, m.heardTerm) + 1\n", "max(m.term, m.heardTerm)\n", "two holders with one term"},
	{"term not written down", machineGo, "m.emit(KeepTerm(m.term)) // before it is used\n", "",
		"terms are used again after a restart"},
	{"term of others not adopted", peerGo, "if b.Term > m.term {", "if false {", "a successor with an older term than its predecessor"},
	{"no announcement at a takeover", machineGo, "m.beatAll()\n\tm.emit(Announce{})\n", "m.beatAll()\n",
		"switches go on pointing at the dead member"},
	{"no second announcement after a contest", decideGo, "m.announceAgain()", "", "switches point at the loser of a contest"},
	{"rank ignored", decideGo, "time.Duration(rank)*m.cfg.Timing.Dead", "time.Duration(rank-rank)*m.cfg.Timing.Dead",
		"all standby members take the role at once"},
	{"worse active member stays", decideGo, "deaf || slept || h.merit().compare(m.merit()) > 0 && !m.sleeper(h) {", "deaf || slept {", "two actives for ever"},
	{"both active members step down", decideGo, "deaf || slept || h.merit().compare(m.merit()) > 0 && !m.sleeper(h) {", "deaf || true {", "nobody serves after a partition"},
	{"release without yield", machineGo, "m.yieldUntil = m.now.Add(3 * m.cfg.Timing.Dead)", "", "the old active member takes the role back while it is handed over"},
	{"yielding peers are waited for", decideGo, "!v.Has(wire.Yielding) && ", "", "a planned hand-over takes a dead time"},
	{"gate not shut when the role ends", machineGo, "m.order, m.orderAt = wire.Shut, m.now", "m.order = wire.NoOrder", "a member that stepped down goes on answering"},
	{"opens while a shut order stands", machineGo, "m.order, m.orderAt = wire.Shut, m.now\n\t\tm.quietUntil = max(m.quietUntil, m.now.Add(m.cfg.Timing.Lease+ShutMargin))", "m.order, m.orderAt = wire.Shut, m.now",
		"it says that it is active behind a shut gate"},
	{"keep order missing", clBeatGo, "b.Order = wire.Keep", "b.Order = wire.NoOrder", "the lease runs out under a healthy member"},
	{"farewell does not shut the gate", clBeatGo, "wire.Down, wire.FinalSeq, wire.Drain", "wire.Down, wire.FinalSeq, wire.NoOrder",
		"the kernel of a dead process answers beside the successor"},
	{"replay window off", peerGo, "if b.Seq <= p.newest[b.Interface] {", "if false {", "recordings count as news"},
	{"ended boots forgotten", peerGo, "if slices.Contains(p.retired, b.Nonce) {", "if false {", "the dead come back by a recording"},
	{"new boot believed without echo", peerGo, "if !m.echoed(p, b) {", "if false {", "a recording of a boot that was never met is believed"},
	{"overtaken beats accepted", peerGo, "if p.alive && b.Seq < p.view.Seq && b.Nonce == p.view.Nonce {", "if false {", "old news undo newer"},
	{"farewell of another boot accepted", peerGo, "if b.Nonce != p.nonce || p.nonce == 0 {", "if false {", "an old farewell buries a living member"},
	{"sequences kept across boots", peerGo, "p.newest = [MaxInterfaces + 1]uint64{}", "", "a restarted member is not heard"},
	{"dead time halved below the lease", peerGo, "d >= m.dead() {", "d >= m.dead()/2 {", "the successor opens before the old gate is shut"},
	{"dead time doubled", peerGo, "d >= m.dead() {", "d >= 2*m.dead() {", "takeovers take twice as long as stated"},
	{"farewells ignored", peerGo, "m.bury(p, fmt.Sprintf(\"%s said farewell", "_ = (fmt.Sprintf(\"%s said farewell", "a killed process costs the dead time"},
	{"flags left out of the codec", wireGo, "Flags: Flags(p[3])", "Flags: Flags(p[3] &^ 1)", "nobody hears who holds the role"},
	{"sequences cut short by the codec", wireGo, "Seq: be.Uint64(p[16:])", "Seq: uint64(be.Uint32(p[16:]))", "every beat looks like a replay"},
	{"no bid before a vacant role is taken", decideGo, "if !m.mayClaim() || !m.agreed(standing) {", "if _ = standing; !m.mayClaim() {", "two see one vacancy"},
	{"successor passes a bid", decideGo, "chosen == m.cfg.Self && !m.otherBids()", "chosen == m.cfg.Self", "a successor and a bidder take the role at once"},
	{"out of sync counts for nothing", decideGo, "if a.inSync != b.inSync {", "if false {", "connections break at a takeover though another member has them"},
	{"lock ignored", decideGo, "m.locked == \"\" && ", "", "the role goes back before the operator has looked"},
	{"lockdown ignored", decideGo, "m.outvoted, m.obeyLockdown, ", "m.outvoted, ", "a member without a licence serves"},
	{"late shut order forgotten", machineGo, "case ShutLate:\n\t\tm.quietUntil = max(m.quietUntil, m.now.Add(m.cfg.Timing.Lease+ShutMargin))", "case ShutLate:", "it opens a gate that still shuts"},
	{"deaf standby not noticed", echoGo, "if i < 0 {", "if i < 0 || true {", "a path that works one way makes two actives"},
	{"takeover not announced to a holder unheard", echoGo, "if !m.bid.on && !m.lacksHolder() {", "if true {", "a path that works one way makes two actives"},
	{"holder judged by others ignored", echoGo, "if m.quorum() || m.now.Sub(m.tookAt) < 2*t.Dead {", "if true {", "two actives that do not hear each other go on though others hear both"},
	{"ceded role not noticed", peerGo, "case m.active() && b.Has(wire.Ceded) &&", "case false &&", "switches point at the loser"},
	{"others' word on the holder ignored", peerGo, "if h := m.peer(p.view.Vote); h != nil && !h.alive && h.id != m.lastHolder {", "if h := m.peer(p.view.Vote); false {", "a member takes the role from a holder that it has never heard"},
	{"no majority needed to take", quorumGo, "if !m.quorum() {\n\t\treturn Never", "if true {\n\t\treturn Never", "two actives in spite of a witness"},
	{"no majority needed to keep", quorumGo, "if m.now < m.mandate() {\n\t\treturn", "if true {\n\t\treturn", "an isolated active member goes on beside its successor"},
	{"half is a majority", quorumGo, "majority := m.voters()/2 + 1", "majority := (m.voters() + 1) / 2", "both halves of a cluster serve"},
	{"vote given twice", quorumGo, "if m.now < v.bound && (want", "if false && (want", "two claimants have the same vote"},
	{"promise forgotten by a restart", quorumGo, "v.member != 0 || m.now < m.voteFrom {", "v.member != 0 {", "a voter that restarts votes twice"},
	{"votes from before a claim count", quorumGo, "p.echoed > m.voteFloor", "p.echoed > 0", "a vote that was taken back still counts"},
	{"votes outlive the promise", quorumGo, "return t.Dead - t.Lease - t.Beat }", "return t.Dead + t.Lease }", "the old holder goes on after its voters have turned to another"},
	{"silent successor keeps the vote", quorumGo, "return p != nil && p.alive && id != m.lastHolder", "return p != nil && id != m.lastHolder", "a storm of heartbeats while the role is handed to a dead member"},
	{"a naming outlives the successor's own tenure", quorumGo, "p.alive && id != m.lastHolder", "p.alive", "a member out of sync takes the role past one in sync"},
	{"connections compared by their difference", decideGo, "cmp.Compare(magnitude(a.connections), magnitude(b.connections))",
		"func() int {\nif max(a.connections, b.connections)-min(a.connections, b.connections) > 64 {\nreturn cmp.Compare(a.connections, b.connections)\n}\nreturn 0\n}()", "three members, each better than the next: none takes the role"},
	{"removed member's farewell counts", votesGo, "m.others = slices.DeleteFunc(m.others, func(o *peer) bool { return o == p })", "", "two members in safety mode both serve after a third was removed"},
	{"deaf standby votes for the holder", quorumGo, " && (m.heralded == Never || m.now < m.untoldAt(h))", "", "the holder learns too late that a standby is deaf"},
	{"counts on who hears the holder no more either", echoGo, "return max(h.lastHeard, h.heldAt).Add(", "return max(h.lastHeard, m.now).Add(", "the holder learns too late that a standby is deaf"},
	{"warning still votes for the holder", echoGo, "if m.judge(); m.ballot.member == vote {", "if m.ballot.member == vote {", "the holder learns too late that a standby is deaf"},
	{"a member that is not ready warns", echoGo, "return m.state != wire.Ready && !m.lockdown()", "return !m.lockdown()", "a standby takes the role without a warning that counts"},
	{"new boots echoed where they were heard only", clBeatGo, "p.mayProve(p.newcomer.Nonce) &&", "false &&", "a new boot that hears by one interface and is heard by another is never believed"},
	{"echo of one interface only", clBeatGo, "Seq: p.view.Seq}", "Seq: p.heard[iface].seq}", "a standby that hears the holder no longer is not told that another one does"},
	{"heartbeats leave after the mandate", clBeatGo, "m.lastHold, by = m.now, m.mandate()", "m.lastHold = m.now", "a late heartbeat keeps the gate open too long"},
	{"successor out of sync waited for", decideGo, " || m.passedOver(m.peer(chosen)) {", " {", "a member out of sync takes the role past one in sync"},
	{"successor out of sync keeps its votes", quorumGo, " || m.passedOver(p):", ":", "a member out of sync takes the role past one in sync"},
	{"promise given to a bidder again", quorumGo, " && (want != v.to || m.holder() == nil || want != m.holder().id) {", " && want != v.to {", "a member out of sync takes the role past one in sync"},
	{"echo of a boot that is over taken for news", peerGo, "return h.Seq > max(p.echoed, p.echoFloor)", "return true", "a recording of a boot that nobody believed in unseats the living one"},
	{"old echo taken for life", peerGo, "if sent.Sub(from.echoSent) >= m.now.Sub(from.echoAt)/2 {", "if true {", "a path that works one way makes two actives"},
	{"half the votes after another's term", quorumGo, "if m.doubt.on {", "if false {", "two halves of a cluster serve after a clock stood still"},
	{"sleeper does not know", clocksGo, "return m.now.Sub(p.clocks.leapt) < m.cfg.Timing.Dead", "return false", "connections break after a virtual machine was paused"},
	{"sleeper by any term", clocksGo, "m.tookTerm > p.view.Term", "m.term > p.view.Term", "two actives raise their terms past each other"},
	{"silent heir forgotten", echoGo, "!o.alive && o.lastOn >= 0", "false && o.lastOn >= 0", "a path that works one way makes two actives"},
	{"vacancy counted from an older one", peerGo, "m.vacant = m.now // the role has been vacant since now only", "", "a member out of sync takes the role past one in sync"},
	{"a naming outlives somebody else's tenure", decideGo, " && p.namedAt >= m.term {", " {", "a member takes the role that it was given long ago, beside the one that has it now"},
	{"a naming as young as its namer's term", decideGo, "p.namedAt >= m.term {", "p.view.Term >= m.term {", "a member out of sync takes the role past one in sync"},
	{"votes for a successor out of sync while quiet", decideGo, "demotion/weightInterface && m.willing() {", "demotion/weightInterface && m.mayTake() {", "a member out of sync takes the role past one in sync"},
	{"votes kept by a bidder that lost its sync", bidGo, "if standing.on && lags && !standing.lags {", "if false {", "a member out of sync takes the role past one in sync"},
	{"promise to a successor out of sync forgotten", decideGo, "since.Add(m.cfg.Timing.Dead), m.ballot", "since, m.ballot", "a member out of sync takes the role past one in sync"},
	{"vote of a member in sync not waited for", decideGo, "max(since.Add(m.cfg.Timing.Dead), m.ballot.bound)", "since.Add(m.cfg.Timing.Dead)", "a member out of sync takes the role past one in sync"},
	{"late every time, deaf to none", machineGo, "if gap > max(t.Beat, t.Lease-2*t.Beat) {", "if true {", "two actives go on for as long as one of them is short of CPU"},
	{"higher term not announced", peerGo, "m.announceAgain()\n\t\t\t// A member that starts", "// A member that starts", "switches point at a member that died in a contest"},
}

var found = regexp.MustCompile(`(?m)(invariant \d: .*|^\s*--- FAIL: \S+|panic: .*)`)

// TestMutationsApply keeps the list in step with the code.
func TestMutationsApply(t *testing.T) {
	for _, m := range mutations {
		if code, err := os.ReadFile(m.file); err != nil || strings.Count(string(code), m.old) != 1 {
			t.Errorf("%s: %s does not contain %q once (%v)", m.name, m.file, m.old, err)
		}
	}
}

// TestMutations builds this package once for every defect, with the defect put in by an overlay, and lets stories and
// histories look for it. Some safeguards have others behind them, so that no cluster suffers when one is missing; whether such a one does its own part is asked
// of the core's tests (ha/cluster, safeguard_test.go).
func TestMutations(t *testing.T) {
	if !*mutate {
		t.Skip("compiles many times; run it with -mutations")
	}
	clean := t.Run("none", func(t *testing.T) {
		m := mutation{file: machineGo, old: "package cluster", new: "package cluster"}
		if found := stories(m.build(t, ".")) + hunt("../cluster", m.build(t, "../cluster")); found != "" {
			t.Fatalf("without a defect there is one already, so what finds the others says nothing: %s", found)
		}
	})
	if !clean {
		return
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			bin := m.build(t, ".")
			story, core, random := "not asked", "not asked", histories(bin, *first, *budget/4)
			if random == "" {
				story = stories(bin)
				random = histories(bin, *first+*budget/4, *budget-*budget/4)
			}
			if story == "" && random == "" {
				core = hunt("../cluster", m.build(t, "../cluster"))
			}
			t.Logf("| %s | %s | %s | %s |", m.name, core, story, random)
			if core == "" {
				t.Errorf("nothing found it: %s", m.why)
			}
		})
	}
}

// stories lets the scenarios and the kept histories look for it.
func stories(bin string) string {
	return hunt(".", bin, "-test.failfast", "-test.skip", "^(TestHistories|TestMutations|TestReplay|TestSameHistoryTwice|TestClocksAreNotCompared|TestShrink)$")
}

// histories lets random histories look for the defect.
func histories(bin string, first, n uint64) string {
	return hunt(".", bin, "-test.run", "TestHistories", "-shrink=false", "-seed", fmt.Sprint(first), "-histories", fmt.Sprint(n))
}

// build compiles a package's tests with the defect.
func (m mutation) build(t *testing.T, pkg string) (bin string) {
	t.Helper()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%q is %d times in %s, want once", m.old, n, m.file)
	}
	dir := t.TempDir()
	copied, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	bin = filepath.Join(dir, "mutated.test")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: copied}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{copied: []byte(strings.Replace(string(source), m.old, m.new, 1)), overlay: list} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", bin, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// hunt runs the tests of a mutated package in its folder and returns the first thing they found, or nothing.
func hunt(dir, bin string, args ...string) string {
	c := exec.Command(bin, append(args, "-test.timeout", "10m")...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err == nil || strings.Contains(string(out), "panic: test timed out") {
		return "" // a slow machine finds nothing
	}
	if hits := found.FindAllString(string(out), -1); hits != nil {
		for _, h := range hits {
			if strings.HasPrefix(h, "invariant") {
				return h
			}
		}
		return strings.TrimSpace(hits[len(hits)-1])
	}
	return err.Error()
}
