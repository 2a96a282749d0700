package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/firmware/policy/store"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	managertest.Cleanup()
	os.Exit(code)
}

// TestDependencies: the box has the client of the registry, not the registry.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".", "../../twinkeep").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"github.com/distribution/distribution/v3", "redis", "opentelemetry", "prometheus", "grpc", "sirupsen", "tools/manager"} {
		if m := regexp.MustCompile(`(?m)^.*` + bad + `.*$`).Find(out); m != nil {
			t.Errorf("the box's binary has %s", m)
		}
	}
}

// operator runs commands in a directory of its own.
type operator struct {
	t    *testing.T
	opts Options
}

func (o *operator) run(args ...string) (string, error) {
	o.t.Helper()
	root := &cobra.Command{Use: "policy", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Commands(o.opts)...)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(o.t.Context())
	return out.String(), err
}

func (o *operator) ok(want string, args ...string) string {
	o.t.Helper()
	out, err := o.run(args...)
	if err != nil || !strings.Contains(out, want) {
		o.t.Fatalf("policy %s: %v\n%s; want %q", strings.Join(args, " "), err, out, want)
	}
	return out
}

func (o *operator) fails(want string, args ...string) {
	o.t.Helper()
	out, err := o.run(args...)
	if err == nil || !strings.Contains(out+err.Error(), want) {
		o.t.Fatalf("policy %s: %v\n%s; want %q", strings.Join(args, " "), err, out, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func settings(t *testing.T, c registry.Config) string {
	t.Helper()
	text := fmt.Sprintf("address: %s\nrepository: %s\ntoken: %s\nca: |\n", c.Address, c.Repository, c.Token)
	for line := range strings.Lines(c.CA) {
		text += "  " + line
	}
	return text
}

// check refuses documents as the real one does.
func check(doc []byte) error {
	if bytes.Contains(doc, []byte("nonsense")) {
		return errors.New("line 1, column 1: unknown key nonsense")
	}
	return nil
}

// box serves a cluster of one member on a socket, with the keys of a directory.
func box(t *testing.T, keys string) (*install.Node, string) {
	t.Helper()
	ring, err := sign.LoadKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenDir(filepath.Join(t.TempDir(), "policy"), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := &install.Node{
		Self: 1, Members: []uint8{1}, Now: install.Clock,
		Fetcher: &fetch.Fetcher{
			Gatekeeper: fetch.Gatekeeper{Name: "office", Keys: ring, Check: check},
			Store:      s, Apply: func(context.Context, []byte) error { return nil },
		},
	}
	mux := http.NewServeMux()
	n.HandleLocal(mux)
	dir, err := os.MkdirTemp("", "box") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ln, err := unixhttp.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- unixhttp.Serve(ctx, ln, mux) }()
	t.Cleanup(func() { cancel(); <-done; os.RemoveAll(dir) })
	return n, socket
}

func TestOperator(t *testing.T) {
	m := managertest.Start(t)
	t.Chdir(t.TempDir())
	o := &operator{t, Options{Check: check}}
	write(t, "manager.yaml", settings(t, m.Config("policies/office", m.Operator)))
	o.ok("office.key and office.pub: key ", "keygen", "--out", "office")
	o.fails("exists already", "keygen", "--out", "office")
	for i, doc := range []string{"version: 1\nstep: one\n", "version: 1\nstep: two\n"} {
		write(t, "office.yaml", doc)
		o.ok(fmt.Sprintf("revision %d (", i+1), "push", "office.yaml", "--key", "office.key")
	}
	write(t, "bad.yaml", "nonsense: 1\n")
	o.fails("unknown key nonsense", "push", "bad.yaml", "--key", "office.key")
	o.fails("--key", "push", "office.yaml")
	o.ok("revision 3 (", "rollback", "--to", "1", "--key", "office.key")
	if out := o.ok("restores revision 1", "history", "--settings", "manager.yaml"); strings.Count(out, "revision 2 (") != 1 {
		t.Errorf("history:\n%s", out)
	}
	o.fails("newest already", "rollback", "--to", "3", "--key", "office.key")
	o.ok("step: one", "pull", "--key", "office.pub")
	o.ok("step: two", "pull", "--revision", "2", "--key", "office.pub")
	o.ok("other.pub", "keygen", "--out", "other", "--kind", "ed25519")
	o.fails("no valid signature", "pull", "--key", "other.pub")
	o.fails("no such policy", "pull", "--revision", "9")
	// A policy file, signed twice, published as it is.
	o.ok("office-r4.policy: revision 4", "sign", "office.yaml", "--name", "office", "--revision", "4", "--key", "office.key")
	o.ok("both.policy", "sign", "office-r4.policy", "--key", "other.key", "--out", "both.policy")
	o.ok("revision 4 (", "push", "both.policy")
	o.ok("step: two", "pull", "--key", "other.pub")
	o.ok("", "sign", "office.yaml", "--name", "office", "--revision", "2", "--key", "office.key", "--out", "old.policy")
	o.fails("the server has revision 4", "push", "old.policy")

	// On the box.
	if err := os.Mkdir("keys", 0o700); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("office.pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "keys/office.pub", string(public))
	node, socket := box(t, "keys")
	o.opts.Socket = func() string { return socket }
	o.ok("No policy is in force", "status")
	o.ok("None.", "unsynced")
	o.ok("member 1: installed", "install", "old.policy")
	o.ok("In force: revision 2 (", "status")
	o.ok("It goes back in 5m0s", "install", "both.policy", "--confirm", "5m")
	o.ok("Goes back to revision 2 (", "status")
	o.fails("awaits its confirmation", "install", "old.policy")
	o.ok("In force: revision 2 (", "cancel")
	o.ok("refused: taken back by", "history")
	o.fails("--again", "install", "both.policy")
	o.ok("member 1: installed", "install", "both.policy", "--again", "--confirm", "5m")
	o.ok("In force: revision 4 (", "confirm")
	o.fails("no policy awaits", "confirm")
	// By the real clock, with nobody to confirm.
	o.ok("", "sign", "office.yaml", "--name", "office", "--revision", "5", "--key", "office.key")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { node.Run(ctx) })
	o.ok("member 1: installed", "install", "office-r5.policy", "--confirm", "500ms")
	for !strings.Contains(o.ok("In force: revision", "status"), "In force: revision 4 (") {
		time.Sleep(50 * time.Millisecond) // until the test's own limit
	}
	cancel()
	running.Wait()
	o.ok("not confirmed within 500ms", "history")
	o.ok("* revision 4 (", "history")
	o.ok("step: two", "file")
	o.ok("saved.policy", "file", "--revision", "2", "--out", "saved.policy")
	o.fails("not newer", "install", "--revision", "2")
	o.opts.JSON = func() bool { return true }
	var s install.Status
	if err := json.Unmarshal([]byte(o.ok("", "status")), &s); err != nil || s.InForce.Revision != 4 {
		t.Errorf("%+v, %v", s, err)
	}
	o.opts.Socket = func() string { return "/nonexistent/socket" }
	o.fails("is gatewayd running?", "status")
}

// TestCosign: cosign verifies what push publishes, and gateways accept what cosign signs.
func TestCosign(t *testing.T) {
	cosign := os.Getenv("COSIGN")
	if cosign == "" {
		var err error
		if cosign, err = exec.LookPath("cosign"); err != nil {
			t.Skip("cosign is not installed; with it (go install github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5) this shows that both understand each other's signatures")
		}
	}
	m := managertest.Start(t)
	t.Chdir(t.TempDir())
	t.Setenv("COSIGN_PASSWORD", "")
	o := &operator{t, Options{Check: check}}
	write(t, "manager.yaml", settings(t, m.Config("policies/office", m.Operator)))
	write(t, "ca.pem", m.CA)
	write(t, "office.yaml", "version: 1\n")
	run := func(args ...string) (string, error) {
		args = append(args, "--registry-cacert", "ca.pem", "--registry-username", "operator", "--registry-password", m.Operator,
			m.Address+"/policies/office:current")
		out, err := exec.Command(cosign, args...).CombinedOutput()
		return string(out), err
	}
	for _, kind := range []string{"ecdsa", "ed25519"} {
		o.ok("", "keygen", "--out", kind, "--kind", kind)
		o.ok("published", "push", "office.yaml", "--key", kind+".key")
		if out, err := run("verify", "--key", kind+".pub", "--insecure-ignore-tlog=true", "--offline"); err != nil {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
	if out, err := run("verify", "--key", "ecdsa.pub", "--insecure-ignore-tlog=true", "--offline"); err == nil {
		t.Errorf("cosign accepts another key:\n%s", out)
	}
	if out, err := exec.Command(cosign, "generate-key-pair").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run("sign", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--new-bundle-format=false", "-y"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o.ok("version: 1", "pull", "--key", "cosign.pub")
	o.ok("version: 1", "pull", "--key", "ed25519.pub")
}
