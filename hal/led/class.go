package led

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Lamp can be lit.
type Lamp interface {
	// Set lights the lamp or puts it out.
	Set(lit bool) error
	// Close leaves the lamp as it is.
	Close() error
}

// ErrAbsent says that a lamp is not there, or that its driver is not loaded.
var ErrAbsent = errors.New("no such LED: is its driver loaded?")

// Class is a lamp of the kernel's LED class (Documentation/leds/leds-class.rst).
type Class struct {
	Name  string // below class/leds
	file  string
	light []byte
}

var _ Lamp = (*Class)(nil)

// OpenClass takes the lamp whose name matches pattern ("*" is any text), the first of several, in the sysfs mounted at
// root ("/sys"). It takes the lamp away from the trigger of the kernel that has it.
func OpenClass(root, pattern string) (*Class, error) {
	entries, err := os.ReadDir(filepath.Join(root, "class/leds")) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("LED %s: %w", pattern, err)
	}
	for _, e := range entries {
		if ok, err := filepath.Match(pattern, e.Name()); err != nil || !ok {
			continue
		}
		dir := filepath.Join(root, "class/leds", e.Name())
		// A lamp without triggers has no such file.
		if err := os.WriteFile(filepath.Join(dir, "trigger"), []byte("none"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("LED %s: take it from its trigger: %w", e.Name(), err)
		}
		light := "1"
		if text, err := os.ReadFile(filepath.Join(dir, "max_brightness")); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n > 0 {
				light = strconv.Itoa(n)
			}
		}
		return &Class{Name: e.Name(), file: filepath.Join(dir, "brightness"), light: []byte(light)}, nil
	}
	return nil, fmt.Errorf("LED %s: %w", pattern, ErrAbsent)
}

// Set implements Lamp.
func (c *Class) Set(lit bool) error {
	value := []byte("0")
	if lit {
		value = c.light
	}
	if err := os.WriteFile(c.file, value, 0); err != nil {
		return fmt.Errorf("LED %s: %w", c.Name, err)
	}
	return nil
}

// Close implements Lamp.
func (c *Class) Close() error { return nil }
