package secrets

import (
	"context"
	"time"

	"github.com/twinkeep/twinkeep/init/vault"
)

// every is how soon a file that was changed in a shell is in the vault.
const every = 2 * time.Second

// Watch keeps the vault as its files are, until ctx ends, for changes that nobody tells of. say is told of errors, once each.
func Watch(ctx context.Context, say func(error)) {
	y := vault.Syncer{Place: vault.Box}
	last := ""
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_, err := y.Sync()
		if now := text(err); now != last {
			if last = now; err != nil {
				say(err)
			}
		}
		select {
		case <-ctx.Done():
			y.Sync() // what was changed since
			return
		case <-tick.C:
		}
	}
}
