package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/license"
)

func serveCommand() *cobra.Command {
	var s signer
	var listen, list, cert, certKey string
	cmd := &cobra.Command{
		Use: "serve", Short: "Answer gateways whether their licence stands", Args: cobra.NoArgs,
		Long: "Serve answers for the licences in a file, one a line: the ID, and behind it, when it is withdrawn, the word withdrawn and why.\n" +
			"The file is read anew for every question. Answers are signed, so TLS (--cert, --cert-key) hides them, but proves nothing.",
		Example: "  license serve --key vendor.key --listen :8443 --list licences.txt\n\n  # licences.txt\n  TK-2026-0001\n  TK-2026-0002 withdrawn not paid",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := s.key()
			if err != nil {
				return err
			}
			if _, err := readList(list); err != nil {
				return err
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "answering on %s\n", ln.Addr())
			return serve(cmd.Context(), ln, handler(list, key), cert, certKey)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&listen, "listen", ":8443", "address to listen on")
	cmd.Flags().StringVar(&list, "list", "", "file of the licences")
	cmd.Flags().StringVar(&cert, "cert", "", "TLS certificate (PEM)")
	cmd.Flags().StringVar(&certKey, "cert-key", "", "key of the TLS certificate (PEM)")
	cmd.MarkFlagRequired("list")
	cmd.MarkFlagsRequiredTogether("cert", "cert-key")
	return cmd
}

func serve(ctx context.Context, ln net.Listener, h http.Handler, cert, certKey string) error {
	server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	var err error
	if cert != "" {
		err = server.ServeTLS(ln, cert, certKey)
	} else {
		err = server.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// handler answers GET /v1/licences/{id}?nonce=….
func handler(list string, key ed25519.PrivateKey) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/licences/{id}", func(w http.ResponseWriter, r *http.Request) {
		licences, err := readList(list)
		if err != nil {
			log.Print(err)
			http.Error(w, "the list of licences cannot be read", http.StatusInternalServerError)
			return
		}
		answer, ok := licences[r.PathValue("id")]
		if !ok {
			http.Error(w, "this licence is not in the list", http.StatusNotFound)
			return
		}
		file, err := answer.Sign(r.FormValue("nonce"), key)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(file)
	})
	return mux
}

// readList reads the licences that the server answers for.
func readList(path string) (map[string]license.Answer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]license.Answer{}
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		id, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if id == "" || strings.HasPrefix(id, "#") {
			continue
		}
		a := license.Answer{ID: id}
		if rest = strings.TrimSpace(rest); rest != "" {
			word, why, _ := strings.Cut(rest, " ")
			if word != "withdrawn" {
				return nil, fmt.Errorf("%s:%d: %q behind the ID: only withdrawn, and why, may stand there", path, number, word)
			}
			a.Withdrawn, a.Why = true, strings.TrimSpace(why)
		}
		out[id] = a
	}
	return out, lines.Err()
}
