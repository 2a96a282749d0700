package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/twinkeep/twinkeep/ha/member"
)

// SSHSocket is sshd's in the run directory.
const SSHSocket = "sshd.sock"

// SSHStatus is sshd's GET /v1/ssh: the console over the network.
type SSHStatus struct {
	Enabled     bool         `json:"enabled"`
	Port        uint16       `json:"port,omitempty"`
	Problem     string       `json:"problem,omitempty"` // why it does not listen
	User        string       `json:"user"`
	Fingerprint string       `json:"fingerprint"` // of the host key, SHA-256 as ssh-keygen -l
	HostKey     string       `json:"host_key"`    // as in known_hosts
	Password    bool         `json:"password"`    // one is set, so it may be used
	Keys        []SSHKey     `json:"keys,omitempty"`
	Faults      []string     `json:"faults,omitempty"` // lines of the key file that are left out
	Connections []SSHLogin   `json:"connections,omitempty"`
	ShutOut     []SSHShutOut `json:"shut_out,omitempty"`
	Counts      SSHCounts    `json:"counts"`
}

// SSHKey is a public key that may log in.
type SSHKey struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Comment     string `json:"comment,omitempty"`
}

// SSHLogin is a connection.
type SSHLogin struct {
	Source   string          `json:"source"`
	User     string          `json:"user,omitempty"` // empty: has not logged in
	By       string          `json:"by,omitempty"`   // password, or key and its fingerprint
	For      member.Duration `json:"for"`
	Sessions int             `json:"sessions"`
}

// SSHShutOut is a source with too many failed logins.
type SSHShutOut struct {
	Source   string          `json:"source"`
	Failures int             `json:"failures"`
	For      member.Duration `json:"for"` // from now on
}

// SSHCounts count since sshd started.
type SSHCounts struct {
	Connections uint64 `json:"connections"`
	Refused     uint64 `json:"refused"` // before a byte was read
	Logins      uint64 `json:"logins"`
	Failures    uint64 `json:"failures"`
	Sessions    uint64 `json:"sessions"`
	Crashes     uint64 `json:"crashes"` // of the process that speaks with the network
}

// SSHAddKey is the body of sshd's POST /v1/keys.
type SSHAddKey struct {
	Line string `json:"line"` // type, key, comment
}

// SSH is the state of the console over the network.
func (c *Client) SSH(ctx context.Context) (SSHStatus, error) {
	return get[SSHStatus](ctx, c, SSHSocket, "/v1/ssh")
}

// AddSSHKey lets a public key in.
func (c *Client) AddSSHKey(ctx context.Context, line string) (SSHKey, error) {
	var k SSHKey
	err := c.call(ctx, SSHSocket, http.MethodPost, "/v1/keys", SSHAddKey{line}, &k)
	return k, err
}

// RemoveSSHKey takes a public key off the list, by its fingerprint or a comment that only it has, and ends what came in by it.
func (c *Client) RemoveSSHKey(ctx context.Context, which string) (SSHKey, error) {
	var k SSHKey
	err := c.call(ctx, SSHSocket, http.MethodDelete, "/v1/keys?key="+url.QueryEscape(which), nil, &k)
	return k, err
}
