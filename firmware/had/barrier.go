package had

import (
	"context"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/cluster"
)

// role tells state sync of a change of the role. It asks by itself ten times a second, so nothing is lost when it does not
// hear.
func role(o Options) func() {
	client := api.NewClient(o.RunDir)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = client.SyncRole(ctx)
	}
}

// barrier asks state sync whether the peers have every connection, before the role is handed over. Without an answer the
// role moves all the same, and the journal says what may be lost.
func barrier(o Options) func(context.Context, uint8) {
	client := api.NewClient(o.RunDir)
	return func(ctx context.Context, _ uint8) {
		switch r, err := client.SyncBarrier(ctx, cluster.BarrierPatience); {
		case err != nil:
			o.Log.Warn("the role moves without a word from state sync; new connections may break", "err", err)
		case !r.OK:
			o.Log.Warn("the role moves before every peer has every connection; the newest may break", "missing", strings.Join(r.Missing, ", "))
		default:
			o.Log.Info("the peers have every connection", "took", r.Took)
		}
	}
}
