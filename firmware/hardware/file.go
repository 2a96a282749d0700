package hardware

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/twinkeep/twinkeep/firmware/api"
)

const (
	// maxFile bounds what is read of a file with hardware, in bytes.
	maxFile = 1 << 20
	// maxArchive bounds what is read of an archive to find it.
	maxArchive = 256 << 20
	// section is the file with the hardware in an archive of techsupport, state the one that has the member's name.
	section = "hardware.json"
	state   = "ha.json"
	maxNICs = 256
)

// Read reads the hardware of a member: what `hardware --json` prints, or an archive of `techsupport`. The name is that of the member, empty when
// the file does not have it.
func Read(r io.Reader) (h api.Hardware, name string, err error) {
	in := bufio.NewReader(r)
	head, _ := in.Peek(2) // shorter ones are no JSON either
	if len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b {
		return readArchive(in)
	}
	h, err = parse(in)
	return h, "", err
}

func parse(r io.Reader) (h api.Hardware, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return h, err
	case len(data) > maxFile:
		return h, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return api.Hardware{}, fmt.Errorf("not the output of hardware --json: %w", err)
	}
	if len(h.NICs) == 0 || len(h.NICs) > maxNICs {
		return api.Hardware{}, fmt.Errorf("it names %d network cards: is it the output of hardware --json?", len(h.NICs))
	}
	return h, nil
}

func readArchive(r io.Reader) (h api.Hardware, name string, err error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return h, "", fmt.Errorf("not an archive of techsupport: %w", err)
	}
	found := false
	for t := tar.NewReader(io.LimitReader(z, maxArchive)); ; {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return api.Hardware{}, "", fmt.Errorf("not an archive of techsupport: %w", err)
		}
		switch path.Base(head.Name) {
		case section:
			if h, err = parse(t); err != nil {
				return api.Hardware{}, "", fmt.Errorf("%s in the archive: %w", section, err)
			}
			found = true
		case state:
			var s struct {
				Name string `json:"member_name"`
			}
			if json.NewDecoder(io.LimitReader(t, maxFile)).Decode(&s) == nil {
				name = s.Name
			}
		}
	}
	if !found {
		return h, "", fmt.Errorf("the archive has no %s", section)
	}
	return h, name, nil
}
