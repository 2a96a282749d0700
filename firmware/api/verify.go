package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

// VerifyResult is what became of a step of GET /v1/verify.
type VerifyResult string

// Results of steps. What is skipped does not apply here: it counts for nothing.
const (
	VerifyOK      VerifyResult = "ok"
	VerifyFailed  VerifyResult = "failed"
	VerifyUnknown VerifyResult = "unknown" // the evidence could not be had, or is not enough
	VerifySkipped VerifyResult = "skipped"
)

// Verification is gatewayd's GET /v1/verify?for=5s: the response after a failover, walked through.
type Verification struct {
	Cluster string          `json:"cluster"`
	Member  string          `json:"member"` // who asked
	Master  string          `json:"master,omitempty"`
	Term    uint64          `json:"term"`
	Watched member.Duration `json:"watched"` // for how long traffic was watched
	// Result is failed when a step failed, else unknown when one is unknown, else ok.
	Result VerifyResult `json:"result"`
	Steps  []VerifyStep `json:"steps"`
}

// VerifyStep is one step.
type VerifyStep struct {
	Name     string       `json:"name"`
	Result   VerifyResult `json:"result"`
	Evidence []string     `json:"evidence"`       // a sentence each
	Next     []string     `json:"next,omitempty"` // what to do, when it is not ok
}

// Times of a verification.
const (
	DefaultWatch = 5 * time.Second
	MaxWatch     = 10 * time.Minute
)

// MemberEvidence is what one member says of itself for a verification.
type MemberEvidence struct {
	Status  member.Status     `json:"status"` // when the watch ended
	Term    uint64            `json:"term"`   // when it began
	Routes  RouteTable        `json:"routes"`
	NAT     NATStatus         `json:"nat"`
	Frames  []FrameCount      `json:"frames"`
	Traffic TrafficComparison `json:"traffic"`
	Errors  map[string]string `json:"errors,omitempty"` // what could not be had, by the name of its field
}

// NATStatus compares the NAT entries of the configuration with the kernel.
type NATStatus struct {
	Entries int      `json:"entries"`           // of the configuration
	Missing []string `json:"missing,omitempty"` // parts of the ruleset that the kernel does not have
}

// FrameCount is what was seen of the VIPs of one interface, as a packet socket sees it: before the gate on the way in, behind it
// on the way out.
type FrameCount struct {
	Interface string       `json:"interface"`
	VIPs      []netip.Addr `json:"vips"`
	In        uint64       `json:"in"`        // unicast, for the shared MAC or a VIP
	Out       uint64       `json:"out"`       // unicast, from the shared MAC or a VIP
	Neighbour uint64       `json:"neighbour"` // ARP, neighbour discovery and broadcasts for a VIP, both ways
	Error     string       `json:"error,omitempty"`
}

// Verify walks through the response after a failover, from this member. It takes watch and a few seconds; 0 means DefaultWatch.
func (c *Client) Verify(ctx context.Context, watch time.Duration) (Verification, error) {
	if watch == 0 {
		watch = DefaultWatch
	}
	var v Verification
	err := c.callFor(ctx, watch+3*Timeout, GatewaydSocket, http.MethodGet, "/v1/verify?"+timeQuery("for", watch), nil, &v)
	return v, err
}
