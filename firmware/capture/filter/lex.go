package filter

import (
	"fmt"
	"strings"
)

// kind of a token.
type kind uint8

const (
	end kind = iota
	word
	symbol
)

// token is one word or symbol of an expression.
type token struct {
	kind kind
	text string
	at   int // offset of its first byte
}

// Error is an expression that cannot be compiled.
type Error struct {
	// Expression is the whole of it, At the offset in it of what is wrong, in bytes.
	Expression string
	At         int
	// Text says what is wrong, Hint what to write instead; Hint may be empty.
	Text, Hint string
}

// Error names the place and what is wrong there.
func (e *Error) Error() string {
	if e.At >= len(e.Expression) {
		return "filter: at its end: " + e.Text
	}
	near := e.Expression[e.At:]
	if i := strings.IndexAny(near[1:], " \t\n"); i >= 0 {
		near = near[:i+1]
	}
	return fmt.Sprintf("filter: at %.40q (character %d): %s", near, e.At+1, e.Text)
}

// symbols, longest first.
var symbols = []string{"&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "(", ")", "[", "]", "!", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", ":"}

// lex cuts an expression into tokens; the last one is of kind end.
func lex(text string) ([]token, error) {
	var out []token
	brackets := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case c == '\\':
			i++ // tcpdump's mark before protocol names
			continue
		}
		if n := wordLength(text[i:], brackets > 0); n > 0 {
			out = append(out, token{word, text[i : i+n], i})
			i += n
			continue
		}
		n := 0
		for _, s := range symbols {
			if strings.HasPrefix(text[i:], s) {
				n = len(s)
				break
			}
		}
		switch {
		case n == 0:
			return nil, &Error{text, i, fmt.Sprintf("%q means nothing here", rune(c)), ""}
		case c == '[':
			brackets++
		case c == ']' && brackets > 0:
			brackets--
		}
		out = append(out, token{symbol, text[i : i+n], i})
		i += n
	}
	return append(out, token{end, "", len(text)}), nil
}

// wordLength is the length of the word at the start of s, 0 if there is none. Words are names, numbers, addresses, ranges. In brackets a
// colon divides offset and size, and a minus behind a number subtracts.
func wordLength(s string, inBrackets bool) int {
	letter := func(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	first := s[0]
	if !letter(first) && !digit(first) && (inBrackets || !strings.HasPrefix(s, "::")) {
		return 0
	}
	n := 1
	for n < len(s) {
		c := s[n]
		inside := letter(c) || digit(c) || c == '.' || c == ':' && !inBrackets || c == '-' && !(inBrackets && digit(first))
		if !inside {
			break
		}
		n++
	}
	return n
}
