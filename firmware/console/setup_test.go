package console

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/login"
)

// TestFirstSetup: a device without a node file asks, corrects, can be left, and comes out with a node file and a password.
func TestFirstSetup(t *testing.T) {
	f := newFakes(t)
	dir := t.TempDir()
	o := operatorAt(t, f.run, dir)
	o.expect(t, "First setup")
	o.expect(t, "Member ID")
	o.types("\x03")
	o.expect(t, "the command setup asks again")
	o.expect(t, ":/> ")
	o.types("setup\r")
	for _, step := range []struct{ see, answer string }{
		{"Member ID of this device (1 to 8) [1]: ", "9"}, {"not a number from 1 to 8", ""}, {"Members in the cluster (2 to 8) [2]: ", ""},
		{"Cluster ID (1 to 255): ", "7"}, {"Cluster key (Enter: make one) [new]: ", ""}, {"Registration interface [G1]: ", ""},
		{"Management address", "10.1.0.2"}, {"length of its network", "10.1.0.2/24"}, {"Sync interface (or none) [none]: ", ""},
		{"it is not shown again", "yes"}, {"at least 8 characters", "short"}, {"at least 8 characters", "correct horse"}, {"The same again", "incorrect"},
		{"are not the same", "correct horse"},
	} {
		o.expect(t, step.see)
		o.types(step.answer + "\r")
	}
	o.expect(t, "The same again")
	// Somebody at another console of the same device is asked the same, and later for the password.
	other := operatorAt(t, f.run, dir)
	other.expect(t, "Member ID")
	other.types("\x03")
	other.expect(t, ":/> ")
	o.types("correct horse\r")
	o.expect(t, "saved and in force")
	o.expect(t, ":/> ")
	other.types("version\r")
	other.expect(t, "Password: ")
	other.types("correct horse\r")
	other.expect(t, "0.1")
	if calls := f.got(); !slices.Contains(calls, "put # Made by t") || !slices.Contains(calls, "had reload") {
		t.Errorf("%v", calls)
	}
	line, err := login.Load(dir)
	if err != nil || login.Verify(line, "correct horse") != nil {
		t.Errorf("%q, %v", line, err)
	}
	o.screen.mu.Lock()
	defer o.screen.mu.Unlock()
	if strings.Contains(o.screen.text.String(), "correct horse") {
		t.Error("the password was shown")
	}
}

// TestLogin: nobody comes in without the password, and factory-reset asks first.
func TestLogin(t *testing.T) {
	f := newFakes(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := login.Set(dir, "correct horse"); err != nil {
		t.Fatal(err)
	}
	o := operatorAt(t, f.run, dir)
	o.expect(t, "Password: ")
	o.types("version\r")
	o.expect(t, "the password is wrong")
	o.expect(t, "Password: ")
	o.types("factory-reset\r")
	o.expect(t, "no data partition")
	o.expect(t, "Password: ")
	o.types("correct horse\r")
	if got := o.expect(t, ":/> "); strings.Contains(got, "correct") {
		t.Errorf("%q", got)
	}
	o.types("version\r")
	o.expect(t, "0.1")
}
