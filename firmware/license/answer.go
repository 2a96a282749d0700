package license

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// The licence server is asked by HTTP, GET {server}/v1/licences/{ID}?nonce={32 hex digits}, and answers
//
//	TWINKEEP LICENCE ANSWER 1
//	{"id":"TK-2026-0001","nonce":"…","withdrawn":false}
//	KEY 3f0c61a29e7b5d48
//	SIGNATURE …
//
// signed like a licence. The nonce is chosen anew for every question, so neither a recording nor anybody on the way can
// answer, whether or not there is TLS around it.

// MaxAnswer is the largest answer that is read, in bytes.
const MaxAnswer = 2048

const answerMagic = "TWINKEEP LICENCE ANSWER 1\n"

// NonceForm is what a nonce looks like.
var NonceForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// answer is the JSON of an answer.
type answer struct {
	ID        string `json:"id"`
	Nonce     string `json:"nonce"`
	Withdrawn bool   `json:"withdrawn"`
	Why       string `json:"why,omitempty"`
}

// Sign makes the answer to the question with a nonce.
func (a Answer) Sign(nonce string, key ed25519.PrivateKey) ([]byte, error) {
	switch {
	case !idForm.MatchString(a.ID):
		return nil, fmt.Errorf("answer about licence %q: that is no licence ID", a.ID)
	case !NonceForm.MatchString(nonce):
		return nil, fmt.Errorf("answer about licence %s: the nonce is not 32 hex digits", a.ID)
	case a.Why != "" && !isText(a.Why, maxWhy):
		return nil, fmt.Errorf("answer about licence %s: the text is not printable or longer than %d bytes", a.ID, maxWhy)
	}
	var b bytes.Buffer
	b.WriteString(answerMagic)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(answer{ID: a.ID, Nonce: nonce, Withdrawn: a.Withdrawn, Why: a.Why}); err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "%s%s\n", keyWord, KeyID(key.Public().(ed25519.PublicKey)))
	signature := ed25519.Sign(key, b.Bytes())
	fmt.Fprintf(&b, "%s%s\n", signatureWord, base64.StdEncoding.EncodeToString(signature))
	return b.Bytes(), nil
}

// ParseAnswer believes an answer only when a key of the ring has signed it for this licence and this nonce.
func ParseAnswer(data []byte, id, nonce string, ring Ring) (Answer, error) {
	bad := func(format string, args ...any) (Answer, error) {
		return Answer{}, fmt.Errorf("answer of the licence server: %s", fmt.Sprintf(format, args...))
	}
	if len(data) > MaxAnswer {
		return bad("%d bytes, the most is %d", len(data), MaxAnswer)
	}
	body, signed, ok := bytes.Cut(data, []byte("\n"+signatureWord))
	signature, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(string(signed), "\n"))
	if !ok || err != nil {
		return bad("it has no signature")
	}
	lines := strings.Split(string(body), "\n")
	if len(lines) != 3 || lines[0]+"\n" != answerMagic || !strings.HasPrefix(lines[2], keyWord) {
		return bad("it is not as this firmware knows it")
	}
	keyID := strings.TrimPrefix(lines[2], keyWord)
	key, known := ring[keyID]
	switch {
	case !known:
		return bad("%v: %q", ErrKey, keyID[:min(len(keyID), 32)])
	case !ed25519.Verify(key, append(body, '\n'), signature):
		return bad("%v", ErrSignature)
	}
	var a answer
	if err := json.Unmarshal([]byte(lines[1]), &a); err != nil {
		return bad("%v", err)
	}
	switch {
	case a.ID != id:
		return bad("it is about licence %q, not %s", a.ID, id)
	case a.Nonce != nonce:
		return bad("it does not answer this question")
	case a.Why != "" && !isText(a.Why, maxWhy):
		return bad("its text is not printable")
	}
	return Answer{ID: a.ID, Withdrawn: a.Withdrawn, Why: a.Why}, nil
}
