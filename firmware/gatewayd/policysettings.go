package gatewayd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
)

const (
	keysDir  = "policy-keys" // in the config directory
	storeDir = "policy"      // in the state directory
)

// policySettings are what a box has about policies, apart from the policies.
type policySettings struct {
	// wanted: the box runs by policies, or does not run.
	wanted  bool
	problem string // why it cannot; empty: it can
	keys    sign.Keyring
	badKeys error
	server  registry.Config // zero: no management server
	// What the node file says: whose policy, and who this member is.
	name     string
	id, self uint8
	key      node.Key
	notes    []string // for the log
}

// loadPolicySettings looks for public keys and for a stored policy. A box with neither runs by its node file alone.
func loadPolicySettings(opts Options, n *node.Node) policySettings {
	var s policySettings
	keys, err := sign.LoadKeyring(filepath.Join(opts.ConfigDir, keysDir))
	stored := false
	if opts.StateDir != "" {
		_, statErr := os.Stat(filepath.Join(opts.StateDir, storeDir, "index.json"))
		stored = statErr == nil
	}
	if s.wanted = err != nil || len(keys) > 0 || stored; !s.wanted {
		return s
	}
	s.keys = keys
	if s.badKeys = err; err != nil {
		s.notes = append(s.notes, err.Error()+"; no policy is believed until that is mended")
	} else if len(keys) == 0 {
		s.notes = append(s.notes, "there is a stored policy and no public key in "+filepath.Join(opts.ConfigDir, keysDir)+": no policy is believed")
	}
	switch c := n.Cluster; {
	case c == nil:
		s.problem = "a box with policy keys needs a cluster section in its node file: a policy is for the members of a cluster"
	case c.Judges():
		s.wanted = false // a witness runs none
	case c.Name == "":
		s.problem = "a box with policy keys needs cluster.name in its node file: it takes the policy of that name"
	case opts.StateDir == "":
		s.problem = "there is no state directory to keep policies in"
	default:
		s.name, s.id, s.self, s.key = c.Name, c.ID, c.Member, c.Key
	}
	path := filepath.Join(opts.ConfigDir, registry.FileName)
	if s.server, err = registry.LoadConfig(path); err != nil {
		s.server = registry.Config{}
		if !errors.Is(err, fs.ErrNotExist) {
			s.notes = append(s.notes, fmt.Sprintf("the management server is not asked: %v", err))
		}
	}
	return s
}

// fault is what keeps a box that runs by policies from running by these settings.
func (s policySettings) fault() error {
	if s.problem != "" {
		return errors.New(s.problem)
	}
	return s.badKeys
}

func (s policySettings) equal(o policySettings) bool { return reflect.DeepEqual(s, o) }

// changePolicies starts, ends or replaces what runs the box by policies. d.reloading is held.
func (d *daemon) changePolicies(s policySettings, n *node.Node) {
	p := d.policies.Load()
	if p != nil && p.node != nil && s.wanted && s.problem == "" && p.settings.equal(s) {
		return
	}
	for _, note := range s.notes {
		d.Log.Printf("policy: %s", note)
	}
	d.endPolicies()
	if !s.wanted || s.problem != "" {
		d.forgetInForce(p != nil)
		return
	}
	p, err := startPolicies(d, s, n)
	if err != nil {
		d.Log.Printf("policy: %v; nothing passes until that is mended", err)
	}
	d.policies.Store(p)
}

func (d *daemon) endPolicies() {
	if p := d.policies.Swap(nil); p != nil {
		p.end()
	}
}

// forgetInForce makes the other daemons run by the node file.
func (d *daemon) forgetInForce(tell bool) {
	if err := (*node.InForce)(nil).Save(d.RunDir); err != nil {
		d.Log.Print(err)
	}
	if tell {
		d.monitors.client.UnregisterDevice(d.ctx, policyDevice)
		d.monitors.client.ReloadHA(d.ctx)
		d.monitors.client.ReloadSync(d.ctx)
	}
}
