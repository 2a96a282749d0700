package api

import (
	"context"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// CaptureQuery asks gatewayd's GET /v1/capture for frames of one interface.
type CaptureQuery struct {
	Interface   string        // name in the configuration, or the device's
	Filter      string        // in tcpdump's syntax; empty: everything
	Count       uint64        // ends after so many frames; 0: does not
	For         time.Duration // ends after that; 0: MaxCapture
	Size        uint64        // ends before the answer is longer than that, in bytes; 0: does not
	Snaplen     uint32        // bytes of a frame that are kept; 0: all
	Promiscuous bool          // frames to others, too
	Except      netip.AddrPort
}

const (
	// MaxCapture is how long a capture lasts at most.
	MaxCapture = 24 * time.Hour
	// MaxCaptures is how many there are at once at most.
	MaxCaptures = 4
)

// Capture gives frames as they pass, in the format of firmware/capture/pcapng, until the query's end or that of ctx. Except of the query is a TCP connection
// of a remote address and port that is left out: the one that carries the capture away. The caller closes the answer.
func (c *Client) Capture(ctx context.Context, q CaptureQuery) (io.ReadCloser, error) {
	return c.Open(ctx, GatewaydSocket, "/v1/capture?"+q.values().Encode())
}

func (q CaptureQuery) values() url.Values {
	v := url.Values{"interface": {q.Interface}}
	for name, n := range map[string]uint64{"count": q.Count, "size": q.Size, "snaplen": uint64(q.Snaplen)} {
		if n > 0 {
			v.Set(name, strconv.FormatUint(n, 10))
		}
	}
	if q.Filter != "" {
		v.Set("filter", q.Filter)
	}
	if q.For > 0 {
		v.Set("for", q.For.String())
	}
	if q.Promiscuous {
		v.Set("promiscuous", "1")
	}
	if q.Except.IsValid() {
		v.Set("except", q.Except.String())
	}
	return v
}

// ParseCaptureQuery reads what Capture sends.
func ParseCaptureQuery(v url.Values) (q CaptureQuery, err error) {
	q = CaptureQuery{Interface: v.Get("interface"), Filter: v.Get("filter"), Promiscuous: v.Get("promiscuous") == "1"}
	number := func(name string, bits int) (n uint64) {
		if text := v.Get(name); text != "" && err == nil {
			n, err = strconv.ParseUint(text, 10, bits)
		}
		return n
	}
	q.Count, q.Size, q.Snaplen = number("count", 64), number("size", 64), uint32(number("snaplen", 32))
	if text := v.Get("for"); text != "" && err == nil {
		q.For, err = time.ParseDuration(text)
	}
	if text := v.Get("except"); text != "" && err == nil {
		q.Except, err = netip.ParseAddrPort(text)
	}
	return q, err
}
