package license

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/twinkeep/twinkeep/firmware/license/devkey"
	"github.com/twinkeep/twinkeep/tools/golden"
)

// testKey is a key of the tests only.
var testKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

var testRing = Ring{KeyID(testKey.Public().(ed25519.PublicKey)): testKey.Public().(ed25519.PublicKey)}

const testMAC = "52:54:00:12:34:56"

func day(s string) Day {
	d, err := ParseDay(s)
	if err != nil {
		panic(err)
	}
	return d
}

func sample() *Licence {
	return &Licence{
		ID: "TK-2026-0001", Owner: "Example & Söner AB", Product: Product, MAC: testMAC,
		Issued: time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC), From: day("2026-11-22"), Until: day("2027-11-22"),
		Limit:  Limits{Members: 2, Interfaces: 8, Throughput: 1000},
		Server: "https://licence.example.com", GraceDays: DefaultGraceDays,
	}
}

func signed(t testing.TB, l *Licence) []byte {
	t.Helper()
	file, err := l.Sign(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGolden(t *testing.T) {
	plain := sample()
	plain.Until, plain.Server, plain.GraceDays, plain.Limit = Day{}, "", 0, Limits{}
	for name, l := range map[string]*Licence{"term": sample(), "plain": plain} {
		path := filepath.Join("testdata", name+".licence")
		file := signed(t, l)
		golden.Check(t, path, file)
		s, err := Parse(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := s.Verify(testRing)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if *got != *l {
			t.Errorf("%s: %+v, want %+v", name, got, l)
		}
	}
}

// TestEveryByteCounts: no change of a licence file is believed, wherever it is.
func TestEveryByteCounts(t *testing.T) {
	file := signed(t, sample())
	for i := range file {
		for _, bit := range []byte{1, 4, 0x20, 0x80} {
			changed := bytes.Clone(file)
			changed[i] ^= bit
			s, err := Parse(changed)
			if err != nil {
				continue
			}
			if l, err := s.Verify(testRing); err == nil {
				if !bytes.Equal(signed(t, l), file) || tidy(changed) != string(file) {
					t.Fatalf("byte %d with bit %#x changed is believed:\n%s", i, bit, changed)
				}
			}
		}
	}
}

func TestFilesRefused(t *testing.T) {
	good := string(signed(t, sample()))
	other := sample()
	other.Owner = "Somebody else"
	swap := func(a, b string) string {
		t.Helper()
		if !strings.Contains(good, a) {
			t.Fatalf("no %q in the file", a)
		}
		return strings.Replace(good, a, b, 1)
	}
	tests := []struct {
		name, file string
		is         error
		text       string
	}{
		{"empty", "", ErrForm, "first line"},
		{"too large", good + strings.Repeat("x", MaxSize), ErrForm, "the most is"},
		{"newer version", swap("LICENCE 1\n", "LICENCE 2\n"), ErrForm, "reads version 1"},
		{"header lies about the owner", swap("for Example", "for Mallory"), ErrForm, "line 2"},
		{"header lies about the term", swap("until 2027", "until 2099"), ErrForm, "line 4"},
		{"blank in the JSON", swap(`{"id"`, `{ "id"`), ErrForm, "line 5"},
		{"unknown key", swap(`{"id"`, `{"unlimited":true,"id"`), ErrForm, "unlimited"},
		{"key twice", swap(`{"id"`, `{"id":"X","id"`), ErrForm, "line 5"},
		{"other product", swap(`"twinkeep"`, `"firewall"`), ErrForm, "firewall"},
		{"group MAC", strings.ReplaceAll(good, testMAC, "01:54:00:12:34:56"), ErrForm, "not the address of a NIC"},
		{"a line too many", swap("KEY", "NOTE\nKEY"), ErrForm, "8 lines"},
		{"short signature", good[:len(good)-8] + "\n", ErrForm, "line 7"},
		{"content changed as a whole", func() string {
			body, _ := other.body(KeyID(testKey.Public().(ed25519.PublicKey)))
			return string(body) + good[strings.Index(good, signatureWord):]
		}(), ErrSignature, ""},
		{"unknown key ID", swap("KEY ", "KEY 0"), ErrKey, "it knows"},
	}
	for _, tt := range tests {
		s, err := Parse([]byte(tt.file))
		if err == nil {
			_, err = s.Verify(testRing)
		}
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, forgiven := range []string{strings.ReplaceAll(good, "\n", "\r\n"), "\n\n" + good + "\n \n", strings.ReplaceAll(good, "\n", "  \n"), strings.TrimSpace(good)} {
		if s, err := Parse([]byte(forgiven)); err != nil {
			t.Errorf("%q: %v", forgiven, err)
		} else if _, err := s.Verify(testRing); err != nil {
			t.Errorf("%q: %v", forgiven, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Licence){
		"no ID": func(l *Licence) { l.ID = "" }, "ID with a blank": func(l *Licence) { l.ID = "a b" },
		"owner with a line": func(l *Licence) { l.Owner = "A\nKEY x" }, "owner that turns the text round": func(l *Licence) { l.Owner = "A\u202eB" },
		"MAC in capitals": func(l *Licence) { l.MAC = "52:54:00:AB:CD:EF" }, "no MAC": func(l *Licence) { l.MAC = "00:00:00:00:00:00" },
		"issued with a zone":       func(l *Licence) { l.Issued = l.Issued.In(time.FixedZone("", 3600)) },
		"issued with nanoseconds":  func(l *Licence) { l.Issued = l.Issued.Add(1) },
		"term that ends too early": func(l *Licence) { l.Until = day("2026-11-21") },
		"year 9999":                func(l *Licence) { l.Until = day("9999-12-31") },
		"negative limit":           func(l *Licence) { l.Limit.Members = -1 },
		"server with a query":      func(l *Licence) { l.Server += "/?a=b" }, "server on ftp": func(l *Licence) { l.Server = "ftp://x" },
		"server without grace": func(l *Licence) { l.GraceDays = 0 }, "grace without a server": func(l *Licence) { l.Server = "" },
		"grace of a year": func(l *Licence) { l.GraceDays = 365 },
	} {
		l := sample()
		change(l)
		if _, err := l.Sign(testKey); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestPublicKeys(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "k")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "ed25519", "-out", key).CombinedOutput(); err != nil {
		t.Skipf("openssl, the independent tool of this test, is not here: %v %s", err, out)
	}
	pub, err := exec.Command("openssl", "pkey", "-in", key, "-pubout").Output()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := readKeys(fstest.MapFS{
		"keys/vendor.pub": {Data: pub}, "keys/README.md": {Data: []byte("text")}, "keys/bad.pub": {Data: []byte("text")},
		"keys/development.pub": {Data: pemOf(t, devkey.Public())},
	}, "keys")
	if len(ring) != 1 {
		t.Errorf("ring %v", ring)
	}
	for _, want := range []string{"bad.pub: not a PEM", "development.pub: this is the development key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// TestDevelopmentKey: in the ring of a build with the tag "lab" only.
func TestDevelopmentKey(t *testing.T) {
	if KeyID(devkey.Public()) != DevelopmentKeyID {
		t.Fatalf("DevelopmentKeyID is %s", KeyID(devkey.Public()))
	}
	ring, err := Pinned()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ring[DevelopmentKeyID]; ok != Lab {
		t.Errorf("the ring has the development key: %v, in a lab build: %v", ok, Lab)
	}
}

func TestAnswer(t *testing.T) {
	const nonce = "00112233445566778899aabbccddeeff"
	a := Answer{ID: "TK-1", Withdrawn: true, Why: "not paid"}
	file, err := a.Sign(nonce, testKey)
	if err != nil {
		t.Fatal(err)
	}
	if want := "TWINKEEP LICENCE ANSWER 1\n{\"id\":\"TK-1\",\"nonce\":\"" + nonce + "\",\"withdrawn\":true,\"why\":\"not paid\"}\nKEY "; !strings.HasPrefix(string(file), want) {
		t.Errorf("answer %q", file)
	}
	if got, err := ParseAnswer(file, "TK-1", nonce, testRing); err != nil || got != a {
		t.Errorf("%+v %v", got, err)
	}
	for name, bad := range map[string]func() (Answer, error){
		"another licence":  func() (Answer, error) { return ParseAnswer(file, "TK-2", nonce, testRing) },
		"another question": func() (Answer, error) { return ParseAnswer(file, "TK-1", strings.Repeat("0", 32), testRing) },
		"another key":      func() (Answer, error) { return ParseAnswer(file, "TK-1", nonce, Ring{}) },
		"changed": func() (Answer, error) {
			return ParseAnswer(bytes.Replace(file, []byte("true"), []byte("false"), 1), "TK-1", nonce, testRing)
		},
		"a licence":  func() (Answer, error) { return ParseAnswer(signed(t, sample()), "TK-2026-0001", nonce, testRing) },
		"empty":      func() (Answer, error) { return ParseAnswer(nil, "TK-1", nonce, testRing) },
		"very large": func() (Answer, error) { return ParseAnswer(make([]byte, 1<<20), "TK-1", nonce, testRing) },
	} {
		if got, err := bad(); err == nil {
			t.Errorf("%s: believed %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(signed(f, sample()))
	f.Add([]byte(fileMagic + fileVersion + "\n\n\n\n{}\nKEY \nSIGNATURE \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if err := s.Licence.Validate(); err != nil {
			t.Errorf("parsed a licence that is not valid: %v", err)
		}
		body, err := s.Licence.body(s.KeyID)
		if err != nil || !strings.HasPrefix(tidy(data), string(body)) {
			t.Errorf("%v: more than one file for a licence:\n%s\n%s", err, data, body)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	const nonce = "00112233445566778899aabbccddeeff"
	good, err := Answer{ID: "TK-1"}.Sign(nonce, testKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := ParseAnswer(data, "TK-1", nonce, testRing); err == nil && !bytes.Equal(data, good) && a.ID != "TK-1" {
			t.Errorf("believed %q", data)
		}
	})
}

func FuzzParseLedger(f *testing.F) {
	f.Add(Ledger{Boot: "x", Seen: sample().Issued}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLedger(data)
		if err != nil {
			return
		}
		if again, err := ParseLedger(l.Encode()); err != nil || again != l {
			t.Errorf("%+v became %+v, %v", l, again, err)
		}
		NewMachine(l, time.Time{}, "x", time.Hour).Step(Input{Now: 2 * time.Hour, Wall: time.Unix(0, 0)})
	})
}
