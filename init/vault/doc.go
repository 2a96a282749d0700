// Package vault keeps the secrets of a box in one encrypted file: its configuration directory, with the cluster key, the password and
// who may log in, and its SSH host key.
//
// While the box runs they are files in memory, where everybody expects them. Who changes one calls Write, which has the vault on the
// disk before it returns; what was changed in another way is found by Sync. The file is one, encrypted and authenticated as a whole: a
// file in it can neither be replaced nor left out by somebody who has the disk.
//
// The key is random. It is in the vault twice: sealed by a Sealer (package firmware/secrets does that with the TPM), and encrypted with
// a recovery key that the operator has.
package vault
