package statesyncd

import (
	"context"
	"errors"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
)

// Walks through the table.
const (
	// walkEvery is the time between two walks when nothing asks for one. The least timeout of a connection that traffic
	// keeps alive is 30 s; peers' copies live statesync.Grace longer.
	walkEvery = 15 * time.Second
	// walkPause between two pieces of about a hundred entries keeps a walk below a twentieth of a core.
	walkPause = 2 * time.Millisecond
	// fastPiece is how many entries change hands at a time when nothing pauses.
	fastPiece = 1000
	// walkApart is the least time between two walks, however many are asked for.
	walkApart = 100 * time.Millisecond
	// askedInARow is how many walks in a row may be asked for before they take turns with rests of their own length.
	askedInARow = 3
	// congested is the backlog of a peer at which a walk waits.
	congested = 4 << 20
)

// walked is a step of a walk. done is closed when the core has taken it in.
type walked struct {
	begin, end, failed bool
	mark               uint32
	entries            []statesync.Event
	done               chan struct{}
}

func (c *core) takeWalked(w walked) {
	switch now := c.now(); {
	case w.begin:
		c.machine.PassBegin(now)
	case w.failed:
		c.machine.PassFailed(now)
	case w.end:
		c.machine.PassEnd(now)
	default:
		c.machine.Chunk(now, w.mark, w.entries)
	}
	close(w.done)
}

// walk goes through the table again and again until ctx ends.
func (c *core) walk(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	asked := 0 // walks in a row that somebody asked for
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			asked = 0
		case <-c.walkNow:
			asked++
		}
		began := time.Now()
		err := c.pass(ctx)
		for errors.Is(err, errAnew) {
			c.step(ctx, walked{failed: true})
			err = c.pass(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.Options.Log.Error("a walk through the connection table broke off", "err", err)
			c.step(ctx, walked{failed: true})
		}
		// One after the other they take at most half of the time; but a member that joins is not kept waiting.
		rest := walkApart
		if asked > askedInARow {
			rest = max(rest, time.Since(began))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
		timer.Reset(walkEvery)
	}
}

// step hands a step to the core and waits until it was taken in.
func (c *core) step(ctx context.Context, w walked) bool {
	w.done = make(chan struct{})
	select {
	case c.walked <- w:
		<-w.done
		return true
	case <-ctx.Done():
	case <-c.ended:
	}
	return false
}

// pass is one walk: connections, then expectations.
func (c *core) pass(ctx context.Context) error {
	if !c.step(ctx, walked{begin: true}) {
		return ctx.Err()
	}
	for _, expects := range []bool{false, true} {
		if err := c.passOver(ctx, expects); err != nil {
			return err
		}
	}
	c.step(ctx, walked{end: true})
	return ctx.Err()
}

// passOver hands the pieces of one table to the core, which takes one in while the next is read. [statesync.Machine.Chunk]
// counts on it that no more are on their way.
func (c *core) passOver(ctx context.Context, expects bool) error {
	mark := c.machine.Clock() // the kernel makes a piece while the one before it is fetched
	d, err := ctnl.OpenDump(expects)
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(ctx)
	pieces, spare := make(chan walked), make(chan []statesync.Event, 2)
	var failed error // once pieces is closed
	go func() {
		defer close(pieces)
		failed = c.read(ctx, d, mark, pieces, spare)
	}()
	defer func() {
		cancel()
		for range pieces { // until the reader has ended
		}
	}()
	for w := range pieces {
		if !c.step(ctx, w) {
			return ctx.Err()
		}
		select {
		case spare <- w.entries:
		default:
		}
		if c.anew.Load() {
			return errAnew
		}
		if err := c.pause(ctx); err != nil {
			return err
		}
	}
	return failed
}

// read reads a table piece by piece. When it has to be fast, pieces are larger, so that fewer change hands.
func (c *core) read(ctx context.Context, d *ctnl.Dump, mark uint32, pieces chan<- walked, spare <-chan []statesync.Event) error {
	for done := false; !done; {
		w := walked{mark: mark}
		select {
		case b := <-spare:
			w.entries = b[:0]
		default:
			w.entries = make([]statesync.Event, 0, 256)
		}
		for first := true; !done && (first || c.fast.Load() && len(w.entries) < fastPiece); first = false {
			mark = c.machine.Clock()
			var err error
			if w.entries, done, err = d.Next(w.entries); err != nil {
				return err
			}
		}
		if len(w.entries) == 0 {
			continue
		}
		select {
		case pieces <- w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// errAnew ends a walk that only checks, because a peer waits for the next one.
var errAnew = errors.New("a walk begins anew for a member that joins")

// pause between two pieces.
func (c *core) pause(ctx context.Context) error {
	for {
		wait := walkPause
		if c.fast.Load() {
			if wait = 0; c.backlog.Load() > congested {
				wait = walkPause
			}
		}
		if wait == 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if !c.fast.Load() || c.backlog.Load() <= congested {
			return ctx.Err()
		}
	}
}
