package gatewayd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/capture"
	pcapfilter "github.com/twinkeep/twinkeep/firmware/capture/filter"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

const (
	flushAfter     = 50 * time.Millisecond // a frame waits no longer for others
	tellLosses     = time.Second
	readerPatience = 10 * time.Minute // a reader that takes nothing for so long is gone
)

// serveCapture writes frames of an interface as they pass: what users of this gateway send and receive. It is for the console, which logs
// who asked; the API over the network has no such request (docs/decisions/0093-sniff.md).
func (d *daemon) serveCapture(w http.ResponseWriter, r *http.Request) {
	q, err := api.ParseCaptureQuery(r.URL.Query())
	if err != nil {
		api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: err.Error()})
		return
	}
	if q.For <= 0 || q.For > api.MaxCapture {
		q.For = api.MaxCapture
	}
	if n := d.captures.Add(1); n > api.MaxCaptures {
		d.captures.Add(-1)
		api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: fmt.Sprintf("%d captures run already", api.MaxCaptures), Hint: "end one of them"})
		return
	}
	defer d.captures.Add(-1)
	device, err := d.captureDevice(q.Interface)
	if err != nil {
		api.Reply(w, nil, err)
		return
	}
	c, err := openCapture(device, q)
	if err != nil {
		api.Reply(w, nil, err)
		return
	}
	defer c.Close()
	d.Log.Printf("capture on %s (%s) begins, filter %.200q", q.Interface, device, q.Filter)
	defer context.AfterFunc(r.Context(), func() { c.Close() })()
	w.Header().Set("Content-Type", "application/x-pcapng")
	s := &captureStream{c: c, q: q, end: time.Now().Add(q.For), out: bufio.NewWriterSize(w, 64<<10), control: http.NewResponseController(w)}
	err = s.run()
	ended := ""
	if err != nil && r.Context().Err() == nil {
		ended = ": " + err.Error()
	}
	d.Log.Printf("capture on %s (%s) has ended after %d frames, %d more were lost%s", q.Interface, device, s.frames, s.stats.Dropped, ended)
}

// captureDevice is the device of an interface.
func (d *daemon) captureDevice(name string) (string, error) {
	list, err := interfaces(d.inForce())
	if err != nil {
		return "", err
	}
	var names []string
	for _, i := range list {
		if i.Name == name || i.Device == name {
			if !i.Present {
				return "", &api.Error{Status: http.StatusConflict, Message: fmt.Sprintf("interface %s: there is no device %s", i.Name, i.Device)}
			}
			return i.Device, nil
		}
		names = append(names, i.Name)
	}
	return "", &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no interface %.40q", name), Hint: "there are " + strings.Join(names, ", ")}
}

// openCapture opens what is asked for, without the connection that carries it away.
func openCapture(device string, q api.CaptureQuery) (*capture.Capture, error) {
	whole := q.Filter
	if q.Except.IsValid() {
		whole = fmt.Sprintf("not (host %s and tcp port %d)", q.Except.Addr().Unmap().WithZone(""), q.Except.Port())
		if strings.TrimSpace(q.Filter) != "" {
			// Places in errors are those of what the operator wrote.
			if _, err := pcapfilter.Compile(q.Filter, pcapfilter.Options{Live: true}); err != nil {
				return nil, badFilter(err)
			}
			whole += " and (" + q.Filter + ")"
		}
	}
	c, err := capture.Open(capture.Config{Device: device, Filter: whole, Snaplen: q.Snaplen, Promiscuous: q.Promiscuous})
	return c, badFilter(err)
}

// badFilter adds to an error of a filter what filters can be.
func badFilter(err error) error {
	var fault *pcapfilter.Error
	if !errors.As(err, &fault) {
		return err
	}
	hint := pcapfilter.Summary
	if fault.Hint != "" {
		hint = fault.Hint + ". " + hint
	}
	return &api.Error{Status: http.StatusBadRequest, Message: fault.Error(), Hint: hint, Cause: err}
}

// captureStream is one capture on its way to who asked for it.
type captureStream struct {
	c       *capture.Capture
	q       api.CaptureQuery
	end     time.Time
	out     *bufio.Writer
	control *http.ResponseController

	format          *pcapng.Writer
	written         uint64 // bytes
	frames          uint64
	stats           pcapng.Statistics // as told last
	flushAt, tellAt time.Time         // zero flushAt: nothing waits
}

// Write is for the format.
func (s *captureStream) Write(b []byte) (int, error) {
	n, err := s.out.Write(b)
	s.written += uint64(n)
	return n, err
}

func (s *captureStream) flush() error {
	s.flushAt = time.Time{}
	s.control.SetWriteDeadline(time.Now().Add(readerPatience)) // a server without it has none
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.control.Flush()
}

// tell writes how many frames there were, when that has changed or there is something to say.
func (s *captureStream) tell(comment string) error {
	s.tellAt = time.Now().Add(tellLosses)
	now, err := s.c.Statistics()
	if err != nil || comment == "" && now.Received == s.stats.Received && now.Dropped == s.stats.Dropped {
		return err
	}
	now.Comment = comment
	s.stats = now
	return errors.Join(s.format.Statistics(now), s.flush())
}

// run writes frames until the query's end, or the reader's.
func (s *captureStream) run() (err error) {
	host, _ := os.Hostname()
	s.format, err = pcapng.NewWriter(s, pcapng.Description{Host: host, Application: "Twinkeep", Interface: s.q.Interface, Filter: s.q.Filter, Snaplen: s.q.Snaplen})
	if err == nil {
		err = s.flush()
	}
	s.tellAt = time.Now().Add(tellLosses)
	comment := ""
	for err == nil && comment == "" && (s.q.Count == 0 || s.frames < s.q.Count) && time.Now().Before(s.end) {
		var k pcapng.Packet
		k, err = s.c.Next(s.due())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = s.pending()
		case errors.Is(err, capture.ErrGone):
			comment, err = err.Error(), nil
		case err != nil:
		case s.q.Size > 0 && s.written+uint64(len(k.Data))+blockOverhead > s.q.Size:
			comment = "the size limit is reached"
		default:
			err = s.frame(k)
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(s.tell(comment), s.flush())
}

// frame writes one frame, and what is due: with frames all the time there is no pause for it.
func (s *captureStream) frame(k pcapng.Packet) error {
	s.frames++
	if s.flushAt.IsZero() {
		s.flushAt = time.Now().Add(flushAfter)
	}
	if err := s.format.Packet(k); err != nil {
		return err
	}
	return s.pending()
}

// due is when something is to be done even without frames.
func (s *captureStream) due() time.Time {
	at := s.tellAt
	if s.end.Before(at) {
		at = s.end
	}
	if !s.flushAt.IsZero() && s.flushAt.Before(at) {
		at = s.flushAt
	}
	return at
}

// pending does what is due.
func (s *captureStream) pending() error {
	now := time.Now()
	if !now.Before(s.tellAt) {
		if err := s.tell(""); err != nil {
			return err
		}
	}
	if !s.flushAt.IsZero() && !now.Before(s.flushAt) {
		return s.flush()
	}
	return nil
}

// blockOverhead is what a frame and the last statistics take beside the frame's bytes.
const blockOverhead = 160
