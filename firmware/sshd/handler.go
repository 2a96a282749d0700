package sshd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/login"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
)

func (k *keeper) handler() http.Handler {
	var edit sync.Mutex // read, change, write
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ssh", func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, k.status(), nil) })
	mux.HandleFunc("POST /v1/keys", func(w http.ResponseWriter, r *http.Request) {
		var a api.SSHAddKey
		d := json.NewDecoder(io.LimitReader(r.Body, 2*maxLine))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()})
			return
		}
		edit.Lock()
		defer edit.Unlock()
		key, err := k.addKey(a.Line)
		api.Reply(w, described(key), err)
	})
	mux.HandleFunc("DELETE /v1/keys", func(w http.ResponseWriter, r *http.Request) {
		edit.Lock()
		defer edit.Unlock()
		key, err := k.removeKey(r.URL.Query().Get("key"))
		api.Reply(w, described(key), err)
	})
	mux.HandleFunc("/", api.NotFound)
	return mux
}

func described(k Key) api.SSHKey {
	if k.PublicKey == nil {
		return api.SSHKey{}
	}
	return api.SSHKey{Type: k.Type(), Fingerprint: k.Fingerprint(), Comment: k.Comment}
}

func (k *keeper) status() api.SSHStatus {
	keys, faults, err := LoadKeys(k.ConfigDir)
	line, passwordErr := login.Load(k.ConfigDir)
	host := k.host.PublicKey()
	s := api.SSHStatus{
		User: User, Fingerprint: ssh.FingerprintSHA256(host), HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host))),
		Password: line != "" && passwordErr == nil,
	}
	if err != nil {
		faults = append(faults, err)
	}
	for _, f := range faults {
		s.Faults = append(s.Faults, f.Error())
	}
	for _, key := range keys {
		s.Keys = append(s.Keys, described(key))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := supervise.Uptime()
	s.Enabled, s.Port, s.Problem, s.Counts = k.settings.port != 0, k.settings.port, k.problem, k.counts
	for _, c := range k.conns {
		s.Connections = append(s.Connections, api.SSHLogin{Source: c.source.String(), User: c.user, By: c.by, For: member.Duration(now - c.since), Sessions: c.sessions})
	}
	slices.SortFunc(s.Connections, func(a, b api.SSHLogin) int { return cmp.Compare(b.For, a.For) })
	for source, r := range k.guard.sources {
		if left := k.guard.blocked(now, source); left > 0 {
			s.ShutOut = append(s.ShutOut, api.SSHShutOut{Source: strings.TrimSuffix(source.String(), "/32"), Failures: r.failures, For: member.Duration(left)})
		}
	}
	slices.SortFunc(s.ShutOut, func(a, b api.SSHShutOut) int { return cmp.Compare(a.Source, b.Source) })
	return s
}

func (k *keeper) addKey(line string) (Key, error) {
	key, err := ParseKey(line)
	if err != nil {
		return Key{}, &api.Error{Status: http.StatusBadRequest, Message: err.Error(), Hint: "ssh-keygen -t ed25519 makes a pair; give the line of its .pub file"}
	}
	keys, faults, err := LoadKeys(k.ConfigDir)
	if err == nil && len(faults) > 0 {
		err = &api.Error{Status: http.StatusConflict, Message: faults[0].Error(), Hint: "the file is not rewritten while it has lines that would be lost"}
	}
	if err != nil {
		return Key{}, err
	}
	for _, old := range keys {
		if old.Fingerprint() == key.Fingerprint() {
			return Key{}, &api.Error{Status: http.StatusConflict, Message: "this key is on the list already, as " + cmp.Or(old.Comment, old.Fingerprint())}
		}
	}
	if len(keys) >= maxKeys {
		return Key{}, &api.Error{Status: http.StatusConflict, Message: fmt.Sprintf("there are %d keys, which is the most", maxKeys), Hint: "remove one first"}
	}
	return key, saveKeys(k.ConfigDir, append(keys, key))
}

func (k *keeper) removeKey(which string) (Key, error) {
	keys, _, err := LoadKeys(k.ConfigDir)
	if err != nil {
		return Key{}, err
	}
	found := -1
	for i, key := range keys {
		if key.Fingerprint() != which && key.Comment != which {
			continue
		}
		if found >= 0 {
			return Key{}, &api.Error{Status: http.StatusConflict, Message: fmt.Sprintf("%.100q is more than one key", which), Hint: "name it by its fingerprint: ssh key list"}
		}
		found = i
	}
	if found < 0 || which == "" {
		return Key{}, &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("%.100q is no key of the list", which), Hint: "see ssh key list"}
	}
	key := keys[found]
	if err := saveKeys(k.ConfigDir, slices.Delete(keys, found, found+1)); err != nil {
		return Key{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, c := range k.conns {
		if c.key == key.Fingerprint() {
			k.drop(id)
		}
	}
	return key, nil
}
