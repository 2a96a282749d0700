package halvm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// reset waits for the watchdog's reset, with which these machines end.
func (m *machine) reset() {
	m.Helper()
	m.until("the watchdog fires", m.ended)
	m.must(m.Wait(m.Context()))
	if strings.Contains(m.Said(), "services stopped") {
		m.Error("that was an orderly end, not the watchdog")
	}
}

// TestWatchdogLockUp: a process takes the only CPU for good; PID 1 cannot feed, the i6300esb resets the machine.
func TestWatchdogLockUp(t *testing.T) {
	t.Parallel()
	if *imageDir == "" {
		t.Skip("starts machines for minutes; run it with: make test-hardware")
	}
	hog := filepath.Join(t.TempDir(), "hog")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", hog, "../../tools/lab/box/testdata/hog")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(hog)
	if err != nil {
		t.Fatal(err)
	}
	m := panel(t, "", qemu.File{Path: "/bin/hog", Mode: 0o755, Data: program})
	m.see(`hald\S* .*the case shows active`)
	m.until("the watchdog is armed", func() bool { return strings.Contains(m.command("hardware"), "i6300ESB timer, active") })
	m.must(m.Enter("shell"))
	m.see(`\$ |# `)
	m.must(m.Enter("/bin/hog"))
	m.see(`hog: the machine stands still`)
	m.reset()
}

// pid of a service, as the console tells it. Lines of the journal may come between.
func (m *machine) pid(name string) (pid int) {
	m.Helper()
	re := regexp.MustCompile(`(?s)"name": "` + name + `",.*?"pid": (\d+),`)
	m.until(name+" runs", func() bool {
		if found := re.FindStringSubmatch(m.command("service list --json")); found != nil {
			pid, _ = strconv.Atoi(found[1]) // digits
		}
		return pid > 0
	})
	return pid
}

// shell runs a line in the rescue shell.
func (m *machine) shell(line string) {
	m.Helper()
	m.must(m.Enter("shell"))
	m.see(`\$ |# `)
	m.must(m.Enter(line + "; echo done-$((40+2))"))
	m.see(`done-42`)
	m.must(m.Enter("exit"))
	m.see(prompt)
}

// TestHealth: PID 1 restarts a had that hangs; when had cannot be had at all, it stops to feed the watchdog.
func TestHealth(t *testing.T) {
	t.Parallel()
	m := panel(t, "twinkeep.health.limit=100s")
	m.see(`hald\S* .*the case shows active`)
	m.command("version")
	before := m.pid("had")
	m.shell(fmt.Sprintf("kill -19 %d", before))
	m.see(`health: had does not answer and is restarted`)
	m.see(`had is ready after`)
	m.see(`health: all critical services are well again`)
	if after := m.pid("had"); after == before {
		t.Errorf("had is still process %d", after)
	}
	m.shell(fmt.Sprintf("mv /bin/twinkeep /bin/gone; kill -9 %d", m.pid("had")))
	m.see(`health: had is (backoff|in a crash loop)`)
	m.see(`the watchdog is not fed any more and resets the machine`)
	m.reset()
}
