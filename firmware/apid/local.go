package apid

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/init/vault"
)

// local is the API of the console:
//
//	GET    /v1/remote              api.RemoteStatus
//	POST   /v1/tokens              api.RemoteToken; api.RemoteSecret
//	DELETE /v1/tokens?name=NAME    api.RemoteToken
func (k *keeper) local() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/remote", func(w http.ResponseWriter, _ *http.Request) {
		s, err := k.status()
		api.Reply(w, s, err)
	})
	m.HandleFunc("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		var t api.RemoteToken
		d := json.NewDecoder(io.LimitReader(r.Body, 4096))
		d.DisallowUnknownFields()
		if err := d.Decode(&t); err != nil {
			api.Reply(w, nil, &api.Error{Status: http.StatusBadRequest, Message: "read the request: " + err.Error()})
			return
		}
		s, err := k.create(t)
		api.Reply(w, s, err)
	})
	m.HandleFunc("DELETE /v1/tokens", func(w http.ResponseWriter, r *http.Request) {
		t, err := k.remove(r.URL.Query().Get("name"))
		api.Reply(w, t, err)
	})
	m.HandleFunc("/", api.NotFound)
	return m
}

func shown(t Token) api.RemoteToken { return api.RemoteToken{Name: t.Name, Role: string(t.Role)} }

func (k *keeper) status() (s api.RemoteStatus, err error) {
	k.look()
	der, err := k.certificate()
	if err != nil {
		return s, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s = api.RemoteStatus{
		Enabled: k.settings.port != 0, Open: k.front != nil, Port: k.settings.port, Problem: k.problem, Pin: k.pin, Counts: k.counts,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Tokens: []api.RemoteToken{},
	}
	if k.tokenErr != nil {
		s.Problem = k.tokenErr.Error()
	}
	for _, t := range k.tokens {
		s.Tokens = append(s.Tokens, shown(t))
	}
	return s, nil
}

func (k *keeper) create(want api.RemoteToken) (api.RemoteSecret, error) {
	k.edit.Lock()
	defer k.edit.Unlock()
	t, text, err := NewToken(want.Name, Role(want.Role))
	if err != nil {
		return api.RemoteSecret{}, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	tokens, err := LoadTokens(k.ConfigDir)
	switch {
	case err != nil:
		return api.RemoteSecret{}, err
	case slices.ContainsFunc(tokens, func(o Token) bool { return o.Name == t.Name }):
		return api.RemoteSecret{}, &api.Error{Status: http.StatusConflict, Message: "there is a token with the name " + t.Name, Hint: "api token remove makes it worthless"}
	case len(tokens) >= maxTokens:
		return api.RemoteSecret{}, &api.Error{Status: http.StatusConflict, Message: fmt.Sprintf("there are %d tokens, which is the most", maxTokens), Hint: "remove one first"}
	}
	if err := k.save(append(tokens, t)); err != nil {
		return api.RemoteSecret{}, err
	}
	return api.RemoteSecret{RemoteToken: shown(t), Token: text}, nil
}

func (k *keeper) remove(name string) (api.RemoteToken, error) {
	k.edit.Lock()
	defer k.edit.Unlock()
	tokens, err := LoadTokens(k.ConfigDir)
	if err != nil {
		return api.RemoteToken{}, err
	}
	i := slices.IndexFunc(tokens, func(t Token) bool { return t.Name == name })
	if i < 0 {
		return api.RemoteToken{}, &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("%.40q is no token", name), Hint: "see api token list"}
	}
	t := tokens[i]
	return shown(t), k.save(slices.Delete(tokens, i, i+1))
}

func (k *keeper) save(tokens []Token) error {
	if err := vault.Write(filepath.Join(k.ConfigDir, TokensFile), formatTokens(tokens)); err != nil {
		return fmt.Errorf("keep the tokens of the API: %w", err)
	}
	k.look()
	return nil
}
