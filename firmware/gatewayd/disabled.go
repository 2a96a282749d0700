package gatewayd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/node"
)

// disabled are the interfaces that an operator has taken out, by name. They are remembered in two files: for good in
// the state directory, and until the supervisor ends in the run directory, so that a restart of gatewayd alone does not
// bring an interface back behind the operator's back.
type disabled struct {
	forGood, forNow []string
	opts            Options
}

const disabledFile = "interfaces-disabled.json"

// forNowFile is the content of the file in the run directory. It counts only under the supervisor that it was written
// under: a run directory on a disk survives that.
type forNowFile struct {
	Boot       string   `json:"boot"`
	Supervisor int      `json:"supervisor"`
	Interfaces []string `json:"interfaces"`
}

// readDisabled reads what is remembered. What cannot be read is said, and counts as nothing.
func readDisabled(opts Options, log func(string, ...any)) disabled {
	d := disabled{opts: opts}
	read := func(path string, v any) {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log("disabled interfaces are forgotten: %s: %v", path, err)
		}
	}
	if opts.StateDir != "" {
		read(filepath.Join(opts.StateDir, disabledFile), &d.forGood)
	}
	var now forNowFile
	read(filepath.Join(opts.RunDir, disabledFile), &now)
	if now.Boot == bootID() && now.Supervisor == os.Getppid() {
		d.forNow = now.Interfaces
	}
	return d
}

func (d *disabled) has(name string) bool {
	return slices.Contains(d.forGood, name) || slices.Contains(d.forNow, name)
}

// devices are the kernel devices of the disabled interfaces.
func (d *disabled) devices(n *node.Node) (out []string) {
	for _, f := range n.Interfaces {
		if d.has(f.Name) {
			out = append(out, f.Device)
		}
	}
	return out
}

// set disables or enables an interface. It is remembered before it is done.
func (d *disabled) set(name string, off, persist bool) error {
	without := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
	}
	next := disabled{forGood: without(d.forGood), forNow: without(d.forNow), opts: d.opts}
	switch {
	case off && persist && d.opts.StateDir == "":
		return errors.New("there is no state directory to remember it in")
	case off && persist:
		next.forGood = append(next.forGood, name)
	case off:
		next.forNow = append(next.forNow, name)
	}
	if !slices.Equal(next.forGood, d.forGood) {
		if err := replaceFile(d.opts.StateDir, disabledFile, next.forGood); err != nil {
			return err
		}
	}
	if !slices.Equal(next.forNow, d.forNow) {
		if err := replaceFile(d.opts.RunDir, disabledFile, forNowFile{bootID(), os.Getppid(), next.forNow}); err != nil {
			return err
		}
	}
	*d = next
	return nil
}

// replaceFile writes a value as JSON, atomically.
func replaceFile(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("remember disabled interfaces: %w", err)
	}
	defer os.Remove(temp.Name()) // fails harmlessly once renamed
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		var folder *os.File
		if folder, err = os.Open(dir); err == nil {
			err = errors.Join(folder.Sync(), folder.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("remember disabled interfaces: %w", err)
	}
	return nil
}

func (d *daemon) disableInterface(w http.ResponseWriter, r *http.Request) {
	var o api.InterfaceOrder
	if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()})
		return
	}
	d.setInterface(w, r.PathValue("name"), true, o)
}

func (d *daemon) enableInterface(w http.ResponseWriter, r *http.Request) {
	d.setInterface(w, r.PathValue("name"), false, api.InterfaceOrder{})
}

func (d *daemon) setInterface(w http.ResponseWriter, name string, off bool, o api.InterfaceOrder) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(status int, message, hint string) {
		api.Reply(w, nil, &api.Error{Status: status, Message: message, Hint: hint})
	}
	switch {
	case d.node == nil:
		fail(http.StatusConflict, "no node file is in force", "write one with: node edit")
		return
	case d.node.Interface(name) == nil:
		fail(http.StatusNotFound, fmt.Sprintf("there is no interface %q", name), "ifstat shows them all")
		return
	case !off && !d.disabled.has(name):
		fail(http.StatusConflict, fmt.Sprintf("interface %s is not disabled", name), "")
		return
	}
	if off && !o.Force {
		if why := d.lockedWithout(name); why != "" {
			fail(http.StatusConflict, why, fmt.Sprintf("interface disable %s --force does it all the same; interface enable %s leaves the lockdown", name, name))
			return
		}
	}
	if err := d.disabled.set(name, off, o.Persist); err != nil {
		api.Reply(w, nil, err)
		return
	}
	d.apply()
	message := fmt.Sprintf("interface %s is enabled", name)
	if off {
		message = fmt.Sprintf("interface %s is disabled until the next restart; interface enable %s puts it back", name, name)
		if o.Persist {
			message = fmt.Sprintf("interface %s is disabled for good; interface enable %s puts it back", name, name)
		}
	}
	if s := d.licence.status(); s.State == license.Lockdown.String() {
		message += ". Lockdown: " + s.Reason
	}
	d.Log.Print(message)
	api.Reply(w, api.Message{Message: message}, nil)
}

// lockedWithout says what happens when an interface is disabled that the licence needs; empty when nothing does.
func (d *daemon) lockedWithout(name string) string {
	in := d.world()
	for i := range in.Ports {
		if in.Ports[i].Name == name {
			in.Ports[i].Up = false
		}
	}
	v, now := d.licence.try(in)
	if v.State != license.Lockdown || now.State == license.Lockdown && now.Reason == v.Reason {
		return ""
	}
	return fmt.Sprintf("%s is the registration interface: without it this member goes into lockdown. Its gate shuts, a fit peer takes over, and only management traffic passes", name)
}
