package license

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A licence file is text that survives e-mail and a serial console:
//
//	TWINKEEP LICENCE 1
//	TK-2026-0001 for Example AB
//	Gateway with registration MAC 52:54:00:12:34:56
//	Valid from 2026-01-01 until 2026-12-31
//	{"id":"TK-2026-0001","owner":"Example AB",…}
//	KEY 3f0c61a29e7b5d48
//	SIGNATURE …base64 of 64 bytes…
//
// The ed25519 signature (RFC 8032) covers every byte up to and with the KEY line. What people read in the lines above
// the JSON is made from the JSON, and a file in which it says anything else is refused: there is exactly one file for a
// licence and a key. Only carriage returns and blanks at the ends of lines, and empty lines around it, are forgiven.

// MaxSize is the largest licence file that is read, in bytes.
const MaxSize = 4096

const (
	fileMagic     = "TWINKEEP LICENCE "
	fileVersion   = "1"
	keyWord       = "KEY "
	signatureWord = "SIGNATURE "
)

// Errors of a licence file. They are wrapped with what is wrong where.
var (
	// ErrForm means that the file is no licence file, or a damaged one.
	ErrForm = errors.New("not a licence file")
	// ErrKey means that this firmware does not know the key that signed the licence.
	ErrKey = errors.New("signed with a key that this firmware does not know")
	// ErrSignature means that the licence is not what was signed.
	ErrSignature = errors.New("the signature does not fit the licence")
)

// body is what is signed: the header, the JSON and the name of the key.
func (l *Licence) body(keyID string) ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n%s for %s\nGateway with registration MAC %s\n", fileMagic, fileVersion, l.ID, l.Owner, l.MAC)
	if l.Until.IsZero() {
		fmt.Fprintf(&b, "Valid from %s, without end\n", l.From)
	} else {
		fmt.Fprintf(&b, "Valid from %s until %s\n", l.From, l.Until)
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "%s%s\n", keyWord, keyID)
	return b.Bytes(), nil
}

// Sign makes the licence file.
func (l *Licence) Sign(key ed25519.PrivateKey) ([]byte, error) {
	body, err := l.body(KeyID(key.Public().(ed25519.PublicKey)))
	if err != nil {
		return nil, fmt.Errorf("sign the licence: %w", err)
	}
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(key, body))
	return append(body, signatureWord+signature+"\n"...), nil
}

// Parse reads a licence file and checks its form, not its signature: only Verify makes it worth anything.
func Parse(file []byte) (*Signed, error) {
	bad := func(format string, args ...any) (*Signed, error) {
		return nil, fmt.Errorf("%w: %s", ErrForm, fmt.Sprintf(format, args...))
	}
	if len(file) > MaxSize {
		return bad("%d bytes, the most is %d", len(file), MaxSize)
	}
	text := tidy(file)
	first, _, _ := strings.Cut(text, "\n")
	version, ok := strings.CutPrefix(first, fileMagic)
	switch {
	case !ok:
		return bad("its first line is not %q", fileMagic+fileVersion)
	case version != fileVersion:
		return bad("version %q; this firmware reads version %s", version, fileVersion)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != 7 {
		return bad("%d lines instead of 7", len(lines))
	}
	l := new(Licence)
	dec := json.NewDecoder(strings.NewReader(lines[4]))
	dec.DisallowUnknownFields() // what it does not understand it must not promise to keep
	if err := dec.Decode(l); err != nil {
		return bad("line 5: %v", err)
	}
	keyID, ok := strings.CutPrefix(lines[5], keyWord)
	if !ok {
		return bad("line 6 is not %s…", keyWord)
	}
	encoded, ok := strings.CutPrefix(lines[6], signatureWord)
	signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(signature) != ed25519.SignatureSize {
		return bad("line 7 is not %s and base64 of %d bytes", signatureWord, ed25519.SignatureSize)
	}
	body, err := l.body(keyID)
	if err != nil {
		return bad("%v", err)
	}
	if want := string(body) + lines[6] + "\n"; text != want {
		return bad("line %d is not as a licence has it", firstDifference(text, want))
	}
	return &Signed{Licence: l, KeyID: keyID, body: body, signature: signature}, nil
}

// Signed is a licence file that was read.
type Signed struct {
	Licence *Licence
	KeyID   string // the key that it says has signed it

	body, signature []byte
}

// Verify checks the signature by a key of the ring, and gives the licence.
func (s *Signed) Verify(ring Ring) (*Licence, error) {
	key, ok := ring[s.KeyID]
	if !ok {
		return nil, fmt.Errorf("%w: %s; it knows %s", ErrKey, s.KeyID, ring)
	}
	if !ed25519.Verify(key, s.body, s.signature) {
		return nil, fmt.Errorf("%w (key %s)", ErrSignature, s.KeyID)
	}
	return s.Licence, nil
}

// tidy takes out what mail programs and terminals add.
func tidy(file []byte) string {
	lines := strings.Split(string(bytes.TrimSpace(file)), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\r")
	}
	return strings.Join(lines, "\n") + "\n"
}

// firstDifference is the number of the first line in which two texts differ, from 1.
func firstDifference(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i + 1
		}
	}
	return min(len(x), len(y))
}
