package cmd

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/fetch"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
)

func keygenCommand() *cobra.Command {
	var kind, out string
	c := &cobra.Command{
		Use: "keygen", Short: "Make a key pair to sign policies with",
		Long: "Writes NAME.key, which signs and stays with the operator, and NAME.pub, which goes into policy-keys/ in the config\n" +
			"directory of every gateway. cosign generate-key-pair makes keys that gateways accept too.",
		Example: "  twinkeep policy keygen --out office",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			private, public, err := sign.Generate(sign.Kind(kind))
			if err != nil {
				return err
			}
			if err := writeNew(out+".key", private, 0o600); err != nil {
				return err
			}
			if err := writeNew(out+sign.KeySuffix, public, 0o644); err != nil {
				return err
			}
			key, err := sign.ParsePublic(public)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s.key and %s%s: key %s\n", out, out, sign.KeySuffix, sign.KeyID(key))
			return nil
		},
	}
	c.Flags().StringVar(&kind, "kind", string(sign.ECDSA), "ecdsa (P-256) or ed25519")
	c.Flags().StringVar(&out, "out", "policy", "name of the two files, without the ending")
	return c
}

func (o Options) signCommand() *cobra.Command {
	var p private
	var name, out string
	var revision uint64
	c := &cobra.Command{
		Use: "sign FILE", Short: "Sign a policy document, or add a signature to a signed policy file",
		Long: "Signs a YAML document as one revision and writes a policy file, for policy install and policy push. Given a policy\n" +
			"file, it adds the signature to that: while a key is replaced, policies carry the signatures of both.",
		Example: "  twinkeep policy sign office.yaml --name office --revision 43 --key office.key\n" +
			"  twinkeep policy sign office-r43.policy --key new.key --out both.policy",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFile(args[0])
			if err != nil {
				return err
			}
			var a *artifact.Artifact
			if strings.HasSuffix(args[0], fileSuffix) {
				a, err = artifact.ReadBundle(bytes.NewReader(data))
			} else if err = o.check(args[0], data); err == nil {
				a, err = artifact.New(artifact.Meta{Name: name, Revision: revision, Author: author(), Created: now()}, data)
			}
			if err != nil {
				return err
			}
			if err := p.sign(a); err != nil {
				return err
			}
			return writeBundle(cmd, out, a)
		},
	}
	p.flag(c)
	c.Flags().StringVar(&name, "name", "", "name of the policy, the same on every gateway of the cluster")
	c.Flags().Uint64Var(&revision, "revision", 0, "greater than every revision before; policy push finds it by itself")
	c.Flags().StringVar(&out, "out", "", "policy file to write; NAME-rREVISION.policy when empty")
	return c
}

// fileSuffix ends the names of policy files.
const fileSuffix = ".policy"

func (o Options) check(path string, document []byte) error {
	if err := o.Check(document); err != nil {
		return fmt.Errorf("%s is not signed: %w", path, err)
	}
	return nil
}

func writeBundle(cmd *cobra.Command, path string, a *artifact.Artifact) error {
	if path == "" {
		path = fmt.Sprintf("%s-r%d%s", a.Meta.Name, a.Meta.Revision, fileSuffix)
	}
	var b bytes.Buffer
	if err := artifact.WriteBundle(&b, a); err != nil {
		return err
	}
	if err := writeNew(path, b.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of policy %s\n", path, a.Ref(), a.Meta.Name)
	return nil
}

func (o Options) pushCommand() *cobra.Command {
	var s server
	var p private
	var name string
	c := &cobra.Command{
		Use: "push FILE", Short: "Sign a policy document as the next revision and publish it at the management server",
		Long: "Gateways that poll the server take it from there. A policy file is published as it is.",
		Example: "  twinkeep policy push office.yaml --key office.key\n" +
			"  twinkeep policy push office-r43.policy",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFile(args[0])
			if err != nil {
				return err
			}
			return s.with(func(r *registry.Registry) error {
				if strings.HasSuffix(args[0], fileSuffix) {
					a, err := artifact.ReadBundle(bytes.NewReader(data))
					if err != nil {
						return err
					}
					return publish(cmd, r, a)
				}
				if len(p.paths) == 0 {
					return errors.New("--key: a document is signed before it is published")
				}
				if err := o.check(args[0], data); err != nil {
					return err
				}
				meta, err := next(cmd.Context(), r)
				if err != nil {
					return err
				}
				if name != "" {
					meta.Name = name
				}
				return p.publish(cmd, r, meta, data)
			})
		},
	}
	s.flag(c)
	c.Flags().StringSliceVar(&p.paths, "key", nil, "private key; several sign all")
	c.Flags().StringVar(&name, "name", "", "name of the policy; the last part of the repository when empty")
	return c
}

// next is what follows on the server's newest revision.
func next(ctx context.Context, r *registry.Registry) (artifact.Meta, error) {
	meta := artifact.Meta{Name: filepath.Base(r.String()), Revision: 1, Author: author(), Created: now()}
	head, err := r.Head(ctx)
	if err != nil && !errors.Is(err, registry.ErrNone) {
		return meta, err
	}
	if err == nil {
		meta.Revision, meta.Previous = head.Revision+1, head.Digest
	}
	return meta, nil
}

func (p *private) publish(cmd *cobra.Command, r *registry.Registry, meta artifact.Meta, document []byte) error {
	keys, err := p.keys()
	if err != nil {
		return err
	}
	a, err := Signed(meta, document, keys...)
	if err != nil {
		return err
	}
	return publish(cmd, r, a)
}

// Signed makes a policy of a document, with the signatures of all keys.
func Signed(meta artifact.Meta, document []byte, keys ...crypto.Signer) (*artifact.Artifact, error) {
	a, err := artifact.New(meta, document)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := sign.Sign(a, key); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// publish refuses what gateways would refuse.
func publish(cmd *cobra.Command, r *registry.Registry, a *artifact.Artifact) error {
	ctx := cmd.Context()
	head, err := r.Head(ctx)
	if err != nil && !errors.Is(err, registry.ErrNone) {
		return err
	}
	if err == nil && head.Digest != a.Digest() && head.Revision >= a.Meta.Revision {
		return fmt.Errorf("the server has %s already: gateways take only what is newer; sign it again with --revision %d", head, head.Revision+1)
	}
	if err := r.Push(ctx, a); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of policy %s is published\n", r, a.Ref(), a.Meta.Name)
	return nil
}

func pullCommand() *cobra.Command {
	var s server
	var revision uint64
	var out, key string
	c := &cobra.Command{
		Use: "pull", Short: "Get a policy from the management server",
		Long: "Writes the document to standard output, or a policy file with --out. The signature is checked with --key, the public\n" +
			"key; without it, nothing says who wrote what is shown.",
		Example: "  twinkeep policy pull --revision 42 --key office.pub > office-42.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var a *artifact.Artifact
			err := s.with(func(r *registry.Registry) (err error) {
				a, err = get(cmd.Context(), r, revision)
				return err
			})
			if err != nil {
				return err
			}
			if key != "" {
				data, err := readFile(key)
				if err != nil {
					return err
				}
				public, err := sign.ParsePublic(data)
				if err != nil {
					return fmt.Errorf("%s: %w", key, err)
				}
				if _, err := (sign.Keyring{{ID: sign.KeyID(public), Name: key, Public: public}}).Verify(a); err != nil {
					return err
				}
			}
			if out != "" {
				return writeBundle(cmd, out, a)
			}
			_, err = cmd.OutOrStdout().Write(a.Document)
			return err
		},
	}
	s.flag(c)
	c.Flags().Uint64Var(&revision, "revision", 0, "which one; the newest when 0")
	c.Flags().StringVar(&out, "out", "", "policy file to write")
	c.Flags().StringVar(&key, "key", "", "public key that must have signed it")
	return c
}

func get(ctx context.Context, r *registry.Registry, revision uint64) (*artifact.Artifact, error) {
	var ref artifact.Ref
	var err error
	if revision == 0 {
		ref, err = r.Head(ctx)
	} else {
		ref, err = r.Revision(ctx, revision)
	}
	if err != nil {
		return nil, err
	}
	return (fetch.Transfer{}).Get(ctx, r, ref.Digest)
}

// rollbackHere installs the document of an older revision of this member's history as the next revision.
func (o Options) rollbackHere(cmd *cobra.Command, p private, to uint64, confirm time.Duration) error {
	st, err := o.status(cmd.Context())
	if err != nil {
		return err
	}
	newest := st.InForce.Revision
	for _, e := range st.History {
		newest = max(newest, e.Revision)
	}
	if to == st.InForce.Revision {
		return fmt.Errorf("revision %d is in force already", to)
	}
	data, err := o.call(cmd.Context(), http.MethodGet, fmt.Sprintf("%s?revision=%d", install.PathFile, to), nil)
	if err != nil {
		return err
	}
	old, err := artifact.ReadBundle(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if err := o.check(old.Ref().String(), old.Document); err != nil {
		return err
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	a, err := Signed(artifact.Meta{
		Name: old.Meta.Name, Revision: newest + 1, Previous: st.InForce.Digest, Restores: to, Author: author(), Created: now(),
	}, old.Document, keys...)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := artifact.WriteBundle(&b, a); err != nil {
		return err
	}
	q := url.Values{"operator": {author()}}
	if confirm > 0 {
		q.Set("confirm", confirm.String())
	}
	return o.install(cmd, q, b.Bytes())
}

func (o Options) rollbackCommand() *cobra.Command {
	var s server
	var p private
	var to uint64
	var here bool
	var confirm time.Duration
	c := &cobra.Command{
		Use: "rollback", Short: "Publish, or install, the document of an older revision as a new one",
		Long: "Revisions only grow, so that nobody can replay an old policy: going back is a new revision with the old content, signed\n" +
			"like every other. To leave a policy that was just installed with --confirm, use policy cancel on a gateway.",
		Example: "  twinkeep policy rollback --to 41 --key office.key\n" +
			"  twinkeep policy rollback --to 41 --key office.key --install --confirm 5m",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if here {
				return o.rollbackHere(cmd, p, to, confirm)
			}
			return s.with(func(r *registry.Registry) error {
				old, err := get(cmd.Context(), r, to)
				if err != nil {
					return err
				}
				if err := o.check(old.Ref().String(), old.Document); err != nil {
					return err
				}
				meta, err := next(cmd.Context(), r)
				if err != nil {
					return err
				}
				if to >= meta.Revision-1 {
					return fmt.Errorf("revision %d is the newest already", to)
				}
				meta.Name, meta.Restores = old.Meta.Name, to
				return p.publish(cmd, r, meta, old.Document)
			})
		},
	}
	s.flag(c)
	p.flag(c)
	c.Flags().Uint64Var(&to, "to", 0, "revision whose document comes back")
	c.Flags().BoolVar(&here, "install", false, "on a gateway: from this member's history, onto all members, without a management server")
	c.Flags().DurationVar(&confirm, "confirm", 0, "with --install: go back unless policy confirm comes within this time")
	c.MarkFlagsMutuallyExclusive("install", "settings")
	c.MarkFlagRequired("to")
	return c
}
