package box

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// alone is the cluster of a box that runs by policies and has no peer.
const alone = `
cluster:
  id: 7
  name: lab
  members: [{id: 1, name: gw-a, priority: 120}]
  timing: {beat: 200ms, lease: 2500ms, dead: 4s, silence: 8s}
`

const aloneNode = "version: 1\nhostname: gw-a\nboard: auto" + alone + `  member: 1
  key: bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
`

const alonePolicy = "version: 1\nname: lab" + alone + `zones: [{name: lan}]
interfaces:
  - {name: G1, zone: lan, addresses: {1: 10.1.0.2/24}, vips: [10.1.0.1]}
filter:
  rules: [{name: inside, from: [lan], to: [lan], action: accept}]
`

// TestLostPolicy: a box whose data partition is destroyed has no policy any more. It says what it lost, stays closed while the management server is away, and
// serves again by itself when it is back.
func TestLostPolicy(t *testing.T) {
	t.Parallel()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := sign.PublicPEM(public)
	if err != nil {
		t.Fatal(err)
	}
	manager, settings, _ := managed(t, "policies/lab")
	a, err := artifact.New(artifact.Meta{Name: "lab", Revision: 4, Created: time.Now().UTC()}, []byte(alonePolicy))
	if err == nil {
		err = sign.Sign(a, key)
	}
	if err == nil {
		err = manager.Registry("policies/lab", manager.Operator).Push(t.Context(), a)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := newLife(t, Variant{Revision: 100, Cmdline: quick, Files: []qemu.File{
		settings, {Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(aloneNode)}, {Path: "/etc/twinkeep/policy-keys/lab.pub", Mode: 0o600, Data: pinned},
	}}, false)
	l.cfg.Host, l.cfg.NICs = true, 1

	l.on()
	l.see(`took revision 4.* from the management server`)
	l.see(`role assumed`)
	l.cut()

	manager.Stop()
	l.on() // what it has is enough
	l.see(`runs its own revision 4`)
	l.see(`role assumed`)
	l.cut()

	spoil(l, 0, 370<<20)
	l.on()
	l.see(`IT IS CREATED ANEW, what it held is lost`)
	l.see(`closed, without a policy`)
	l.must(l.Enter(""))
	l.prompt()
	if out := l.command("cluster state"); !strings.Contains(out, "DOWN") {
		t.Errorf("without a policy: %s", out)
	}
	if out := l.shell("ip addr show dev G1; ip -br link"); !strings.Contains(out, "10.1.0.2") || strings.Contains(out, "10.1.0.1/") {
		t.Errorf("without a policy, addresses: %s", out)
	}
	manager.Restart()
	l.see(`took revision 4`)
	l.see(`role assumed`)
	l.cut()
}
