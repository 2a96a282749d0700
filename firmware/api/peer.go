package api

import (
	"context"
	"net/url"

	"github.com/twinkeep/twinkeep/ha/member"
)

// PeerHardware asks another member, by name or ID, for its hardware. gatewayd asks it over the peer API; an error names the
// addresses where it did not answer.
func (c *Client) PeerHardware(ctx context.Context, peer string) (Hardware, error) {
	return askPeer[Hardware](ctx, c, peer, "hardware")
}

// PeerStatus asks another member for its own view of the cluster.
func (c *Client) PeerStatus(ctx context.Context, peer string) (member.Status, error) {
	return askPeer[member.Status](ctx, c, peer, "status")
}

func askPeer[T any](ctx context.Context, c *Client, peer, question string) (T, error) {
	return get[T](ctx, c, GatewaydSocket, "/v1/peers/"+url.PathEscape(peer)+"/"+question)
}
