package gatewayd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/lockdown"
	"github.com/twinkeep/twinkeep/firmware/license/store"
)

var licenceKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func licenceRing() license.Ring {
	public := licenceKey.Public().(ed25519.PublicKey)
	return license.Ring{license.KeyID(public): public}
}

func licenceFor(mac string) []byte {
	now := time.Now().UTC().Truncate(time.Second)
	l := license.Licence{ID: "T-1", Owner: "test", Product: license.Product, MAC: mac, Issued: now, From: license.DayOf(now)}
	file, err := l.Sign(licenceKey)
	if err != nil {
		panic(err)
	}
	return file
}

// licensed runs a gatewayd that believes licenceKey, with one interface G1.
func licensed(t *testing.T, state string) *api.Client {
	t.Helper()
	needNamespace(t)
	run(t, "ip link add G1 type veth peer name far1")
	config, runDir := t.TempDir(), t.TempDir()
	file := "version: 1\nhostname: gw\ninterfaces:\n  - {name: G1, zone: lan, address: 10.1.0.2/24}\n"
	if err := os.WriteFile(filepath.Join(config, "node.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{ConfigDir: config, StateDir: state, RunDir: runDir, Keys: licenceRing(),
			Ready: func() { close(ready) }, Log: log.New(t.Output(), "gatewayd: ", 0)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		run(t, "ip link del G1")
		run(t, "nft delete table inet twinkeep")
		run(t, "sysctl -qw net.ipv4.ip_forward=0")
	})
	<-ready
	return api.NewClient(runDir)
}

func status(t *testing.T, err error, want int, text string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != want || !strings.Contains(e.Error(), text) {
		t.Errorf("%v; want status %d and %q", err, want, text)
	}
}

func state(t *testing.T, c *api.Client, want string) {
	t.Helper()
	s, err := c.Licence(context.Background())
	if err != nil || s.State != want {
		t.Errorf("%s (%s), %v; want %s", s.State, s.Reason, err, want)
	}
}

func TestLicenceAPI(t *testing.T) {
	dir := t.TempDir()
	c, ctx := licensed(t, dir), context.Background()
	list, err := c.Interfaces(ctx)
	if err != nil {
		t.Fatal(err)
	}
	good, other := licenceFor(list[0].MAC), licenceFor("52:54:00:77:77:77")
	state(t, c, "demo")
	for _, refused := range []struct {
		file   []byte
		status int
		text   string
	}{
		{[]byte("text"), 422, "not a licence file"},
		{[]byte(strings.Replace(string(good), "SIGNATURE ", "SIGNATURE A", 1)), 422, "line 7"},
		{make([]byte, license.MaxSize+1), 413, "at most"},
		{other, 409, "would mean lockdown: no interface has the MAC"},
	} {
		_, err := c.InstallLicence(ctx, refused.file, false)
		status(t, err, refused.status, refused.text)
	}
	if file, err := store.In(dir).Licence(); file != nil || err != nil {
		t.Errorf("a refused licence was kept: %s %v", file, err)
	}
	_, err = c.RemoveLicence(ctx, false)
	status(t, err, 409, "no licence to remove")
	_, err = c.ContactLicenceServer(ctx)
	status(t, err, 409, "no licence server")
	if s, err := c.InstallLicence(ctx, good, false); err != nil || s.State != "licensed" {
		t.Errorf("%+v %v", s, err)
	}
	if list, _ = c.Interfaces(ctx); list[0].Registration != "matches licence T-1" {
		t.Errorf("interfaces %+v", list)
	}
	_, err = c.DisableInterface(ctx, "G1", api.InterfaceOrder{})
	status(t, err, 409, "registration interface")
	_, err = c.RemoveLicence(ctx, false)
	status(t, err, 409, "lockdown in 2h0m0s of running time")
	if s, err := c.RemoveLicence(ctx, true); err != nil || s.State != "demo" {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := c.DisableInterface(ctx, "G1", api.InterfaceOrder{}); err != nil {
		t.Errorf("without a licence: %v", err)
	}
}

// TestLockdownIsKept: the table comes back when somebody takes it out, and goes when the reason is gone.
func TestLockdownIsKept(t *testing.T) {
	dir := t.TempDir()
	if err := store.In(dir).PutLicence(licenceFor("52:54:00:77:77:77")); err != nil {
		t.Fatal(err)
	}
	c, ctx := licensed(t, dir), context.Background()
	state(t, c, "lockdown")
	there := func() bool {
		ok, err := lockdown.Present()
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !there() {
		t.Fatal("no lockdown table when gatewayd is ready")
	}
	if list := run(t, "nft list table inet "+lockdown.TableName); !strings.Contains(list, "elements = { 10.1.0.2 }") {
		t.Errorf("the management address is not in:\n%s", list)
	}
	run(t, "nft delete table inet "+lockdown.TableName)
	for end := time.Now().Add(10 * time.Second); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the table does not come back")
		}
	}
	if s, err := c.RemoveLicence(ctx, false); err != nil || s.State != "demo" || there() {
		t.Errorf("after the licence was removed: %+v %v, table %v", s, err, there())
	}
}

// TestNoStateDirectory: nothing is kept, and that is said where it matters.
func TestNoStateDirectory(t *testing.T) {
	c, ctx := licensed(t, ""), context.Background()
	state(t, c, "demo")
	_, err := c.DisableInterface(ctx, "G1", api.InterfaceOrder{Persist: true})
	if err == nil || !strings.Contains(err.Error(), "no state directory") {
		t.Errorf("%v", err)
	}
}
