package api

import (
	"context"
	"net/http"
	"net/url"
)

// RemoteSocket is apid's in the run directory: it looks after the API over the network.
const RemoteSocket = "apid.sock"

// RemoteStatus is apid's GET /v1/remote.
type RemoteStatus struct {
	Enabled bool   `json:"enabled"` // by the policy or the node file
	Open    bool   `json:"open"`    // it listens
	Port    uint16 `json:"port,omitempty"`
	Problem string `json:"problem,omitempty"` // why it is not open although it should be
	// Pin is the SHA-256 of the public key, as curl's --pinnedpubkey takes it.
	Pin         string        `json:"pin"`
	Certificate string        `json:"certificate"` // PEM, for the addresses of now
	Tokens      []RemoteToken `json:"tokens"`
	Counts      RemoteCounts  `json:"counts"`
}

// RemoteToken is a token that may ask.
type RemoteToken struct {
	Name string `json:"name"`
	Role string `json:"role"` // read, admin
}

// RemoteCounts count since apid started.
type RemoteCounts struct {
	Requests uint64 `json:"requests"`
	Refused  uint64 `json:"refused"`
	Crashes  uint64 `json:"crashes"` // of the process that speaks with the network
}

// RemoteSecret is the answer to a new token: the only time that it is shown.
type RemoteSecret struct {
	RemoteToken
	Token string `json:"token"`
}

// Remote is the state of the API over the network.
func (c *Client) Remote(ctx context.Context) (RemoteStatus, error) {
	return get[RemoteStatus](ctx, c, RemoteSocket, "/v1/remote")
}

// CreateRemoteToken makes a token of a role: read or admin.
func (c *Client) CreateRemoteToken(ctx context.Context, t RemoteToken) (s RemoteSecret, err error) {
	err = c.call(ctx, RemoteSocket, http.MethodPost, "/v1/tokens", t, &s)
	return s, err
}

// RemoveRemoteToken makes a token worthless, at once.
func (c *Client) RemoveRemoteToken(ctx context.Context, name string) (t RemoteToken, err error) {
	err = c.call(ctx, RemoteSocket, http.MethodDelete, "/v1/tokens?name="+url.QueryEscape(name), nil, &t)
	return t, err
}
