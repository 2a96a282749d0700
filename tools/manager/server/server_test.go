package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/tools/manager/server"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	managertest.Cleanup()
	os.Exit(code)
}

func policy(t *testing.T, revision uint64) *artifact.Artifact {
	t.Helper()
	private, _, err := sign.Generate(sign.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: revision}, fmt.Appendf(nil, "revision: %d\n", revision))
	if err != nil {
		t.Fatal(err)
	}
	if err := sign.Sign(a, key); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAccess is the real server: what each token opens, and that a restart keeps policies, tokens and the authority.
func TestAccess(t *testing.T) {
	m := managertest.Start(t)
	tokens, err := server.OpenTokens(m.Dir)
	if err != nil {
		t.Fatal(err)
	}
	// Made while the server runs.
	branch, err := tokens.Add(server.Token{Name: "branch", Repository: "policies/branch"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Add(server.Token{Name: "branch"}); err == nil {
		t.Error("two tokens of one name")
	}
	ctx := t.Context()
	if err := m.Registry("policies/office", m.Operator).Push(ctx, policy(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := m.Registry("policies/branch", m.Operator).Push(ctx, policy(t, 2)); err != nil {
		t.Fatal(err)
	}
	look := func(repository, token string, want uint64) {
		t.Helper()
		ref, err := m.Registry(repository, token).Head(ctx)
		if ref.Revision != want || (err == nil) != (want != 0) {
			t.Errorf("%s with %.8s: %v, %v; want revision %d", repository, token, ref, err, want)
		}
	}
	for range 2 {
		look("policies/office", m.Gateway, 1)
		look("policies/branch", m.Gateway, 2)
		look("policies/branch", branch, 2)
		look("policies/office", branch, 0)
		look("policies/office", "tkm_wrong", 0)
		look("policies/office", "", 0)
		for name, token := range map[string]string{"gateway": m.Gateway, "branch": branch, "nobody": ""} {
			if err := m.Registry("policies/branch", token).Push(ctx, policy(t, 3)); err == nil {
				t.Errorf("%s published", name)
			}
		}
		m.Restart()
	}
	if err := tokens.Revoke("gateway"); err != nil {
		t.Fatal(err)
	}
	look("policies/office", m.Gateway, 0)
	for n := 0; !strings.Contains(m.Log(), "msg=refused"); n++ {
		if n == 100 {
			t.Fatalf("the log has no refusals:\n%s", m.Log())
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, name := range []string{"tokens.json", "ca-key.pem"} {
		info, err := os.Stat(filepath.Join(m.Dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	data, err := os.ReadFile(filepath.Join(m.Dir, "tokens.json"))
	if err != nil || strings.Contains(string(data), m.Operator) {
		t.Error("the file has the token itself")
	}
}

// TestBlobs: blobs come whole and in parts, only to whom the repository is open, and only where they are linked.
func TestBlobs(t *testing.T) {
	m := managertest.Start(t)
	a := policy(t, 1)
	if err := m.Registry("policies/office", m.Operator).Push(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(m.CA))
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer c.CloseIdleConnections()
	document := "/blobs/" + string(digest.FromBytes(a.Document))
	text := string(a.Document)
	for _, tt := range []struct {
		path, token, part string
		status            int
		want              string
	}{
		{"/v2/policies/office" + document, m.Gateway, "", 200, text},
		{"/v2/policies/office" + document, m.Gateway, "bytes=3-", 206, text[3:]},
		{"/v2/policies/office" + document, m.Gateway, "bytes=9999-", 416, ""},
		{"/v2/policies/office" + document, "tkm_wrong", "", 401, ""},
		{"/v2/policies/other" + document, m.Gateway, "", 404, ""},
		{"/v2/policies/office/blobs/" + string(digest.FromString("none")), m.Gateway, "", 404, ""},
		{"/v2/policies/office/../../secret" + document, m.Gateway, "", 404, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+m.Address+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("gateway", tt.token)
		if tt.part != "" {
			req.Header.Set("Range", tt.part)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || tt.want != "" && string(body) != tt.want {
			t.Errorf("%s %s: %s, %q, %v", tt.path, tt.part, resp.Status, body, err)
		}
		if got := resp.Header.Get("Docker-Content-Digest"); tt.want != "" && got != string(digest.FromBytes(a.Document)) {
			t.Errorf("%s: digest %q", tt.path, got)
		}
	}
}

// TestTLS: only the pinned authority is trusted, by name, and nothing is answered without TLS.
func TestTLS(t *testing.T) {
	m := managertest.Start(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(m.CA))
	get := func(cfg *tls.Config, url string) (string, error) {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		resp, err := c.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.Status, nil
	}
	if status, err := get(&tls.Config{RootCAs: pool}, "https://"+m.Address+"/v2/"); err != nil || !strings.HasPrefix(status, "401") {
		t.Errorf("pinned: %s, %v", status, err)
	}
	if _, err := get(&tls.Config{RootCAs: pool, ServerName: "elsewhere.example"}, "https://"+m.Address+"/v2/"); err == nil {
		t.Error("another name was accepted")
	}
	if _, err := get(&tls.Config{RootCAs: x509.NewCertPool()}, "https://"+m.Address+"/v2/"); err == nil {
		t.Error("an unknown authority was accepted")
	}
	if status, err := get(nil, "http://"+m.Address+"/v2/"); err == nil && !strings.HasPrefix(status, "400") {
		t.Errorf("without TLS: %s", status)
	}
	c := m.Config("policies/office", m.Gateway)
	c.CA = ""
	r, err := registry.New(c)
	if err == nil {
		defer r.Close()
		if _, err := r.Head(t.Context()); err == nil {
			t.Error("the system's authorities vouched for the manager")
		}
	} else if !strings.Contains(err.Error(), "manager.yaml") {
		t.Error(err)
	}
}

// TestSimulation plays a few gateways, as documentation says.
func TestSimulation(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "run", "..", "simulate", "--gateways", "20", "--interval", "500ms", "--for", "2s")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	news := regexp.MustCompile(`(?s)a new revision is out.*fetched      [1-9]`) // how many of them came to it depends on the machine
	if !news.MatchString(text) || strings.Count(text, "failed       0\n") != 2 || strings.Count(text, "server CPU") != 2 {
		t.Errorf("20 gateways printed:\n%s", text)
	}
}

func TestBadDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), server.Options{Dir: filepath.Join(file, "x")}); err == nil {
		t.Error("a directory below a file")
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), server.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "tokens.json") {
		t.Errorf("a damaged token file: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "tokens.json")), os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), server.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("a damaged certificate: %v", err)
	}
}
