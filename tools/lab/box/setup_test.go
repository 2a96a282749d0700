package box

import (
	"strings"
	"testing"
	"time"
)

// TestFirstSetup types at the serial console of a new disk: setup, login, a forgotten password, failsafe, factory reset.
func TestFirstSetup(t *testing.T) {
	l := newLife(t, Variant{Revision: 100, Cmdline: quick}, false)
	l.on()
	l.see(`First setup`)
	for _, step := range []struct{ see, answer string }{
		{`Member ID of this device \(1 to 8\) \[1\]: `, "1"}, {`Members in the cluster.*: `, ""}, {`Cluster ID.*: `, "7"}, {`Cluster key.*: `, ""},
		{`Registration interface.*: `, ""}, {`Management address.*: `, "10.1.0.2/24"}, {`Sync interface.*: `, ""},
		{`not shown again(?s:.*)yes, or again: `, "yes"}, {`Admin password.*: `, "correct horse"}, {`The same again: `, "correct horse"},
	} {
		l.see(step.see)
		l.must(l.Enter(step.answer))
	}
	l.see(`saved and in force`)
	l.see(`role assumed`)
	l.must(l.Enter("exit"))
	l.login()
	if strings.Contains(l.Said(), "correct horse") {
		t.Error("the password was shown")
	}
	if out := l.shell("cat /data/config/admin; ls -l /data/config"); !strings.Contains(out, "$argon2id$") || strings.Contains(out, "-rw-r--r--") {
		t.Errorf("%s", out)
	}
	l.cut()

	// It is asked for after a power cut too. In the menu there is a way without any service.
	l.on()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond): // as a key that is held; the loader looks for a tenth of a second
				l.Type(" ")
			}
		}
	}()
	l.see(`failsafe \(slot A\)`)
	close(stop)
	time.Sleep(2 * time.Second)
	l.must(l.Type("\x1b[B")) // cursor down
	time.Sleep(time.Second)
	l.must(l.Type("\r"))
	l.see(`init: failsafe: consoles only`)
	l.see(`init: ready console`)
	l.must(l.Enter(""))
	l.login()
	if !strings.Contains(l.Said(), "FAILSAFE: nothing runs but this console") {
		t.Error("the console does not say where it is")
	}
	if out := l.shell("ip addr show up; nft list tables; ls /run/twinkeep"); strings.Contains(out, "10.1.0.2") || strings.Contains(out, "had.sock") {
		t.Errorf("something runs: %s", out)
	}
	l.runs("A", "good", 100)
	l.must(l.Enter("reboot"))
	l.see(`Type yes to reboot: `)
	l.must(l.Enter("yes"))
	l.see(`Password: `)
	l.must(l.Enter("factory-reset"))
	l.see(`Type erase`)
	l.must(l.Enter("erase"))
	l.see(`First setup`)
	l.cut()
}

// login tries a wrong password first.
func (l *life) login() {
	l.Helper()
	l.see(`Password: `)
	l.must(l.Enter("wrong horse"))
	l.see(`password is wrong`)
	l.see(`Password: `)
	l.must(l.Enter("correct horse"))
	l.prompt()
}
