package console

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/golden"
)

// TestLookingCommandsExist: a name that is no command any more would hide one that changes something later.
func TestLookingCommandsExist(t *testing.T) {
	root := (&session{interactive: true}).root()
	root.InitDefaultHelpCmd()
	var all []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		all = append(all, strings.TrimPrefix(c.CommandPath(), "twinkeep "))
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for _, name := range looking {
		if !slices.Contains(all, name) {
			t.Errorf("there is no command %q", name)
		}
	}
}

func TestAudit(t *testing.T) {
	var said []string
	opts := Options{Run: t.TempDir(), Operator: "admin from 10.1.0.10 by password", Audit: func(text string) { said = append(said, text) }}
	for line, logged := range map[string]bool{
		"ha": false, "ha -activate": true, "ha --deactivate": true, "cluster state": false, "cluster priority": false, "cluster priority gw-a 9": true,
		"cluster failover --to gw-b": true, "reboot": true, "password": true, "node edit": true, "node show": false, "license install x --force": true,
		"ssh key list": false, "ssh key add x": true, "policy install x": true, "policy check x": false, "hardware locate": true, "log --lines 1": false,
		"reboot --help": false, "nonsense": false, "help": false, "upgrade rollback": true, "service restart had": true, "factory-reset": true, "flash /dev/sdz": true,
	} {
		root := NewCommand(opts)
		root.SetOut(io.Discard)
		args := Normalize(root, strings.Fields(line))
		said = nil
		err := errors.New("it did not work\nsecond line")
		audit(opts, root, args)(&err)
		if want := map[bool]int{true: 2}[logged]; len(said) != want {
			t.Errorf("%s: %q", line, said)
		} else if logged && (!strings.Contains(said[0], line[:4]) || !strings.Contains(said[1], "it did not work") || strings.Contains(said[1], "second")) {
			t.Errorf("%s: %q", line, said)
		}
	}
}

func TestNoShellOverTheNetwork(t *testing.T) {
	err := Command(context.Background(), "shell", Options{Run: t.TempDir(), Operator: "admin", Shell: []string{"/bin/sh"}})
	if err == nil || !strings.Contains(err.Error(), "no shell over the network") {
		t.Error(err)
	}
}

func TestWriteSSH(t *testing.T) {
	var b strings.Builder
	writeSSH(&b, api.SSHStatus{
		Enabled: true, Port: 2222, User: "admin", Fingerprint: "SHA256:abc", Password: true, Keys: []api.SSHKey{{Type: "ssh-ed25519", Fingerprint: "SHA256:def", Comment: "anna"}},
		Connections: []api.SSHLogin{{Source: "10.1.0.10:4711", User: "admin", By: "password", For: member.Duration(90 * time.Second), Sessions: 1}},
		ShutOut:     []api.SSHShutOut{{Source: "192.0.2.66", Failures: 7, For: member.Duration(2 * time.Minute)}},
		Counts:      api.SSHCounts{Connections: 9, Refused: 3, Logins: 1, Failures: 7},
	})
	writeSSH(&b, api.SSHStatus{Fingerprint: "SHA256:abc"})
	golden.Check(t, "testdata/ssh.golden", b.String())
}
