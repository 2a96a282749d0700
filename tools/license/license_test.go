package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/contact"
)

func use(args ...string) (string, error) {
	cmd := command()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// TestVendor walks through a vendor's day: a key, a licence, a look at it, and what must not work.
func TestVendor(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"vendor", "other"} {
		if out, err := use("keygen", "--out", in(name)); err != nil || !strings.Contains(out, "firmware/license/keys") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if info, err := os.Stat(in("vendor.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v %v", info.Mode(), err)
	}
	if _, err := use("keygen", "--out", in("vendor")); err == nil {
		t.Error("a key was overwritten")
	}
	issue := func(more ...string) (string, error) {
		return use(append([]string{"issue", "--key", in("vendor.key"), "--mac", "52-54-00-AB-CD-EF", "--owner", "Example AB"}, more...)...)
	}
	if out, err := issue("--days", "365", "--server", "https://licence.example.com", "--members", "2", "--out", in("a.licence")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := use("show", in("a.licence"), "--pub", in("vendor.pub"))
	if err != nil || !strings.Contains(out, "MAC 52:54:00:ab:cd:ef") || !strings.Contains(out, `"grace_days":14`) || !strings.Contains(out, "The signature is good") {
		t.Errorf("%v\n%s", err, out)
	}
	for what, f := range map[string]func() (string, error){
		"another vendor's key":   func() (string, error) { return use("show", in("a.licence"), "--pub", in("other.pub")) },
		"no key at all":          func() (string, error) { return use("show", in("a.licence")) },
		"a bad MAC":              func() (string, error) { return issue("--mac", "52:54") },
		"both ways to end":       func() (string, error) { return issue("--days", "1", "--until", "2030-01-01") },
		"an owner of two lines":  func() (string, error) { return issue("--owner", "A\nB") },
		"overwriting a licence":  func() (string, error) { return issue("--out", in("a.licence")) },
		"a term that is no term": func() (string, error) { return issue("--from", "2030-01-01", "--until", "2029-01-01") },
		"two keys":               func() (string, error) { return issue("--development") },
	} {
		if out, err := f(); err == nil {
			t.Errorf("%s works:\n%s", what, out)
		}
	}
	out, err = use("issue", "--development", "--mac", "52:54:00:ab:cd:ef", "--owner", "Lab")
	if err != nil || !strings.Contains(out, "without end") || !strings.Contains(out, license.DevelopmentKeyID) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestServe: the client of the gateway asks the server of this tool, as a process would.
func TestServe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mark sockets")
	}
	list := filepath.Join(t.TempDir(), "list")
	write := func(text string) {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# ours\nTK-1\nTK-2 withdrawn not paid\n")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command()
	out := &lines{ch: make(chan string, 1)}
	cmd.SetArgs([]string{"serve", "--development", "--listen", "127.0.0.1:0", "--list", list})
	cmd.SetOut(out)
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	address, _ := strings.CutPrefix(strings.TrimSpace(<-out.ch), "answering on ")
	ring, err := ringOf("")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id string) (license.Answer, error) {
		return contact.Ask(ctx, &license.Licence{ID: id, Server: "http://" + address}, ring)
	}
	if a, err := ask("TK-1"); err != nil || a.Withdrawn {
		t.Errorf("%+v %v", a, err)
	}
	if a, err := ask("TK-2"); err != nil || !a.Withdrawn || a.Why != "not paid" {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := ask("TK-3"); err == nil {
		t.Error("an unknown licence stands")
	}
	write("TK-1 withdrawn\n")
	if a, err := ask("TK-1"); err != nil || !a.Withdrawn {
		t.Errorf("after it was withdrawn: %+v %v", a, err)
	}
	write("TK-1 gone\n")
	if _, err := ask("TK-1"); err == nil {
		t.Error("a bad list answers")
	}
}

type lines struct{ ch chan string }

func (l *lines) Write(p []byte) (int, error) {
	l.ch <- string(p)
	return len(p), nil
}
