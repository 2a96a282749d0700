package had

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// syncWatch knows what was last said about the state being in sync. Until something was, a member beside which state sync
// runs is not in sync, and any other is: nobody replicates there.
type syncWatch struct {
	mu     sync.Mutex
	at     time.Time // of the last word, zero if there was none; its monotonic reading counts
	last   api.SyncReport
	silent bool
}

// maxSyncText bounds the text of a report.
const maxSyncText = 200

func (w *syncWatch) report(m *member.Member, r *http.Request) (member.Reply, error) {
	var s api.SyncReport
	if err := body(r, &s); err != nil {
		return member.Reply{}, err
	}
	if len(s.Text) > maxSyncText {
		return member.Reply{}, &api.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("a text of %d bytes, at most %d", len(s.Text), maxSyncText)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.last, w.silent = time.Now(), s, false
	return m.Sync(s.InSync, s.Text)
}

// watch takes silence for not in sync, until ctx ends. A member that starts anew begins with what was last said; expected
// says that something will be.
func (w *syncWatch) watch(ctx context.Context, m *member.Member, expected bool) {
	w.mu.Lock()
	w.silent = false
	switch {
	case !w.at.IsZero():
		m.Sync(w.last.InSync, w.last.Text) // fails only when the member is gone
	case expected:
		m.Sync(false, "state sync has not spoken since the start")
	}
	w.mu.Unlock()
	t := time.NewTicker(api.SyncSilence / 10)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		w.mu.Lock()
		if !w.at.IsZero() && !w.silent && time.Since(w.at) > api.SyncSilence {
			w.silent = true
			m.Sync(false, fmt.Sprintf("the state replication has not reported for %v", api.SyncSilence))
		}
		w.mu.Unlock()
	}
}
