package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/contact"
)

func (d *daemon) installLicence(w http.ResponseWriter, r *http.Request) {
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, license.MaxSize))
	if err != nil {
		api.Reply(w, nil, &api.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("read the licence: %v", err),
			Hint: fmt.Sprintf("it has at most %d bytes", license.MaxSize)})
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.licence.install(file, r.FormValue("force") == "1", d.world()); err != nil {
		api.Reply(w, nil, err)
		return
	}
	d.judge()
	d.licence.askSoon()
	api.Reply(w, d.licence.status(), nil)
}

func (d *daemon) removeLicence(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.licence.remove(r.FormValue("force") == "1", d.world()); err != nil {
		api.Reply(w, nil, err)
		return
	}
	d.judge()
	api.Reply(w, d.licence.status(), nil)
}

// install keeps a licence that is good, and that does not lead to lockdown unless force.
func (l *licensing) install(file []byte, force bool, world license.Input) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	licence, _, fault := open(file, l.ring)
	if fault != "" {
		return &api.Error{Status: http.StatusUnprocessableEntity, Message: "the licence is refused: " + fault, Hint: "nothing was changed"}
	}
	world.Unspecified = nil // that is not the licence's fault
	if v := l.machine.Try(l.input(world, licence, "")); v.State == license.Lockdown && !force {
		return &api.Error{Status: http.StatusConflict, Message: "this licence would mean lockdown: " + v.Reason,
			Hint: "nothing was changed; license install --force installs it all the same"}
	}
	if err := l.store.PutLicence(file); err != nil {
		return err
	}
	l.load()
	l.unreachable, l.answer = "", nil
	l.log.Printf("licence %s installed, for %s", licence.ID, licence.Owner)
	return nil
}

// remove takes the licence out. It needs force when service ends sooner or later by that.
func (l *licensing) remove(force bool, world license.Input) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.licence == nil && l.fault == "" {
		return &api.Error{Status: http.StatusConflict, Message: "there is no licence to remove"}
	}
	v := l.machine.Try(l.input(world, nil, ""))
	if !force && (l.verdict.State != license.Lockdown) {
		what := "lockdown at once: " + v.Reason
		if v.State == license.Demo {
			what = fmt.Sprintf("lockdown in %s of running time", v.Remaining.Round(time.Second))
		}
		return &api.Error{Status: http.StatusConflict, Message: "without the licence comes " + what, Hint: "nothing was changed; license remove --force does it all the same"}
	}
	if err := l.store.RemoveLicence(); err != nil {
		return err
	}
	l.load()
	l.log.Print("licence removed")
	return nil
}

func (d *daemon) contactLicenceServer(w http.ResponseWriter, r *http.Request) {
	server, err := d.ask(r.Context())
	switch {
	case server == "":
		api.Reply(w, nil, &api.Error{Status: http.StatusConflict, Message: "the licence has no licence server"})
	case err != nil:
		api.Reply(w, nil, &api.Error{Status: http.StatusBadGateway, Message: err.Error(), Hint: "is there a way to " + server + "?"})
	default:
		s := d.licence.status()
		api.Reply(w, api.Message{Message: "the licence server has answered: " + s.State + ", " + s.Reason}, nil)
	}
}

// ask asks the licence server once and judges by its answer. server is empty when there is none.
func (d *daemon) ask(ctx context.Context) (server string, err error) {
	l := d.licence
	l.mu.Lock()
	licence := l.licence
	if licence == nil || l.fault != "" || licence.Server == "" {
		l.mu.Unlock()
		return "", nil
	}
	l.mu.Unlock()
	answer, err := contact.Ask(ctx, licence, l.ring)
	if errors.Is(ctx.Err(), context.Canceled) {
		return licence.Server, ctx.Err()
	}
	l.mu.Lock()
	if l.unreachable = ""; err != nil {
		l.unreachable = err.Error()
	} else {
		l.answer = &answer
	}
	l.mu.Unlock()
	d.mu.Lock()
	d.judge()
	d.mu.Unlock()
	return licence.Server, err
}

// askSoon makes keepContact ask now.
func (l *licensing) askSoon() {
	select {
	case l.soon <- struct{}{}:
	default:
	}
}

// Times between questions that were not answered: doubled from the first to the last.
const (
	askAgain    = time.Minute
	askAgainMax = time.Hour
)

// keepContact asks the licence server at the start and then every license.ContactEvery, until ctx ends.
func (d *daemon) keepContact(ctx context.Context) {
	wait, again := time.Second, askAgain
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-d.licence.soon:
			again = askAgain
		case <-t.C:
		}
		t.Stop()
		wait = license.ContactEvery
		if _, err := d.ask(ctx); err != nil {
			wait, again = again, min(2*again, askAgainMax)
		} else {
			again = askAgain
		}
	}
}
