package apid

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/subnet"
)

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	if tokens, err := LoadTokens(dir); err != nil || len(tokens) != 0 {
		t.Errorf("without a file: %v, %v", tokens, err)
	}
	var tokens []Token
	texts := map[string]string{}
	for _, name := range []string{"mon.1", "deploy"} {
		role := Reader
		if name == "deploy" {
			role = Admin
		}
		tok, text, err := NewToken(name, role)
		if err != nil || len(text) != tokenLen || !strings.HasPrefix(text, tokenPrefix) {
			t.Fatalf("%v, %q, %v", tok, text, err)
		}
		tokens, texts[name] = append(tokens, tok), text
	}
	if err := os.WriteFile(filepath.Join(dir, TokensFile), append([]byte("# mine\n\n"), formatTokens(tokens)...), 0o600); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(filepath.Join(dir, TokensFile))
	for _, text := range texts {
		if strings.Contains(string(data), text[len(tokenPrefix):]) {
			t.Error("the file has a token itself")
		}
	}
	loaded, err := LoadTokens(dir)
	if err != nil || len(loaded) != 2 || loaded[0] != tokens[0] || loaded[1] != tokens[1] {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	deploy := texts["deploy"]
	for header, want := range map[string]string{
		"Bearer " + deploy: "deploy", "bearer " + texts["mon.1"]: "mon.1", "Bearer " + deploy[:len(deploy)-1]: "", "Bearer " + deploy + " ": "",
		"Basic " + deploy: "", deploy: "", "": "", "Bearer " + deploy[:len(deploy)-1] + "!": "", "Bearer  " + deploy: "",
		fmt.Sprintf("Bearer %x", tokens[0].Hash): "",
	} {
		if got, ok := bearer(loaded, header); ok != (want != "") || got.Name != want {
			t.Errorf("%q is %q, want %q", header, got.Name, want)
		}
	}
	hash := fmt.Sprintf("%x", tokens[0].Hash)
	for _, bad := range []string{"x", "x read", "x read zz", "x root " + hash, "../x read " + hash, "x read " + hash[2:], "x read " + hash + " y", "x read " + hash + "\nx admin " + hash} {
		if got, err := ParseTokens([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	for _, bad := range [][2]string{{"", "read"}, {"a b", "read"}, {"a", "root"}, {strings.Repeat("a", 33), "read"}} {
		if _, _, err := NewToken(bad[0], Role(bad[1])); err == nil {
			t.Errorf("a token %q", bad)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add([]byte(fmt.Sprintf("# c\na read %x\nb admin %x\n", sha256.Sum256(nil), sha256.Sum256([]byte("b")))))
	f.Add([]byte("a read"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokens, err := ParseTokens(data)
		if err != nil {
			return
		}
		again, err := ParseTokens(formatTokens(tokens))
		if err != nil || len(again) != len(tokens) || len(tokens) > maxTokens {
			t.Fatalf("%v becomes %v, %v", tokens, again, err)
		}
	})
}

func TestLimiter(t *testing.T) {
	l, a, b := newLimiter(), netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("2001:db8::1")
	count := func(take func(time.Duration, netip.Addr) bool, now time.Duration, a netip.Addr) (n int) {
		for range 1000 {
			if take(now, a) {
				n++
			}
		}
		return n
	}
	if n := count(l.wrong, 0, a); n != freeWrong {
		t.Errorf("%d wrong tokens at once", n)
	}
	if n := count(l.request, 0, a); n != burst {
		t.Errorf("%d requests behind wrong tokens of the same source", n)
	}
	if n := count(l.request, time.Second, a); n != 20 {
		t.Errorf("%d requests a second later", n)
	}
	if n := count(l.wrong, time.Hour, a); n != freeWrong {
		t.Errorf("%d wrong tokens an hour later", n)
	}
	if n := count(l.request, 0, b); n != burst {
		t.Errorf("another source has %d", n)
	}
	if l.request(0, netip.MustParseAddr("2001:db8::ffff")) {
		t.Error("addresses of one subnet are several sources")
	}
	for i := range 5000 {
		l.request(time.Duration(i), netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}))
	}
	if len(l.sources) > maxSources {
		t.Errorf("%d sources are remembered", len(l.sources))
	}
}

// TestCrowd: whatever comes and goes, the bounds hold, a bearer is never driven out, and a newcomer finds room beside strangers.
func TestCrowd(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCrowd()
		for step := range 400 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(12))})
			if r.IntN(3) == 0 {
				a = netip.AddrFrom4([4]byte{10, 9, byte(r.IntN(256)), byte(r.IntN(256))})
			}
			knownSame, known := 0, 0
			for _, g := range c.guests {
				if g.known {
					known++
					if g.source == subnet.Of(a) {
						knownSame++
					}
				}
			}
			before := map[uint64]bool{}
			for id, g := range c.guests {
				before[id] = g.known
			}
			id, leave, ok := c.enter(a)
			if before[leave] && leave != 0 {
				t.Fatalf("seed %d step %d: a bearer was driven out", seed, step)
			}
			if want := knownSame < maxPerSource && known < maxConnections; ok != want {
				t.Fatalf("seed %d step %d: let in %v, want %v", seed, step, ok, want)
			}
			same := 0
			for _, g := range c.guests {
				if g.source == subnet.Of(a) {
					same++
				}
			}
			if len(c.guests) > maxConnections || same > maxPerSource {
				t.Fatalf("seed %d step %d: %d guests, %d of one source", seed, step, len(c.guests), same)
			}
			if ok && r.IntN(4) == 0 {
				c.proved(id)
			}
			if r.IntN(5) == 0 {
				for id := range c.guests {
					c.left(id)
					break
				}
			}
		}
	}
	// Who fills the house alone makes room itself.
	c := newCrowd()
	quiet, _, _ := c.enter(netip.MustParseAddr("10.2.0.1"))
	for i := range 47 {
		c.enter(netip.AddrFrom4([4]byte{10, 3, 0, byte(i / 12)}))
	}
	if _, leave, ok := c.enter(netip.MustParseAddr("10.4.0.1")); !ok || leave == quiet {
		t.Errorf("let in %v; %d left, %d is the quiet one", ok, leave, quiet)
	}
}

// reached is a daemon that notes what reaches it.
type reached struct{ last *http.Request }

func (d *reached) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	d.last = r
	api.Reply(w, api.Message{Message: "reached"}, nil)
}

// testKeeper has daemons that note, and two tokens.
func testKeeper(tb testing.TB) (k *keeper, d *reached, read, admin string) {
	tb.Helper()
	d = &reached{}
	k = &keeper{Options: Options{Log: slog.New(slog.DiscardHandler)}, daemons: map[string]http.Handler{}, limit: newLimiter(), refused: map[string]uint64{}}
	for _, r := range routes {
		k.daemons[r.socket] = d
	}
	for name, text := range map[Role]*string{Reader: &read, Admin: &admin} {
		t, s, err := NewToken(string(name), name)
		if err != nil {
			tb.Fatal(err)
		}
		k.tokens, *text = append(k.tokens, t), s
	}
	k.settings.vips = map[netip.Addr]bool{netip.MustParseAddr("10.1.0.1"): true}
	return k, d, read, admin
}

func ask(k *keeper, method, path, authorization, source, local string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), method, "/x", strings.NewReader("body"))
	r.URL.Path, r.URL.RawPath = Prefix+path, ""
	path, query, _ := strings.Cut(r.URL.Path, "?")
	r.URL.Path, r.URL.RawQuery = path, query
	for name, v := range map[string]string{"Authorization": authorization, headerSource: source, headerLocal: local} {
		if v != "" {
			r.Header.Set(name, v)
		}
	}
	k.forFront().ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	k, d, read, admin := testKeeper(t)
	const me, here = "10.1.0.10", "10.1.0.2"
	for i, tt := range []struct {
		method, path, token, source, local string
		status                             int
		to                                 string // path and query at the daemon
	}{
		{"GET", "/v1/status", read, me, here, 200, "/v1/status?"},
		{"GET", "/v1/verify?for=9s", read, me, here, 200, "/v1/verify?for=9s"},
		{"GET", "/v1/peers/gw-b/routes", read, me, here, 200, "/v1/peers/gw-b/routes?"},
		{"GET", "/v1/peers/gw-b/evidence", read, me, here, 404, ""},
		{"GET", "/v1/sync", read, me, here, 200, "/v1/status?"},
		{"GET", "/v1/policy", admin, me, here, 200, "/v1/policy?"},
		{"POST", "/v1/failover", admin, me, here, 200, "/v1/deactivate?operator=api%3Aadmin"},
		{"POST", "/v1/policy/install?operator=root&confirm=5m", admin, me, here, 200, "/v1/policy/install?confirm=5m&operator=api%3Aadmin"},
		{"PUT", "/v1/devices/disk", admin, me, here, 200, "/v1/devices/disk?"},
		{"POST", "/v1/failover", read, me, here, 403, ""},
		{"GET", "/v1/policy/file?revision=1", read, me, here, 403, ""},
		{"PUT", "/v1/devices/disk", read, me, here, 403, ""},
		{"GET", "/v1/status", "", me, here, 401, ""},
		{"GET", "/v1/status", read[:len(read)-1] + "~", me, here, 401, ""},
		{"GET", "/v1/nothing", "", me, here, 401, ""},
		{"GET", "/v1/nothing", admin, me, here, 404, ""},
		{"POST", "/v1/shutdown", admin, me, here, 404, ""},
		{"POST", "/v1/deactivate", admin, me, here, 404, ""},
		{"PUT", "/v1/node/file", admin, me, here, 404, ""},
		{"DELETE", "/v1/status", admin, me, here, 405, ""},
		{"GET", "/v1/status", read, me, "10.1.0.1", 421, ""},
		{"GET", "/v1/status", read, "", here, 400, ""},
		{"GET", "/v1/status", read, me, "", 421, ""},
	} {
		d.last = nil
		auth := ""
		if tt.token != "" {
			auth = "Bearer " + tt.token
		}
		w := ask(k, tt.method, tt.path, auth, tt.source, tt.local)
		if tt.status == 405 { // of a path that exists: not ours to tell, but nothing is reached
			if d.last != nil || w.Code < 400 {
				t.Errorf("%d: %s %s: %d", i, tt.method, tt.path, w.Code)
			}
			continue
		}
		to := ""
		if d.last != nil {
			to = d.last.URL.Path + "?" + d.last.URL.RawQuery
		}
		if w.Code != tt.status || to != tt.to {
			t.Errorf("%d: %s %s: %d, want %d; reached %q, want %q\n%s", i, tt.method, tt.path, w.Code, tt.status, to, tt.to, w.Body)
		}
	}
	// Guessing ends soon, and does not keep the bearer out.
	last := 0
	for range 50 {
		last = ask(k, "GET", "/v1/status", "Bearer x", me, here).Code
	}
	if last != 429 {
		t.Errorf("the 50th wrong token: %d", last)
	}
	if w := ask(k, "GET", "/v1/status", "Bearer "+read, me, here); w.Code != 200 {
		t.Errorf("the bearer, beside somebody who guesses: %d", w.Code)
	}
}

// FuzzServe: nothing reaches a daemon without a token, and nothing but what is listed with one.
func FuzzServe(f *testing.F) {
	f.Add("GET", "/v1/status", "Bearer x", "10.1.0.10", "10.1.0.2", true)
	f.Add("POST", "/../sign", "", "::1", "fe80::1", false)
	f.Add("PUT", "/v1/devices/%2e%2e", "Basic eDp5", "x", "", true)
	f.Fuzz(func(t *testing.T, method, path, auth, source, local string, good bool) {
		k, d, _, admin := testKeeper(t)
		if method == "" || strings.ContainsAny(method, " \r\n\t") || !strings.HasPrefix(path, "/") {
			return
		}
		if _, err := http.NewRequest(method, "/", nil); err != nil {
			return
		}
		if good {
			auth = "Bearer " + admin
		}
		ask(k, method, path, auth, source, local)
		if d.last == nil {
			return
		}
		if !good {
			t.Fatalf("%s %s reached a daemon without a token", method, path)
		}
		for _, allowed := range routes {
			to := allowed.path
			if allowed.to != "" {
				to = allowed.to
			}
			if d.last.Method == allowed.method || d.last.Method == "HEAD" && allowed.method == "GET" {
				if d.last.URL.Path == to || strings.HasPrefix(to, "/v1/devices/") && strings.HasPrefix(d.last.URL.Path, "/v1/devices/") ||
					strings.HasPrefix(to, "/v1/peers/") && strings.HasPrefix(d.last.URL.Path, "/v1/peers/") && strings.HasSuffix(d.last.URL.Path, to[strings.LastIndex(to, "/"):]) {
					return
				}
			}
		}
		t.Fatalf("%s %s reached %s %s, which is not listed", method, path, d.last.Method, d.last.URL.Path)
	})
}

func TestKeyAndCertificate(t *testing.T) {
	dir := t.TempDir()
	key, note, err := loadKey(dir)
	if err != nil || note != "" {
		t.Fatal(note, err)
	}
	again, note, err := loadKey(dir)
	if err != nil || note != "" || !key.Equal(again) {
		t.Fatal("the key is not kept:", note, err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, note, err := loadKey(dir)
	if err != nil || !strings.Contains(note, "damaged") || key.Equal(other) {
		t.Errorf("a damaged key: %q, %v", note, err)
	}
	if old, err := os.ReadFile(filepath.Join(dir, keyFile+".damaged")); err != nil || !bytes.Equal(old, []byte("no key")) {
		t.Errorf("the damaged key is not put aside: %v", err)
	}
}
