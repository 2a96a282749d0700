package had

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/member"
)

// policyDevice is the report to begin with: without a policy a member never holds the role, not even between its start
// and gatewayd's first word.
func policyDevice(in *node.InForce) cluster.Device {
	d := cluster.Device{Name: api.PolicyDevice}
	if in.Blocked != "" {
		d.State, d.Text = cluster.DeviceLockdown, in.Blocked
	}
	return d
}

// policyOf is a policy as heartbeats tell it.
func policyOf(revision uint64, digest string) cluster.Policy {
	b, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(b) < 8 || revision == 0 {
		return cluster.Policy{}
	}
	return cluster.Policy{Revision: revision, Digest: binary.BigEndian.Uint64(b)}
}

// setPolicy takes in which policy this member runs.
func (d *daemon) setPolicy(m *member.Member, r *http.Request) (member.Reply, error) {
	var p api.Policy
	if err := body(r, &p); err != nil {
		return member.Reply{}, err
	}
	policy := policyOf(p.Revision, p.Digest)
	if policy == (cluster.Policy{}) && p != (api.Policy{}) {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("policy revision %d, digest %.80q: want both, or none", p.Revision, p.Digest)}
	}
	return m.SetPolicy(policy, d.otherSettings())
}

// otherSettings reports whether what is in force changes what this member runs by.
func (d *daemon) otherSettings() bool {
	_, running, _ := d.current()
	next, _, err := d.load()
	return err == nil && running != nil && running.Cluster != nil && next.Cluster != nil && !node.SameHA(running, next)
}
