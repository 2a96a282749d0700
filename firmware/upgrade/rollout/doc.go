// Package rollout decides how all members of a cluster get a new image, one after the other, while one of them always
// serves: the standbys first, then the role is handed to one of those, then the member that had it. When a member does not
// come to work with the new image, those that did go back to what they ran.
//
// It is pure: what the members say goes in ([Seen]), what to ask of them comes out ([Action]). It is level-triggered: what to do
// follows from the [Plan], which the driver keeps on disk, and from what is seen now. So a driver that was restarted, by a crash or by
// its own upgrade, goes on where it was; every action may be repeated.
package rollout

import (
	"time"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

// Limits in time. They begin anew when the driver is restarted.
const (
	// Settle is how long a member must have been healthy and in sync without a break to count as that.
	Settle = 5 * time.Second
	// Patience is how long everything may take that needs no restart: a cluster that is to become healthy, a transfer that stands still, a
	// hand-over that is refused.
	Patience = 2 * time.Minute
	// RestartPatience is how long a member may be away.
	RestartPatience = 6 * time.Minute
	// TrialPatience is how long a member may be there with an image that has not been kept. PID 1 ends trials after ten minutes.
	TrialPatience = 13 * time.Minute
	// Again is the time between two repetitions of an action.
	Again = 10 * time.Second
)

// Step is how far a member is.
type Step string

// Steps.
const (
	Waiting    Step = "waiting"    // its turn has not come
	Installing Step = "installing" // fetches the image and writes it into the idle slot
	Restarting Step = "restarting"
	Verifying  Step = "verifying" // runs the new image and has not shown yet that it works
	Done       Step = "done"
	Returning  Step = "returning" // is told to run its old image again
	Returned   Step = "returned"
	Left       Step = "left" // could not be brought back; Note says why
)

// Phase is where the whole is.
type Phase string

// Phases.
const (
	Forward   Phase = "upgrading"
	Back      Phase = "backing out"
	Upgraded  Phase = "upgraded"   // the end: all members run the new image
	BackedOut Phase = "backed out" // the end: all that could be reached run what they ran before
	Mixed     Phase = "mixed"      // the end: members run different images, see their notes
)

// Ended tells whether nothing more happens.
func (p Phase) Ended() bool { return p == Upgraded || p == BackedOut || p == Mixed }

// Plan is one upgrade of a cluster. The driver keeps it on disk; a change is durable before anything is done that follows from it.
type Plan struct {
	ID      string            `json:"id"`
	Driver  uint8             `json:"driver"` // member that drives
	Image   upgrade.Candidate `json:"image"`
	Force   bool              `json:"force,omitempty"` // also when it is older
	Phase   Phase             `json:"phase"`
	Reason  string            `json:"reason,omitempty"` // why it is backed out
	Now     string            `json:"now,omitempty"`    // what is being waited for, for people
	Members []Member          `json:"members"`
}

// Member is one member in a plan.
type Member struct {
	ID   uint8           `json:"id"`
	Name string          `json:"name"`
	From upgrade.Release `json:"from"` // what it ran at the beginning
	Step Step            `json:"step"`
	Boot string          `json:"boot,omitempty"` // its boot ID when it was told to restart
	Note string          `json:"note,omitempty"`
}

// Seen is what a member says of itself.
type Seen struct {
	Boot    string          `json:"boot"` // another one after every start of the machine
	Release upgrade.Release `json:"release"`
	Trial   bool            `json:"trial,omitempty"` // the image is not permanent yet
	Job     Job             `json:"job"`
	Healthy bool            `json:"healthy"` // ACTIVE or STANDBY, in sync, no problem
	Why     string          `json:"why,omitempty"`
	Holder  bool            `json:"holder,omitempty"`  // its gate may be open
	InSync  []uint8         `json:"in_sync,omitempty"` // the other members that it hears and that have all its connections
}

// Job is the transfer and installation of a plan's image on one member.
type Job struct {
	Plan      string `json:"plan,omitempty"`
	Done      int64  `json:"done,omitempty"` // bytes
	All       int64  `json:"all,omitempty"`
	Installed bool   `json:"installed,omitempty"` // the idle slot has the image and boots next
	Error     string `json:"error,omitempty"`
}

// Verb is what is asked of a member.
type Verb string

// Verbs.
const (
	// Install: fetch the image and put it into the idle slot, without restarting.
	Install Verb = "install"
	// Cancel: end that, and see that the idle slot does not boot next.
	Cancel Verb = "cancel"
	// Restart: restart if the boot ID is Boot and the role is elsewhere.
	Restart Verb = "restart"
	// Return: see that the other slot boots next, then as Restart.
	Return Verb = "return"
	// HandOver: give the role to member To.
	HandOver Verb = "hand over"
)

// Action is something to ask of a member.
type Action struct {
	Verb   Verb   `json:"verb"`
	Member uint8  `json:"member"`
	To     uint8  `json:"to,omitempty"`
	Boot   string `json:"boot,omitempty"`
}
