package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/devkey"
)

func keygenCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make a pair of keys: NAME.key to sign with, NAME.pub for the firmware", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			secret, err := x509.MarshalPKCS8PrivateKey(private)
			if err != nil {
				return err
			}
			open, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				return err
			}
			if err := writeNew(out+".key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})); err != nil {
				return err
			}
			if err := writeNew(out+".pub", 0o644, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open})); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s\n%s.key signs licences: keep it off line.\n%s.pub belongs into firmware/license/keys; then build the image.\n",
				license.KeyID(public), out, out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "NAME of the two files")
	cmd.MarkFlagRequired("out")
	return cmd
}

// writeNew never replaces a file: a lost key costs every licence it signed.
func writeNew(path string, mode os.FileMode, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// signer is how a command gets its signing key.
type signer struct {
	path        string
	development bool
}

func (s *signer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.path, "key", "", "file of the signing key (PEM, PKCS #8)")
	cmd.Flags().BoolVar(&s.development, "development", false, "sign with the development key, which only firmware built for the lab believes")
	cmd.MarkFlagsOneRequired("key", "development")
	cmd.MarkFlagsMutuallyExclusive("key", "development")
}

func (s *signer) key() (ed25519.PrivateKey, error) {
	if s.development {
		return devkey.Private(), nil
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: not a PEM file with a PRIVATE KEY", s.path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a %T, want an ed25519 key", s.path, parsed)
	}
	return key, nil
}
