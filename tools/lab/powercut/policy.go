package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/tools/lab/box"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// policies is how many revisions the image brings along, for an operator to install.
const policies = 6

// clusterNode is a box that runs by policies. Its timing is long: nothing here depends on how fast a failure is seen.
const clusterNode = `version: 1
hostname: box
board: auto
cluster:
  id: 7
  name: lab
  member: 1
  key: bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE=
  members: [{id: 1, name: box, priority: 120}]
  timing: {beat: 200ms, lease: 2500ms, dead: 4s, silence: 8s}
interfaces:
  - {name: G1, zone: lan, address: 10.1.0.2/24, vips: [10.1.0.1]}
`

// document is a policy; every revision is another one.
func document(revision int) []byte {
	return fmt.Appendf(nil, `version: 1
name: lab
cluster:
  id: 7
  name: lab
  members: [{id: 1, name: box, priority: 120}]
  timing: {beat: 200ms, lease: 2500ms, dead: 4s, silence: 8s}
zones: [{name: lan}]
interfaces:
  - {name: G1, zone: lan, addresses: {1: 10.1.0.2/24}, vips: [10.1.0.1]}
filter:
  rules: [{name: revision-%d, from: [lan], to: [lan], action: accept}]
`, revision)
}

// policyFile is where the image has a revision.
func policyFile(revision int) string { return fmt.Sprintf("/etc/lab/r%d.policy", revision) }

// policyRelease is an image that brings a node file, the public key of the policies, and the policies. The key is worth nothing outside of
// this test, and always the same: a recording is used again by later runs.
func policyRelease() (box.Variant, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	public, err := sign.PublicPEM(key.Public())
	if err != nil {
		return box.Variant{}, err
	}
	v := box.Variant{Revision: 100, Cmdline: quick, Files: []qemu.File{
		{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(clusterNode)},
		{Path: "/etc/twinkeep/policy-keys/lab.pub", Mode: 0o600, Data: public},
	}}
	for n := 1; n <= policies; n++ {
		a, err := artifact.New(artifact.Meta{Name: "lab", Revision: uint64(n), Created: time.Unix(1_700_000_000, 0).UTC()}, document(n))
		if err == nil {
			err = sign.Sign(a, key)
		}
		var b bytes.Buffer
		if err == nil {
			err = artifact.WriteBundle(&b, a)
		}
		if err != nil {
			return v, err
		}
		v.Files = append(v.Files, qemu.File{Path: policyFile(n), Data: b.Bytes()})
	}
	return v, nil
}
