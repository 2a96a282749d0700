package member

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// termFile remembers the highest term across restarts. Writing happens beside the machine's goroutine: a
// slow disk must not delay a heartbeat, and the newest term is the only one that counts.
type termFile struct {
	path string
	last uint64
	want chan uint64
	done chan struct{}
}

// openTerm reads the term kept in dir. With an error the term is 0 and still kept from now on, if possible.
func openTerm(dir string) (*termFile, error) {
	t := &termFile{path: filepath.Join(dir, "ha", "term"), want: make(chan uint64, 1), done: make(chan struct{})}
	b, err := os.ReadFile(t.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = nil
	case err != nil:
		err = fmt.Errorf("read the remembered term: %w", err)
	default:
		if term, bad := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63); bad == nil { // wire.MaxTerm
			t.last = term
		} else {
			err = fmt.Errorf("the remembered term in %s is damaged, starting from the peers' term: %w", t.path, bad)
		}
	}
	go t.run()
	return t, err
}

func (t *termFile) get() uint64 { return t.last }

// keep asks for term to be written; a newer one replaces one that still waits.
func (t *termFile) keep(term uint64) {
	select {
	case <-t.want:
	default:
	}
	t.want <- term
}

func (t *termFile) run() {
	defer close(t.done)
	for term := range t.want {
		// A term that cannot be kept costs nothing but its memory after both members lost power.
		_ = t.write(term)
	}
}

// write replaces the file atomically: temporary file, fsync, rename, fsync of the directory.
func (t *termFile) write(term uint64) error {
	dir := filepath.Dir(t.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".term-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, term)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (t *termFile) close() {
	close(t.want)
	<-t.done
}
