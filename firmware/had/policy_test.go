package had

import (
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/cluster"
)

func TestPolicyOf(t *testing.T) {
	digest := "sha256:0123456789abcdef" + strings.Repeat("0", 48)
	for _, c := range []struct {
		revision uint64
		digest   string
		want     cluster.Policy
	}{
		{42, digest, cluster.Policy{Revision: 42, Digest: 0x0123456789abcdef}},
		{0, digest, cluster.Policy{}},
		{42, "", cluster.Policy{}},
		{42, "sha256:0123", cluster.Policy{}},
		{42, "nothing", cluster.Policy{}},
	} {
		if got := policyOf(c.revision, c.digest); got != c.want {
			t.Errorf("%d %q: %+v", c.revision, c.digest, got)
		}
	}
}

// TestPolicyDevice: a had that starts without a word from gatewayd never holds the role without a policy.
func TestPolicyDevice(t *testing.T) {
	if d := policyDevice(&node.InForce{Blocked: "no policy"}); d.State != cluster.DeviceLockdown || d.Text != "no policy" {
		t.Errorf("%+v", d)
	}
	if d := policyDevice(&node.InForce{Revision: 42}); d.State != cluster.DeviceOK {
		t.Errorf("%+v", d)
	}
}
