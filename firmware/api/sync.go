package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
)

// StatesyncdSocket is statesyncd's in the run directory.
const StatesyncdSocket = "statesyncd.sock"

// SyncStatus is statesyncd's GET /v1/status.
type SyncStatus struct {
	Member     uint8           `json:"member"`
	MemberName string          `json:"member_name"`
	InSync     bool            `json:"in_sync"`
	Text       string          `json:"text"` // why, or why not
	Since      member.Duration `json:"since"`
	Holder     bool            `json:"holder"` // this member holds the role
	Term       uint64          `json:"term"`
	// RoleError is set when had does not say who holds the role.
	RoleError    string     `json:"role_error,omitempty"`
	Entries      int        `json:"entries"`      // replicated connections
	Expectations int        `json:"expectations"` // replicated
	TableCount   int        `json:"table_count"`  // the kernel's table, with the member's own connections
	TableMax     int        `json:"table_max"`
	Full         bool       `json:"full"`       // entries of the holder are missing here for want of room
	EventRate    float64    `json:"event_rate"` // of the kernel, a second
	OutRate      float64    `json:"out_rate"`   // changes sent, a second
	InRate       float64    `json:"in_rate"`    // changes received, a second
	Peers        []SyncPeer `json:"peers"`
	// Stats count since statesyncd has started.
	Stats statesync.Stats `json:"stats"`
	// Sessions counts connections that were refused or have ended, by reason.
	Sessions        map[string]uint64 `json:"sessions"`
	SkippedMessages uint64            `json:"skipped_messages"` // of the kernel, that made no sense
	Held            uint64            `json:"held"`             // first packets that waited for the peers
	HeldLate        uint64            `json:"held_late"`        // of which went before every peer had their connection
	HeldDropped     uint64            `json:"held_dropped"`     // further ones, lost because too many waited
	RSS             uint64            `json:"rss"`              // bytes
	CPU             time.Duration     `json:"cpu_ns"`
}

// SyncPeer is one other member.
type SyncPeer struct {
	Member    uint8           `json:"member"`
	Name      string          `json:"name"`
	Connected bool            `json:"connected"`
	Since     member.Duration `json:"since"`
	Via       string          `json:"via,omitempty"` // interface
	Address   string          `json:"address,omitempty"`
	Holder    bool            `json:"holder"`
	Term      uint64          `json:"term"`
	InSync    bool            `json:"in_sync"` // as it says itself
	Full      bool            `json:"full"`
	Text      string          `json:"text,omitempty"`
	Entries   int             `json:"entries"`
	Lag       member.Duration `json:"lag"`      // from the kernel's event here to the entry in its kernel and back
	LagPeak   member.Duration `json:"lag_peak"` // of the last ten seconds
	Unacked   uint64          `json:"unacked"`  // batches
	Queue     int             `json:"queue"`    // bytes
	QueuePeak int             `json:"queue_peak"`
	SentBytes uint64          `json:"sent_bytes"`
	Digest    string          `json:"digest"` // the last comparison with it as the holder: equal, or what differs
	Repairing bool            `json:"repairing"`
}

// Barrier is the body of statesyncd's POST /v1/barrier.
type Barrier struct {
	TimeoutMS int `json:"timeout_ms"` // 1..10000
}

// BarrierReply tells whether every peer that is in sync has everything this member's kernel had reported when the
// question came.
type BarrierReply struct {
	OK        bool            `json:"ok"`
	Missing   []string        `json:"missing,omitempty"`     // in sync, but they have not answered in time
	NotInSync []string        `json:"not_in_sync,omitempty"` // were not asked
	Took      member.Duration `json:"took"`
}

// SyncDiff is statesyncd's GET /v1/diff: what differs between the tables of this member and a peer, a line each.
// While traffic flows, connections that changed meanwhile can show up.
type SyncDiff struct {
	Peer         string   `json:"peer"`
	Buckets      int      `json:"buckets"` // of the digest that differ
	Here         []string `json:"here"`    // only here
	There        []string `json:"there"`   // only there
	Changed      []string `json:"changed"`
	Expectations int      `json:"expectations"` // that differ
	Trimmed      bool     `json:"trimmed,omitempty"`
}

// Sync is how state sync does.
func (c *Client) Sync(ctx context.Context) (SyncStatus, error) {
	return get[SyncStatus](ctx, c, StatesyncdSocket, "/v1/status")
}

// SyncRole tells state sync that the role has changed, so that it asks had at once.
func (c *Client) SyncRole(ctx context.Context) error {
	return c.call(ctx, StatesyncdSocket, http.MethodPost, "/v1/role", nil, nil)
}

// SyncBarrier waits until every peer that is in sync has what this member's kernel has reported so far.
func (c *Client) SyncBarrier(ctx context.Context, timeout time.Duration) (r BarrierReply, err error) {
	err = c.call(ctx, StatesyncdSocket, http.MethodPost, "/v1/barrier", Barrier{TimeoutMS: int(timeout.Milliseconds())}, &r)
	return r, err
}

// Diff compares the connection table with a peer's, by name or ID; the first one when empty.
func (c *Client) Diff(ctx context.Context, peer string) (SyncDiff, error) {
	return get[SyncDiff](ctx, c, StatesyncdSocket, "/v1/diff?peer="+url.QueryEscape(peer))
}
