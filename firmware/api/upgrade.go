package api

import (
	"context"
	"net/http"

	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
)

// UpgradedSocket is upgraded's in the run directory.
const UpgradedSocket = "upgraded.sock"

// UpgradeOrder is the body of upgraded's POST /v1/cluster.
type UpgradeOrder struct {
	Source string `json:"source"` // absolute file name, device, URL or OCI reference
	Force  bool   `json:"force,omitempty"`
}

// ClusterUpgrade is upgraded's GET /v1/cluster: the upgrade of the cluster that is under way, or the last one.
type ClusterUpgrade struct {
	Fetching *Progress     `json:"fetching,omitempty"` // the file is on its way
	Plan     *rollout.Plan `json:"plan,omitempty"`
	Error    string        `json:"error,omitempty"` // why the last order came to nothing
}

// Progress of a transfer in bytes; All is 0 when it is not known.
type Progress struct {
	Done int64 `json:"done"`
	All  int64 `json:"all"`
}

// ClusterUpgrade is the upgrade of the cluster.
func (c *Client) ClusterUpgrade(ctx context.Context) (ClusterUpgrade, error) {
	return get[ClusterUpgrade](ctx, c, UpgradedSocket, "/v1/cluster")
}

// UpgradeCluster begins one; how it goes is in ClusterUpgrade.
func (c *Client) UpgradeCluster(ctx context.Context, o UpgradeOrder) error {
	return c.call(ctx, UpgradedSocket, http.MethodPost, "/v1/cluster", o, nil)
}

// AbortUpgrade has the members go back to what they ran.
func (c *Client) AbortUpgrade(ctx context.Context) (string, error) {
	var m Message
	err := c.call(ctx, UpgradedSocket, http.MethodPost, "/v1/abort", nil, &m)
	return m.Message, err
}
