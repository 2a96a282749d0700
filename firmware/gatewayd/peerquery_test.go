package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/ha/member"
)

// TestUnanswered: why a member could not be asked is one line, for it becomes evidence, and still what callers look for.
func TestUnanswered(t *testing.T) {
	call := func(err error) error {
		return fmt.Errorf("member 2 at x: %w: %w", peerapi.ErrUnreachable, &url.Error{Op: "Get", URL: "https://x/", Err: err})
	}
	timeout := call(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("i/o timeout")})
	err := error(&unanswered{2, []string{"169.254.77.2", "10.1.0.3", "192.0.2.3"}, []error{timeout, timeout, call(context.DeadlineExceeded)}})
	if want := "member 2: unreachable at 169.254.77.2, 10.1.0.3 (i/o timeout); at 192.0.2.3 (context deadline exceeded)"; err.Error() != want {
		t.Errorf("%s, want %s", err, want)
	}
	var e *api.Error
	if !errors.Is(err, peerapi.ErrUnreachable) || !errors.As(asAPIError(err), &e) || e.Status != http.StatusBadGateway {
		t.Errorf("%v is not what it was", err)
	}
}

func TestWaysTo(t *testing.T) {
	at := func(a string, sync bool, age time.Duration) member.PeerAddress {
		return member.PeerAddress{Address: netip.MustParseAddr(a), Sync: sync, LastHeard: member.Duration(age)}
	}
	for name, c := range map[string]struct {
		list []member.PeerAddress
		want []string
	}{
		"none":                    {nil, nil},
		"sync first":              {[]member.PeerAddress{at("10.1.0.3", false, 0), at("169.254.77.2", true, 0)}, []string{"169.254.77.2", "10.1.0.3"}},
		"a dead sync link behind": {[]member.PeerAddress{at("169.254.77.2", true, time.Minute), at("10.1.0.3", false, 0)}, []string{"10.1.0.3", "169.254.77.2"}},
		"once each, none invalid": {[]member.PeerAddress{at("10.1.0.3", false, 0), at("10.1.0.3", false, 0), {}}, []string{"10.1.0.3"}},
	} {
		if got := waysTo(c.list); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	// What was heard stays while had knows nobody.
	var w ways
	w.learn(member.Status{Peers: []member.PeerStatus{{Member: 2, Addresses: []member.PeerAddress{at("10.1.0.3", false, 0)}}}})
	w.learn(member.Status{Peers: []member.PeerStatus{{Member: 2}}})
	if got := w.to(2); !slices.Equal(got, []string{"10.1.0.3"}) {
		t.Errorf("after a silence: %v", got)
	}
}

// testDaemon is one without anything behind it.
func testDaemon(t *testing.T, text string) *daemon {
	d := &daemon{Options: Options{RunDir: t.TempDir(), Log: log.New(t.Output(), "", 0)}, peering: newPeering(), ctx: t.Context()}
	d.monitors.client = api.NewClient(d.RunDir)
	d.node = parseNode(t, text)
	d.peering.become(d.node)
	return d
}

func TestPeerQuestions(t *testing.T) {
	d := testDaemon(t, memberFile)
	ask := func(path string, out any) error {
		w := httptest.NewRecorder()
		d.peerHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code >= 300 {
			e := &peerapi.Error{Status: w.Code}
			if err := peerapi.Decode(w.Body, e); err != nil {
				t.Fatal(err)
			}
			return e
		}
		return peerapi.Decode(w.Body, out)
	}
	var h api.Hardware
	if err := ask("/box/v1/hardware", &h); err != nil || h.Cores == 0 || h.Kernel == "" {
		t.Errorf("hardware: %+v, %v", h, err)
	}
	var s member.Status
	if err := ask("/box/v1/status", &s); err == nil || !strings.Contains(err.Error(), "had does not answer") {
		t.Errorf("the status without had: %v", err)
	}
	if err := ask("/box/v1/shutdown", nil); err == nil || !strings.Contains(err.Error(), "not known here") {
		t.Errorf("no question: %v", err)
	}
	if err := ask("/policy/v1/head", nil); err == nil || !strings.Contains(err.Error(), "by its node file alone") {
		t.Errorf("policies where there are none: %v", err)
	}
	w := httptest.NewRecorder()
	d.peerHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/box/v1/hardware", nil))
	if w.Code == http.StatusOK {
		t.Error("a question is asked with POST")
	}
}

// TestPeerNames: what an operator may call a peer, and what is said to him otherwise.
func TestPeerNames(t *testing.T) {
	d := testDaemon(t, memberFile)
	for _, name := range []string{"gw-b", "2"} {
		if id, err := d.peerNamed(t.Context(), name); id != 2 || err != nil {
			t.Errorf("%s: %d, %v", name, id, err)
		}
	}
	for name, want := range map[string]string{"gw-a": "is this member", "1": "is this member", "gw-z": "one of gw-b"} {
		if _, err := d.peerNamed(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.node = new(node.Node)
	if _, err := d.peerNamed(t.Context(), "gw-b"); err == nil || !strings.Contains(err.Error(), "standalone") {
		t.Errorf("standalone: %v", err)
	}
}

// TestPeering: the server of peers is that of the newest node file, and none of a witness or a standalone gateway.
func TestPeering(t *testing.T) {
	p := newPeering()
	_, changed := p.is()
	n := parseNode(t, memberFile)
	p.become(n)
	select {
	case <-changed:
	default:
		t.Error("nobody is told of a first identity")
	}
	id, changed := p.is()
	if id.self != 1 || id.key != n.Cluster.Key {
		t.Errorf("identity %+v", id)
	}
	p.become(n)
	select {
	case <-changed:
		t.Error("the same node file ends the server")
	default:
	}
	n.Cluster.Member = 9
	if p.become(n); func() bool { id, _ := p.is(); return id != (identity{}) }() {
		t.Error("a witness answers")
	}
	p.become(&node.Node{})
}
