package api

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

// Failover is the body of POST /v1/deactivate; it may be empty.
type Failover struct {
	To  string          `json:"to,omitempty"`  // name or ID of the member that is to have the role; the best when empty
	For member.Duration `json:"for,omitempty"` // after that this member asks for it back; 0s: it does not
}

// DeviceReport is the body of PUT /v1/devices/{name}. The first one registers the device.
type DeviceReport struct {
	State   string          `json:"state"` // ok, init, problem, lockdown: it must not hold the role whatever happens
	Text    string          `json:"text,omitempty"`
	Timeout member.Duration `json:"timeout,omitempty"` // silent for longer is a problem; 0s keeps what it was, or none
	// Persist keeps the report across restarts. Only AdminDown can.
	Persist bool `json:"persist,omitempty"`
}

// AdminDown is the critical device by which an operator takes a member down (`cluster down`).
const AdminDown = "admin_down"

// Activate is the body of POST /v1/activate; it may be empty.
type Activate struct {
	// Force takes the role without the majority that a witness or safety mode demands.
	Force bool `json:"force,omitempty"`
}

// Watch is the body of POST /v1/watch: how an interface is used until had starts again.
type Watch struct {
	Interface string `json:"interface"`
	Heartbeat *bool  `json:"heartbeat,omitempty"` // it carries heartbeats
	Monitor   *bool  `json:"monitor,omitempty"`   // its carrier counts
}

// Priority is the body of POST /v1/priority: a change that the node file has by now.
type Priority struct {
	Member   uint8 `json:"member"`
	Priority uint8 `json:"priority"`
}

// Remove is the body of POST /v1/remove: a member that the node file does not list any more.
type Remove struct {
	Member uint8 `json:"member"`
}

// SyncReport is the body of had's POST /v1/sync, which statesyncd sends on every change and every second. After the first one,
// SyncSilence without another counts as not in sync.
type SyncReport struct {
	InSync bool   `json:"in_sync"`
	Text   string `json:"text,omitempty"` // why, or why not
}

// PolicyDevice is the critical device of the policy: whether this member may serve by what it runs.
const PolicyDevice = "Policy"

// Policy is the body of POST /v1/policy: what this member runs, for its heartbeats; zero: none.
type Policy struct {
	Revision uint64 `json:"revision"`
	Digest   string `json:"digest"` // sha256:…
}

// SyncSilence is after which silence a member counts as not in sync.
const SyncSilence = 3 * time.Second
