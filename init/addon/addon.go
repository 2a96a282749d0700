// Package addon reads additional services from a folder, for the lab: an
// overlay of the image can bring a program and have PID 1 supervise it.
package addon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/twinkeep/twinkeep/init/supervise"
)

// Dir is where PID 1 looks.
const Dir = "/etc/twinkeep/services.d"

// file is the content of one NAME.yaml.
type file struct {
	Name  string   `yaml:"name"`
	Argv  []string `yaml:"argv"`
	After []string `yaml:"after"`
}

// Load reads every *.yaml in dir, in the order of their names. A file that is
// wrong gives an error and the others are loaded all the same. taken are the
// names of the services that exist already: an addition can neither replace
// one nor wait for something unknown.
func Load(dir string, taken []string) ([]supervise.Service, []error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, []error{fmt.Errorf("additional services: %w", err)}
	}
	known := make(map[string]bool)
	for _, n := range taken {
		known[n] = true
	}
	var out []supervise.Service
	var errs []error
	for _, name := range names {
		s, err := read(name, known)
		if err != nil {
			errs = append(errs, fmt.Errorf("additional service %s: %w", name, err))
			continue
		}
		known[s.Name] = true
		out = append(out, s)
	}
	return out, errs
}

func read(name string, known map[string]bool) (s supervise.Service, err error) {
	var none supervise.Service
	// The YAML parser panics on some input that is not YAML, and this is PID 1.
	defer func() {
		if v := recover(); v != nil {
			s, err = none, fmt.Errorf("not YAML that can be read: %v", v)
		}
	}()
	b, err := os.ReadFile(name)
	if err != nil {
		return none, err
	}
	var f file
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&f); err != nil {
		return none, errors.New(yaml.FormatError(err, false, true))
	}
	switch {
	case f.Name == "" || strings.ContainsAny(f.Name, "/ \t\n"):
		return none, fmt.Errorf("name: %q must be one word without slashes", f.Name)
	case known[f.Name]:
		return none, fmt.Errorf("name: there is already a service %s", f.Name)
	case len(f.Argv) == 0 || !filepath.IsAbs(f.Argv[0]):
		return none, fmt.Errorf("argv: must begin with the absolute path of a program")
	}
	for _, a := range f.After {
		if !known[a] {
			return none, fmt.Errorf("after: there is no service %s before this file", a)
		}
	}
	info, err := os.Stat(f.Argv[0])
	if errors.Is(err, fs.ErrNotExist) {
		return none, fmt.Errorf("argv: %s is not there", f.Argv[0])
	}
	if err == nil && info.Mode()&0o111 == 0 {
		return none, fmt.Errorf("argv: %s is not executable", f.Argv[0])
	}
	return supervise.Service{Name: f.Name, Argv: f.Argv, After: f.After}, nil
}
