package vswitch

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// bench is a switch with three stations made of code.
type bench struct {
	*Switch
	t    *testing.T
	conn map[string]net.Conn
	got  map[string]chan []byte
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	cfg.Name, cfg.Seed = "lan", 1
	b := &bench{Switch: New(cfg), t: t, conn: map[string]net.Conn{}, got: map[string]chan []byte{}}
	for _, name := range []string{"a", "b", "c"} {
		here, there := net.Pipe()
		if err := b.AddPort(name); err != nil {
			t.Fatal(err)
		}
		if err := b.Attach(name, there); err != nil {
			t.Fatal(err)
		}
		b.conn[name], b.got[name] = here, make(chan []byte, 10000)
	}
	return b
}

// listen reads what the switch sends to a station.
func (b *bench) listen(names ...string) {
	for _, n := range names {
		go func() {
			for {
				f, err := ReadFrame(b.conn[n])
				if err != nil {
					return
				}
				b.got[n] <- f
			}
		}()
	}
}

func (b *bench) send(port string, f []byte) {
	b.t.Helper()
	if err := WriteFrame(b.conn[port], f); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) rules(port string, r Rules) {
	b.t.Helper()
	if err := b.SetRules(port, r); err != nil {
		b.t.Fatal(err)
	}
}

// counts says how many frames each station got.
func (b *bench) counts() map[string]int {
	synctest.Wait()
	out := map[string]int{}
	for n, c := range b.got {
		out[n] = len(c)
	}
	return out
}

func TestSwitchRules(t *testing.T) {
	for _, tt := range []struct {
		name  string
		port  string
		rules Rules
		want  map[string]int // after a sends one broadcast
		lost  map[Loss]uint64
	}{
		{"none", "b", Rules{}, map[string]int{"a": 0, "b": 1, "c": 1}, map[Loss]uint64{}},
		{"cut out", "b", Rules{Out: Impair{Cut: true}}, map[string]int{"a": 0, "b": 0, "c": 1}, map[Loss]uint64{LostCut: 1}},
		{"cut in does not touch the way out", "b", Rules{In: Impair{Cut: true}}, map[string]int{"a": 0, "b": 1, "c": 1}, map[Loss]uint64{}},
		{"cut in", "a", Rules{In: Impair{Cut: true}}, map[string]int{"a": 0, "b": 0, "c": 0}, map[Loss]uint64{LostCut: 1}},
		{"duplicate in", "a", Rules{In: Impair{Duplicate: 1}}, map[string]int{"a": 0, "b": 2, "c": 2}, map[Loss]uint64{}},
		{"mirror of what comes in", "a", Rules{Mirror: "c"}, map[string]int{"a": 0, "b": 1, "c": 2}, map[Loss]uint64{}},
		{"mirror of what goes out", "b", Rules{Mirror: "c"}, map[string]int{"a": 0, "b": 1, "c": 2}, map[Loss]uint64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{})
				defer b.Close()
				b.listen("a", "b", "c")
				b.rules(tt.port, tt.rules)
				b.send("a", frame(bcast, macA))
				if diff := cmp.Diff(tt.want, b.counts()); diff != "" {
					t.Error(diff)
				}
				st, err := b.Stats(tt.port)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.lost, st.Lost); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestSwitchDelayKeepsOrder(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules func(Impair) Rules
		port  string
	}{
		{"in", func(i Impair) Rules { return Rules{In: i} }, "a"},
		{"out", func(i Impair) Rules { return Rules{Out: i} }, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{})
				defer b.Close()
				b.listen("a", "b", "c")
				b.rules(tt.port, tt.rules(Impair{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond}))
				const n = 50
				for i := range n {
					f := frame(bcast, macA)
					f[20] = byte(i)
					b.send("a", f)
				}
				time.Sleep(19 * time.Millisecond)
				if got := b.counts()["b"]; got != 0 {
					t.Errorf("%d frames arrived before the delay", got)
				}
				time.Sleep(31 * time.Millisecond)
				if got := b.counts()["b"]; got != n {
					t.Fatalf("%d of %d frames arrived", got, n)
				}
				for i := range n {
					if f := <-b.got["b"]; f[20] != byte(i) {
						t.Fatalf("frame %d arrived as number %d", f[20], i)
					}
				}
			})
		})
	}
}

func TestSwitchReorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.Close()
		b.listen("a", "b", "c")
		send := func(n byte) {
			f := frame(bcast, macA)
			f[20] = n
			b.send("a", f)
			synctest.Wait()
		}
		b.rules("a", Rules{In: Impair{Reorder: 1}})
		send(1)
		b.rules("a", Rules{})
		send(2)
		time.Sleep(10 * time.Millisecond)
		b.counts()
		if first, second := (<-b.got["b"])[20], (<-b.got["b"])[20]; first != 2 || second != 1 {
			t.Errorf("order %d, %d: want 2, 1", first, second)
		}
	})
}

func TestSlowPortBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Queue: 8})
		defer b.Close()
		b.listen("a", "b") // c never reads
		for range 100 {
			b.send("a", frame(bcast, macA))
			synctest.Wait()
		}
		if got := b.counts()["b"]; got != 100 {
			t.Errorf("b got %d of 100 frames", got)
		}
		st, _ := b.Stats("c")
		if want := uint64(100 - 8 - 1); st.Lost[LostQueue] != want { // 8 wait, one is being written
			t.Errorf("%d frames lost at c, want %d", st.Lost[LostQueue], want)
		}
	})
}

func TestMoveIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		defer b.Close()
		b.listen("a", "b", "c")
		b.send("a", frame(bcast, vmac))
		synctest.Wait()
		b.send("b", frame(bcast, vmac))
		synctest.Wait()
		b.send("c", frame(vmac, macC))
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 2, "c": 2}, b.counts()); diff != "" {
			t.Error(diff)
		}
		var moves []Event
		for _, e := range b.Events() {
			if e.Kind == "move" {
				e.Time = time.Time{}
				moves = append(moves, e)
			}
		}
		want := []Event{{Port: "b", Kind: "move", MAC: vmac, From: "a", Text: vmac.String() + " moved from port a to port b"}}
		if diff := cmp.Diff(want, moves); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCaptureAndHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		b := newBench(t, Config{OnFrame: func(f Frame) {
			if f.Port == "b" {
				seen = append(seen, f.Switch+"/"+f.Port+" "+f.Dir.String())
			}
		}})
		defer b.Close()
		b.listen("a", "b", "c")
		var file bytes.Buffer
		if err := b.Capture("b", &file); err != nil {
			t.Fatal(err)
		}
		b.send("a", frame(bcast, macA))
		synctest.Wait()
		b.send("b", frame(macA, macB))
		b.counts()
		frames, err := capture.Read(&file)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range frames {
			got = append(got, f.Dir.String()+" "+ether.Src(f.Data).String())
		}
		if diff := cmp.Diff([]string{"out " + macA.String(), "in " + macB.String()}, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"lan/b out", "lan/b in"}, seen); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStationComesBack(t *testing.T) {
	s := New(Config{Name: "wan"})
	defer s.Close()
	if err := s.AddPort("a"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a")
	if err := s.Listen("a", path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		waitUp(t, s, true)
		conn.Close()
		waitUp(t, s, false)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	waitUp(t, s, true)
	if _, err := conn.Write([]byte{0xff, 0, 0, 0}); err != nil { // out of step
		t.Fatal(err)
	}
	waitUp(t, s, false)
}

func waitUp(t *testing.T, s *Switch, want bool) {
	t.Helper()
	for range 500 {
		st, err := s.Stats("a")
		if err != nil {
			t.Fatal(err)
		}
		if st.Up == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("port is not up=%v after 5 s", want)
}

func TestErrorsNameTheCause(t *testing.T) {
	b := newBench(t, Config{})
	defer b.Close()
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"unknown port", b.SetRules("z", Rules{})},
		{"mirror to itself", b.SetRules("a", Rules{Mirror: "a"})},
		{"port twice", b.AddPort("a")},
		{"two stations", b.Attach("a", nil)},
		{"rule out of range", b.SetRules("a", Rules{In: Impair{Drop: 2}})},
	} {
		if tt.err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if _, err := b.Stats("z"); !errors.Is(err, ErrPort) {
		t.Errorf("error %v, want ErrPort", err)
	}
}
