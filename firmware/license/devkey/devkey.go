// Package devkey is the development key of licences. Its private half is made from a sentence in this file, so everybody
// has it, and nobody must believe it: firmware does so only when it is built with the tag "lab".
package devkey

import (
	"crypto/ed25519"
	"crypto/sha256"
)

const sentence = "Twinkeep development licence key: worth nothing outside the lab"

// Private gives the signing key.
func Private() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(sentence))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Public gives the key that a lab build believes.
func Public() ed25519.PublicKey { return Private().Public().(ed25519.PublicKey) }
