package fetch

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// rev is a policy of a revision; other is one of the same revision with another content.
func rev(n uint64) artifact.Ref {
	return artifact.Ref{Revision: n, Digest: digest.FromString(strings.Repeat("x", int(n)))}
}

func other(n uint64) artifact.Ref {
	return artifact.Ref{Revision: n, Digest: digest.FromString(strings.Repeat("y", int(n)))}
}

func local(n uint64) Local { return Local{Ref: rev(n), Floor: n} }

// answer is what a source says, and whether the transfer from it works then.
type answer struct {
	head Head
	err  error
	take error
}

func has(r artifact.Ref) answer { return answer{head: Head{Ref: r}} }

var (
	errGone   = errors.New("unreachable")
	errDies   = errors.New("it died in mid-transfer")
	errSigned = errors.New("no valid signature of a pinned key")
)

func TestRecoveryOrder(t *testing.T) {
	unsynced := local(43)
	unsynced.Unsynced = []artifact.Ref{rev(43)}
	resumed := unsynced
	resumed.Resumed = true
	damaged := Local{Floor: 42}
	refused := local(42)
	refused.Refused = []digest.Digest{rev(43).Digest}
	unconfirmed := Local{Ref: rev(43), Floor: 42}
	for _, tt := range []struct {
		name    string
		local   Local
		active  []uint8
		sources map[Source]answer // the server is in the settings when it is here
		asked   []Source          // in order
		want    Kind
		ref     artifact.Ref
		reason  string
	}{
		// 1. An active peer first.
		{"peer newer", local(41), []uint8{2}, map[Source]answer{2: has(rev(42)), Server: has(rev(50))}, []Source{2}, Taken, rev(42), "from member 2"},
		{"peer the same", local(42), []uint8{2}, map[Source]answer{2: has(rev(42)), Server: has(rev(50))}, []Source{2}, Run, rev(42), "runs the same"},
		{"no local, peer has one", Local{}, []uint8{2}, map[Source]answer{2: has(rev(42))}, []Source{2}, Taken, rev(42), ""},
		{"local damaged, peer has that one", damaged, []uint8{2}, map[Source]answer{2: has(rev(42))}, []Source{2}, Taken, rev(42), ""},
		{"local damaged, peer older", damaged, []uint8{2}, map[Source]answer{2: has(rev(41))}, []Source{2}, Closed, artifact.Ref{}, "has had revision 42"},
		{"peer older: a replay", local(42), []uint8{2}, map[Source]answer{2: has(rev(41)), Server: has(rev(42))}, []Source{2, Server}, Run, rev(42), "refused"},
		{"peer rolled back what was never confirmed", unconfirmed, []uint8{2},
			map[Source]answer{2: {head: Head{Ref: rev(42), Refused: []digest.Digest{rev(43).Digest}}}}, []Source{2}, Taken, rev(42), ""},
		{"first peer is gone, second has it", local(41), []uint8{2, 3}, map[Source]answer{2: {err: errGone}, 3: has(rev(42))}, []Source{2, 3}, Taken, rev(42), "member 2: unreachable"},
		{"peer dies in mid-transfer, server has it", local(41), []uint8{2},
			map[Source]answer{2: {head: Head{Ref: rev(42)}, take: errDies}, Server: has(rev(42))}, []Source{2, Server}, Taken, rev(42), "died in mid-transfer"},
		{"peer dies in mid-transfer, no server", local(41), []uint8{2},
			map[Source]answer{2: {head: Head{Ref: rev(42)}, take: errDies}}, []Source{2}, Run, rev(41), "died in mid-transfer"},
		{"peer with a bad signature", local(41), []uint8{2},
			map[Source]answer{2: {head: Head{Ref: rev(42)}, take: errSigned}, Server: has(rev(41))}, []Source{2, Server}, Run, rev(41), "signature"},
		{"peer without a policy", local(41), []uint8{2}, map[Source]answer{2: {}}, []Source{2}, Run, rev(41), "has no policy"},
		// Divergence.
		{"a commit never reached the peer", unsynced, []uint8{2}, map[Source]answer{2: has(rev(42)), Server: has(rev(50))}, []Source{2}, Hold, rev(42), "never reached it"},
		{"the same, and the peer went on", unsynced, []uint8{2}, map[Source]answer{2: has(other(44))}, []Source{2}, Hold, other(44), "never reached it"},
		{"the peer had it after all", unsynced, []uint8{2}, map[Source]answer{2: {head: Head{Ref: rev(44), Known: []artifact.Ref{rev(43), rev(44)}}}}, []Source{2}, Taken, rev(44), ""},
		{"the operator resumed", resumed, []uint8{2}, map[Source]answer{2: has(rev(42))}, []Source{2}, Taken, rev(42), ""},
		{"unsynced, nobody active", unsynced, nil, map[Source]answer{Server: has(rev(42))}, []Source{Server}, Run, rev(43), "no member is active"},
		// 2. No peer: the newer of local and server.
		{"server newer", local(41), nil, map[Source]answer{Server: has(rev(42))}, []Source{Server}, Taken, rev(42), "from the management server"},
		{"server the same", local(42), nil, map[Source]answer{Server: has(rev(42))}, []Source{Server}, Run, rev(42), "has the same"},
		{"server older", local(42), nil, map[Source]answer{Server: has(rev(41))}, []Source{Server}, Run, rev(42), "older"},
		{"server has another of the same revision", local(42), nil, map[Source]answer{Server: has(other(42))}, []Source{Server}, Run, rev(42), "another revision 42"},
		{"server newer with a bad signature", local(41), nil, map[Source]answer{Server: {head: Head{Ref: rev(42)}, take: errSigned}}, []Source{Server}, Run, rev(41), "signature"},
		{"server gone", local(41), nil, map[Source]answer{Server: {err: errGone}}, []Source{Server}, Run, rev(41), "unreachable"},
		{"server has what was rolled back here", refused, nil, map[Source]answer{Server: has(rev(43))}, []Source{Server}, Run, rev(42), "rolled back here"},
		{"no server in the settings", local(41), nil, nil, nil, Run, rev(41), "no member is active"},
		// 3. No local policy: the server's.
		{"no local, server has one", Local{}, nil, map[Source]answer{Server: has(rev(42))}, []Source{Server}, Taken, rev(42), ""},
		{"no local, the server's is a replay", damaged, nil, map[Source]answer{Server: has(rev(41))}, []Source{Server}, Closed, artifact.Ref{}, "older"},
		// 4. Nothing.
		{"nothing at all", Local{}, nil, nil, nil, Closed, artifact.Ref{}, "no usable policy"},
		{"server empty", Local{}, nil, map[Source]answer{Server: {}}, []Source{Server}, Closed, artifact.Ref{}, "has no policy"},
		{"server gone, no local", Local{}, nil, map[Source]answer{Server: {err: errGone}}, []Source{Server}, Closed, artifact.Ref{}, "unreachable"},
		{"all signatures bad", Local{}, []uint8{2}, map[Source]answer{2: {head: Head{Ref: rev(2)}, take: errSigned}, Server: {head: Head{Ref: rev(2)}, take: errSigned}},
			[]Source{2, Server}, Closed, artifact.Ref{}, "signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Machine
			var asked []Source
			_, server := tt.sources[Server]
			act := m.Start(tt.local, tt.active, server)
			for range 20 {
				switch act.Kind {
				case Ask:
					asked = append(asked, act.From)
					a := tt.sources[act.From]
					act = m.Answered(a.head, a.err)
					continue
				case Take:
					act = m.Done(tt.sources[act.From].take)
					continue
				}
				break
			}
			if act.Kind != tt.want || act.Ref != tt.ref {
				t.Errorf("kind %d, %v; want %d, %v: %q", act.Kind, act.Ref, tt.want, tt.ref, act.Reasons)
			}
			if got, want := sourceNames(asked), sourceNames(tt.asked); got != want {
				t.Errorf("asked %s, want %s", got, want)
			}
			if reasons := strings.Join(act.Reasons, "; "); !strings.Contains(reasons, tt.reason) {
				t.Errorf("reasons %q, want %q in them", reasons, tt.reason)
			}
			if (act.Kind == Hold) != (len(act.Unsynced) > 0) {
				t.Errorf("unsynced: %v", act.Unsynced)
			}
		})
	}
}

func sourceNames(s []Source) string {
	var names []string
	for _, x := range s {
		names = append(names, x.String())
	}
	return strings.Join(names, ", ")
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for attempt := 1; attempt < 100; attempt++ {
		low, high := Backoff(attempt, 0), Backoff(attempt, 0.999999)
		if low < FirstRetry/2 || high > LastRetry || low < last || high < low {
			t.Errorf("attempt %d: between %v and %v, before %v", attempt, low, high, last)
		}
		last = low
	}
	if last != LastRetry/2 {
		t.Errorf("it ends at %v", last)
	}
}
