package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

func ref(n uint64) artifact.Ref {
	return artifact.Ref{Revision: n, Digest: digest.FromString(fmt.Sprint(n))}
}

func transaction(id byte, revision uint64) Transaction {
	return Transaction{ID: strings.Repeat(fmt.Sprintf("%02x", id), 16), Policy: ref(revision), Coordinator: 1, Members: []uint8{1, 2}, Operator: "admin"}
}

var start = Instant{Boot: "a", At: time.Hour}

func TestRecordPrepare(t *testing.T) {
	one, two := transaction(1, 43), transaction(2, 43)
	confirmed := one
	confirmed.Confirm = 5 * time.Minute
	again := one
	again.Again = true
	prepared, err := Record{}.Prepare(one, Facts{Current: ref(42), Floor: 42}, start)
	if err != nil {
		t.Fatal(err)
	}
	pending, err := must(Record{}.Prepare(confirmed, Facts{Current: ref(42), Floor: 42}, start)).Switch(one.ID, ref(42), start)
	if err != nil {
		t.Fatal(err)
	}
	facts := Facts{Current: ref(42), Floor: 42}
	for _, tt := range []struct {
		name string
		r    Record
		tx   Transaction
		f    Facts
		want string // of the error; empty: none
	}{
		{"newer", Record{}, one, facts, ""},
		{"the first policy", Record{}, one, Facts{}, ""},
		{"asked again", prepared, one, facts, ""},
		{"what runs already", Record{}, one, Facts{Current: ref(43), Floor: 43}, ""},
		{"two operators", prepared, two, facts, "by admin through member 1 is under way"},
		{"before the confirmation", pending, two, facts, "awaits its confirmation"},
		{"older", Record{}, transaction(1, 41), facts, "not newer"},
		{"same revision, other content", Record{}, Transaction{ID: one.ID, Policy: artifact.Ref{Revision: 42, Digest: ref(1).Digest}}, facts, "not newer"},
		{"replay after a roll-back", Record{}, transaction(1, 43), Facts{Current: ref(42), Floor: 44}, "replay"},
		{"refused before", Record{}, one, Facts{Current: ref(42), Floor: 42, Refused: "not confirmed"}, "--again"},
		{"refused before, again", Record{}, again, Facts{Current: ref(42), Floor: 42, Refused: "not confirmed"}, ""},
		{"given up before", Record{}.Abort(one.ID), one, facts, "has ended here"},
	} {
		r, err := tt.r.Prepare(tt.tx, tt.f, start)
		if tt.want == "" && (err != nil || r.Prepared == nil || r.Prepared.ID != tt.tx.ID) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func must(r Record, err error) Record {
	if err != nil {
		panic(err)
	}
	return r
}

func TestRecordLife(t *testing.T) {
	tx := transaction(1, 43)
	tx.Confirm = 5 * time.Minute
	prepared := must(Record{}.Prepare(tx, Facts{Current: ref(42)}, start))
	if _, err := (Record{}).Switch(tx.ID, ref(42), start); err == nil {
		t.Error("switched without a promise")
	}
	pending := must(prepared.Switch(tx.ID, ref(42), start))
	if pending.Prepared != nil || pending.Pending.Previous != ref(42) || pending.Fate(tx.ID) != Committed {
		t.Errorf("%+v", pending)
	}
	if r := must(pending.Switch(tx.ID, ref(42), start)); r.Pending == nil {
		t.Error("the second switch, after a lost answer")
	}
	if r := pending.Abort(tx.ID); r.Pending == nil || r.Fate(tx.ID) != Committed {
		t.Errorf("a late abort undid it: %+v", r)
	}
	confirmed := must(pending.Confirm(tx.ID))
	if confirmed.Pending != nil || confirmed.Fate(tx.ID) != Confirmed || must(confirmed.Confirm(tx.ID)).Fate(tx.ID) != Confirmed {
		t.Errorf("%+v", confirmed)
	}
	if _, err := confirmed.RollBack(tx.ID); err == nil {
		t.Error("rolled back after the confirmation")
	}
	back := must(pending.RollBack(tx.ID))
	if _, err := back.Confirm(tx.ID); err == nil || back.Fate(tx.ID) != RolledBack {
		t.Error("confirmed after the roll-back")
	}
	decided := must(prepared.Decide(tx.ID))
	if decided.Abort(tx.ID).Prepared == nil {
		t.Error("an abort after the decision")
	}
	for _, tt := range []struct {
		name  string
		r     Record
		now   Instant
		asked bool
		want  Due
	}{
		{"prepared", prepared, start, false, Nothing},
		{"prepared, asks", prepared, start, true, AskPrepared},
		{"lease over", prepared, start.after(PrepareLease), false, AskPrepared},
		{"another boot", prepared, Instant{Boot: "b"}, false, AskPrepared},
		{"decided, not switched", decided, start, false, Finish},
		{"pending", pending, start, true, Nothing},
		{"time to confirm over", pending, start.after(5 * time.Minute), false, AskConfirmed},
		{"pending, another boot", pending, Instant{Boot: "b", At: start.At}, false, RollBackNow},
		{"confirmed", confirmed, start.after(time.Hour), true, Nothing},
	} {
		if got := tt.r.Due(tt.now, tt.asked); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		name  string
		fates map[uint8]Fate
		self  uint8
		now   Instant
		want  Fate
	}{
		{"another has switched", map[uint8]Fate{3: Committed}, 2, start, Committed},
		{"confirmed already", map[uint8]Fate{1: Confirmed}, 2, start, Committed},
		{"the coordinator forgot", map[uint8]Fate{1: Unknown, 3: Undecided}, 2, start, Aborted},
		{"the coordinator is at it", map[uint8]Fate{1: Undecided}, 2, start, Undecided},
		{"given up", map[uint8]Fate{3: Aborted}, 2, start, Aborted},
		{"nobody answers", nil, 2, start, Undecided},
		{"nobody answers, the lease is over", nil, 2, start.after(PrepareLease), Aborted},
		{"the coordinator itself, undecided", map[uint8]Fate{2: Undecided}, 1, start, Aborted},
		{"the coordinator itself, another switched", map[uint8]Fate{2: Committed}, 1, start, Committed},
	} {
		if got := prepared.Resolve(tt.fates, tt.self, tt.now); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	var r Record
	for i := range 100 {
		r = r.Abort(transaction(byte(i), 1).ID)
	}
	if len(r.Decided) != keepDecisions || r.Fate(transaction(99, 1).ID) != Aborted {
		t.Errorf("%d decisions are kept", len(r.Decided))
	}
}

// TestCoordinator plays random answers in random order.
func TestCoordinator(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	installs := 0
	for round := range 20000 {
		members := []uint8{1, 2, 3, 4}[:1+rng.IntN(4)]
		tx := transaction(1, 43)
		tx.Members, tx.Coordinator = members, members[rng.IntN(len(members))]
		partial := rng.IntN(2) == 0
		decideErr := error(nil)
		if rng.IntN(5) == 0 {
			decideErr = errors.New("disk full")
		}
		fails := map[uint8]bool{}
		for _, m := range members {
			fails[m] = rng.IntN(4) == 0
		}
		c, open := NewCoordinator(tx, partial)
		prepared, switched, aborted := map[uint8]bool{}, map[uint8]bool{}, map[uint8]bool{}
		decided, first, later, failed := false, true, false, 0
		for len(open) > 0 {
			if first && (len(open) != 1 || open[0] != Command{DoPrepare, members[0]}) {
				t.Fatalf("round %d: it begins with %v", round, open)
			}
			first = false
			i := rng.IntN(len(open))
			cmd := open[i]
			open = slices.Delete(open, i, i+1)
			switch cmd.Step {
			case DoPrepare:
				var err error
				if fails[cmd.Member] {
					err = errors.New("no")
				} else {
					prepared[cmd.Member] = true
				}
				open = append(open, c.Prepared(cmd.Member, err, []State{Rejected, Unreachable, Busy}[rng.IntN(3)])...)
			case DoDecide:
				if cmd.Member != tx.Coordinator || !prepared[cmd.Member] || !partial && len(prepared) != len(members) {
					t.Fatalf("round %d: decided with %v prepared of %v", round, prepared, members)
				}
				decided = decideErr == nil
				open = append(open, c.Decided(decideErr)...)
			case DoSwitch:
				if !decided || !prepared[cmd.Member] || switched[cmd.Member] {
					t.Fatalf("round %d: switch of %d", round, cmd.Member)
				}
				switched[cmd.Member] = true
				switch rng.IntN(8) {
				case 0:
					c.Switched(cmd.Member, errors.New("no"), []State{Busy, Unreachable}[rng.IntN(2)])
					later = true
					failed++
				case 1:
					c.Switched(cmd.Member, errors.New("no"), Rejected)
					failed++
				default:
					c.Switched(cmd.Member, nil, "")
				}
			case DoAbort:
				if decided || !prepared[cmd.Member] {
					t.Fatalf("round %d: abort of %d", round, cmd.Member)
				}
				aborted[cmd.Member] = true
			}
		}
		for m := range prepared {
			if switched[m] == aborted[m] {
				t.Fatalf("round %d: member %d is left prepared", round, m)
			}
		}
		r := c.Report()
		if r.Installed != (decided && failed < len(switched)) || r.Decided != decided || r.Open() != later || len(r.Members) != len(members) || len(r.Missed()) != len(members)-len(switched)+failed {
			t.Fatalf("round %d: %v", round, r)
		}
		if decided {
			installs++
		}
	}
	if installs < 5000 {
		t.Errorf("only %d installs went through", installs)
	}
}

func FuzzTransaction(f *testing.F) {
	data, err := json.Marshal(transaction(1, 43))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var tx Transaction
		if peerapi.Decode(bytes.NewReader(data), &tx) != nil || tx.check() != nil {
			return
		}
		r, err := Record{}.Prepare(tx, Facts{Current: ref(42), Floor: 42}, start)
		if err == nil && tx.Policy.Revision <= 42 && tx.Policy.Digest != ref(42).Digest {
			t.Errorf("promised: %+v", tx)
		}
		if c, commands := NewCoordinator(tx, false); len(commands) != 1 || len(c.Report().Members) != len(tx.Members) {
			t.Errorf("%v", commands)
		}
		_ = r
	})
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte(`{"id":"` + transaction(1, 1).ID + `","missed":["member 2"],"why":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o order
		if peerapi.Decode(bytes.NewReader(data), &o) == nil && o.check() == nil && (len(o.ID) != 32 || len(o.Missed) > peerapi.MaxMember) {
			t.Errorf("%+v", o)
		}
	})
}

// TestClock: it goes on, and belongs to this boot.
func TestClock(t *testing.T) {
	a := Clock()
	time.Sleep(2 * time.Millisecond)
	b := Clock()
	if a.Boot == "" || a.Boot != b.Boot || b.At-a.At < 2*time.Millisecond {
		t.Errorf("%+v, then %+v", a, b)
	}
}
