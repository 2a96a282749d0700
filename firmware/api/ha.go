package api

import "github.com/twinkeep/twinkeep/ha/member"

// Failover is the body of POST /v1/deactivate; it may be empty.
type Failover struct {
	To  string          `json:"to,omitempty"`  // name or ID of the member that is to have the role; the best when empty
	For member.Duration `json:"for,omitempty"` // after that this member asks for it back; 0s: it does not
}

// DeviceReport is the body of PUT /v1/devices/{name}. The first one registers the device.
type DeviceReport struct {
	State   string          `json:"state"` // ok, init, problem
	Text    string          `json:"text,omitempty"`
	Timeout member.Duration `json:"timeout,omitempty"` // silent for longer is a problem; 0s keeps what it was, or none
	// Persist keeps the report across restarts. Only AdminDown can.
	Persist bool `json:"persist,omitempty"`
}

// AdminDown is the critical device by which an operator takes a member down (`cluster down`).
const AdminDown = "admin_down"
