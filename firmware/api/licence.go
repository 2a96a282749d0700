package api

import (
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/ha/member"
)

// LicenceStatus is gatewayd's GET /v1/license.
type LicenceStatus struct {
	State  string `json:"state"`           // licensed, grace, demo, lockdown
	Reason string `json:"reason"`          // one sentence
	Leave  string `json:"leave,omitempty"` // how to leave lockdown, demo or grace
	// Remaining is what is left of the demo or of the grace, in running time.
	Remaining member.Duration `json:"remaining,omitempty"`
	// Licence is the installed one as its file says; believe it only when Fault is empty.
	Licence *license.Licence `json:"licence,omitempty"`
	Key     string           `json:"key,omitempty"`   // that signed it
	Fault   string           `json:"fault,omitempty"` // why it is not believed
	// Registration is the interface that the licence is bound to.
	Registration *license.Port `json:"registration,omitempty"`
	// Time is what the term is counted against, UTC: not necessarily the clock's.
	Time     string         `json:"time"`
	Contact  *ContactStatus `json:"contact,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Keys     []string       `json:"keys"` // that this firmware believes
	Lab      bool           `json:"lab,omitempty"`
}

// ContactStatus is how it goes with the licence server.
type ContactStatus struct {
	Server string          `json:"server"`
	Last   member.Duration `json:"last"` // running time since it was last reached, or since the licence was installed
	Error  string          `json:"error,omitempty"`
}

// InterfaceOrder is the body of POST /v1/interfaces/{name}/disable.
type InterfaceOrder struct {
	Force   bool `json:"force,omitempty"`   // even if that means lockdown
	Persist bool `json:"persist,omitempty"` // also after a restart
}
