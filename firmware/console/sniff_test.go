package console

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

var arpFrame, _ = hex.DecodeString("100000000507020000000001" + "0806" + "00010800060400010200000000010a0100050000000000000a010001")

// serveCapture is gatewayd with two frames and a loss. A filter "for ever" goes on until the reader is gone, "broken" ends in the middle of a block.
func (f *fakes) serveCapture(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseCaptureQuery(r.URL.Query())
	if err != nil || q.Filter == "bad" {
		api.Reply(w, nil, &api.Error{Status: 400, Message: "filter: at \"bad\" (character 1): not known", Hint: "filters are tcpdump's"})
		return
	}
	query := r.URL.Query()
	if query.Get("size") != "" {
		query.Set("size", "some") // it depends on the room on this disk
	}
	f.called("capture " + query.Encode())
	var b bytes.Buffer
	p, _ := pcapng.NewWriter(&b, pcapng.Description{Interface: q.Interface})
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.Local)
	p.Packet(pcapng.Packet{Time: at, Direction: pcapng.Inbound, Length: 60, Data: arpFrame})
	p.Statistics(pcapng.Statistics{Time: at, Received: 4, Dropped: 3})
	p.Packet(pcapng.Packet{Time: at, Direction: pcapng.Outbound, Length: 60, Data: arpFrame})
	if q.Filter == "broken" {
		w.Write(b.Bytes()[:b.Len()-9])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	if q.Filter != "for ever" {
		p.Statistics(pcapng.Statistics{Time: at, Received: 5, Dropped: 3, Comment: "the interface is gone"})
	}
	w.Write(b.Bytes())
	if q.Filter == "for ever" {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		f.called("capture ended")
	}
}

func sniff(t *testing.T, opts Options, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, said bytes.Buffer
	root := NewCommand(opts)
	root.SetOut(&out)
	root.SetErr(&said)
	root.SetArgs(Normalize(root, append([]string{"sniff"}, args...)))
	err = root.ExecuteContext(t.Context())
	return out.String(), said.String(), err
}

// TestSniff: a line for each frame, and what was lost beside them.
func TestSniff(t *testing.T) {
	f := newFakes(t)
	out, said, err := sniff(t, Options{Run: f.run}, "lan", "host", "10.1.0.1", "and", "not", "arp", "-c", "5", "--for", "30s", "--snaplen=96")
	const want = "03:04:05.678901 in  ARP, Request who-has 10.1.0.1 tell 10.1.0.5, length 46\n03:04:05.678901 out ARP, Request who-has 10.1.0.1 tell 10.1.0.5, length 46\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if want := "Listening on lan; Ctrl-C ends.\n-- 3 frames lost: there were more than could be taken. A narrower filter helps.\nEnded: the interface is gone.\n2 frames, 3 lost\n"; said != want {
		t.Errorf("said\n%s", said)
	}
	if got := f.got(); !slices.Equal(got, []string{"capture count=5&filter=host+10.1.0.1+and+not+arp&for=30s&interface=lan&snaplen=96"}) {
		t.Errorf("%q", got)
	}
	out, _, err = sniff(t, Options{Run: f.run}, "lan", "-e")
	if err != nil || !strings.Contains(out, "in  02:00:00:00:00:01 > 10:00:00:00:05:07, ARP, length 60: ARP, Request") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = sniff(t, Options{Run: f.run}, "lan", "--json")
	var l frameLine
	if e := json.NewDecoder(strings.NewReader(out)).Decode(&l); err != nil || e != nil || l.Direction != "in" || l.Length != 60 || !strings.HasPrefix(l.Text, "ARP") {
		t.Errorf("%v %v\n%s", err, e, out)
	}
	var refused *api.Error
	if _, _, err = sniff(t, Options{Run: f.run}, "lan", "bad"); !errors.As(err, &refused) || !strings.Contains(refused.Hint, "tcpdump's") {
		t.Error(err)
	}
	if _, _, err = sniff(t, Options{Run: f.run}, "lan", "broken"); !errors.As(err, &refused) || !strings.Contains(refused.Message, "broke off") {
		t.Error(err)
	}
}

// TestSniffOverNetwork: the connection of the operator is left out, who captures is logged, and no file is written on the device.
func TestSniffOverNetwork(t *testing.T) {
	f := newFakes(t)
	opts := Options{Run: f.run, Operator: "admin from 10.1.0.9 by password", Source: netip.MustParseAddrPort("10.1.0.9:51234")}
	if _, _, err := sniff(t, opts, "lan"); err != nil {
		t.Error(err)
	}
	if _, _, err := sniff(t, opts, "lan", "--own"); err != nil {
		t.Error(err)
	}
	if got := f.got(); !slices.Equal(got, []string{"capture except=10.1.0.9%3A51234&interface=lan", "capture interface=lan"}) {
		t.Errorf("%q", got)
	}
	file := filepath.Join(t.TempDir(), "x.pcapng")
	if _, _, err := sniff(t, opts, "lan", "--write", file); err == nil || !strings.Contains(err.Error(), "sniff lan --write -") {
		t.Error(err)
	}
	var logged []string
	opts.Audit = func(text string) { logged = append(logged, text) }
	if err := Command(t.Context(), "sniff lan 'host 10.1.0.5' -c 1", opts); err != nil || !slices.Equal(logged, []string{`"sniff lan host 10.1.0.5 -c 1"`}) {
		t.Errorf("%v %q", err, logged)
	}
}

// TestSniffWrite: a file has whole blocks only, and is never longer than half of what is free.
func TestSniffWrite(t *testing.T) {
	f := newFakes(t)
	dir := t.TempDir()
	for name, filter := range map[string]string{"whole": "arp", "half": "broken"} {
		file := filepath.Join(dir, name)
		_, said, err := sniff(t, Options{Run: f.run}, "lan", filter, "--write", file, "--size", "1")
		if (err != nil) != (name == "half") || !strings.Contains(said, "At most 1.0 MiB to "+file) {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, frames := pcapng.NewReader(bytes.NewReader(data)), 0
		for {
			k, _, err := r.Next()
			if err != nil {
				break
			}
			if k != nil {
				frames++
			}
		}
		if want := map[string]int{"whole": 2, "half": 1}[name]; frames != want || r.Offset() != int64(len(data)) {
			t.Errorf("%s: %d frames, %d of %d bytes are whole blocks", name, frames, r.Offset(), len(data))
		}
	}
	if _, _, err := sniff(t, Options{Run: f.run}, "lan", "--write", filepath.Join(dir, "whole")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that was there: %v", err)
	}
	if _, _, err := sniff(t, Options{Run: f.run}, "lan", "bad", "--write", filepath.Join(dir, "none")); err == nil {
		t.Error("a bad filter")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error("an empty file was left")
	}
	out, _, err := sniff(t, Options{Run: f.run}, "lan", "--write", "-")
	if err != nil || !strings.HasPrefix(out, "\x0a\x0d\x0d\x0a") {
		t.Errorf("%v %q", err, out)
	}
	if got := f.got(); !slices.Contains(got, "capture filter=arp&interface=lan&size=some") {
		t.Errorf("%q", got)
	}
}

// TestSniffInteractive: Ctrl-C ends the capture, not the console, and is no error.
func TestSniffInteractive(t *testing.T) {
	f := newFakes(t)
	o := newOperator(t, f.run)
	o.expect(t, ":/> ")
	o.types("sniff lan for ever\r")
	o.expect(t, "out ARP")
	o.types("\x03")
	o.expect(t, "2 frames, 3 lost")
	o.expect(t, ":/> ")
	for start := time.Now(); !slices.Contains(f.got(), "capture ended"); time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatal("gatewayd still captures")
		}
	}
	o.types("sniff lan --write -\r")
	o.expect(t, "nothing to look at")
	o.types("exit\r")
	o.left()
	choices, _ := choicesAt(context.Background(), (&session{interactive: true, Options: Options{Run: f.run}}).root(), "sniff lan po")
	if len(choices) != 2 || choices[0].word != "port" {
		t.Errorf("%v", choices)
	}
}
