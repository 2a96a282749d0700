package apid

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/firmware/subnet"
)

// Limits of requests, a source and all together. One of a fleet's programs asks a few times a minute.
const (
	burst      = 60
	everyOne   = 50 * time.Millisecond // 20 requests a second
	freeWrong  = 10                    // wrong tokens
	everyWrong = 6 * time.Second
	maxSources = 1024 // that are remembered
)

// bucket holds what a source may still do; it fills by one each interval.
type bucket struct {
	left int
	last time.Duration
}

func (b *bucket) take(now, every time.Duration, most int) bool {
	if n := int((now - b.last) / every); n > 0 {
		b.left, b.last = min(most, b.left+n), b.last+time.Duration(n)*every
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// limiter counts by source. It is pure: now is any clock that never goes back.
type limiter struct {
	sources map[netip.Prefix]*visits
}

type visits struct {
	requests, wrong bucket
	last            time.Duration
}

func newLimiter() *limiter { return &limiter{sources: make(map[netip.Prefix]*visits)} }

func (l *limiter) of(now time.Duration, a netip.Addr) *visits {
	source := subnet.Of(a)
	v := l.sources[source]
	if v == nil {
		if len(l.sources) >= maxSources {
			l.forgetOldest()
		}
		v = &visits{requests: bucket{burst, now}, wrong: bucket{freeWrong, now}}
		l.sources[source] = v
	}
	v.last = now
	return v
}

func (l *limiter) forgetOldest() {
	var oldest netip.Prefix
	for s, v := range l.sources {
		if o := l.sources[oldest]; o == nil || v.last < o.last {
			oldest = s
		}
	}
	delete(l.sources, oldest)
}

// request takes a request with a good token; false: there are too many.
func (l *limiter) request(now time.Duration, a netip.Addr) bool {
	return l.of(now, a).requests.take(now, everyOne, burst)
}

// wrong takes one without; false: there are too many. It does not touch those with a good one: they may come from behind
// the same address.
func (l *limiter) wrong(now time.Duration, a netip.Addr) bool {
	return l.of(now, a).wrong.take(now, everyWrong, freeWrong)
}
