package esp

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twinkeep/twinkeep/firmware/secureboot"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/bundle"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
)

// Install proves an upgrade file, checks that it belongs on this box, writes it
// beside the slots, and puts it into the idle slot for one trial boot. Whatever
// is wrong with the file is found before the idle slot is touched.
func (s *System) Install(src *source.Source, force bool, progress func(done, all int64)) (upgrade.Candidate, error) {
	keys, err := s.place.Keys()
	if err != nil {
		return upgrade.Candidate{}, err
	}
	head := &counter{w: io.Discard}
	r, err := bundle.Open(io.TeeReader(src, head), keys)
	if err != nil {
		return upgrade.Candidate{}, err
	}
	c := r.Candidate
	if err := s.Box.Check(c, force); err != nil {
		return c, err
	}
	if src.Size >= 0 {
		switch want := head.n + c.Size; {
		case src.Size < want:
			return c, fmt.Errorf("%w (%d bytes, %d are missing)", bundle.ErrTruncated, src.Size, want-src.Size)
		case src.Size > want:
			return c, fmt.Errorf("%w: %d bytes behind its end", bundle.ErrFormat, src.Size-want)
		}
	}
	if err := s.Stage(r, c, func(n int64) {
		if progress != nil {
			progress(n, c.Size)
		}
	}); err != nil {
		return c, err
	}
	if err := s.genuine(c); err != nil {
		return c, errors.Join(err, s.discard())
	}
	if err := s.Apply(s.Box.Install(c)); err != nil {
		return c, fmt.Errorf("the image is written but not in its slot: %w; this system stays as it is", err)
	}
	return c, s.read()
}

// genuine looks at the image beside the slots as the firmware and the loader
// will: one that they refuse would leave the box standing at the loader.
func (v Volume) genuine(c upgrade.Candidate) error {
	r, err := release(v.path(staged))
	if err != nil {
		return err
	}
	if r != c.Release {
		return fmt.Errorf("the image says it is %v for %s, its manifest %v for %s: it was put together wrongly", r, r.Board, c.Release, c.Release.Board)
	}
	image, err := readSome(v.path(staged), upgrade.MaxImage)
	if err != nil {
		return err
	}
	return secureboot.Check("", image)
}

// discard removes the image beside the slots.
func (v Volume) discard() error {
	return errors.Join(os.Remove(v.path(staged)), v.sync())
}

// Rollback makes the next boot take the other slot, after a look at its image.
func (s *System) Rollback() (upgrade.Slot, error) {
	other := s.Box.Running.Other()
	if s.Box.Running == "" {
		return "", errors.New("it is not known which slot runs")
	}
	ops, err := s.Box.Rollback()
	if err != nil {
		return "", err
	}
	for _, e := range s.Box.Table.Of(other) {
		if err := s.Verify(e); err != nil {
			return "", fmt.Errorf("there is nothing to go back to: %w", err)
		}
	}
	return other, s.Apply(ops)
}
