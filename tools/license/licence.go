package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/devkey"
)

func issueCommand() *cobra.Command {
	var s signer
	var from, until, out string
	var days int
	l := license.Licence{Product: license.Product}
	cmd := &cobra.Command{
		Use: "issue", Short: "Sign a licence for the gateway with a registration MAC", Args: cobra.NoArgs,
		Long: "Issue signs a licence. The MAC is that of the gateway's registration interface: ifstat -maclist shows it. Without --until or\n" +
			"--days the licence has no end. With --server the gateway must reach that server now and then.",
		Example: "  license issue --key vendor.key --mac 52:54:00:12:34:56 --owner \"Example AB\" --days 365 --out example.licence",
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := s.key()
			if err != nil {
				return err
			}
			if err := dates(&l, from, until, days); err != nil {
				return err
			}
			complete(&l)
			file, err := l.Sign(key)
			if err != nil {
				return err
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(file)
				return err
			}
			return writeNew(out, 0o644, file)
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&l.MAC, "mac", "", "MAC of the registration interface")
	f.StringVar(&l.Owner, "owner", "", "who it is for")
	f.StringVar(&l.ID, "id", "", "number of the licence (default: made up)")
	f.StringVar(&from, "from", "", "first day, 2006-01-02 (default: today)")
	f.StringVar(&until, "until", "", "last day, 2006-01-02")
	f.IntVar(&days, "days", 0, "length of the term in days, instead of --until")
	f.IntVar(&l.Limit.Members, "members", 0, "members that were sold; shown, not enforced")
	f.IntVar(&l.Limit.Interfaces, "interfaces", 0, "interfaces that were sold; shown, not enforced")
	f.IntVar(&l.Limit.Throughput, "throughput", 0, "throughput that was sold in Mbit/s; shown, not enforced")
	f.StringVar(&l.Server, "server", "", "address of the licence server, http:// or https://")
	f.IntVar(&l.GraceDays, "grace", 0, fmt.Sprintf("days of running time without the server (default %d with --server)", license.DefaultGraceDays))
	f.StringVar(&out, "out", "", "file to write; it must not exist (default: standard output)")
	cmd.MarkFlagRequired("mac")
	cmd.MarkFlagRequired("owner")
	cmd.MarkFlagsMutuallyExclusive("until", "days")
	return cmd
}

func dates(l *license.Licence, from, until string, days int) (err error) {
	l.Issued = time.Now().UTC().Truncate(time.Second)
	l.From = license.DayOf(l.Issued)
	if from != "" {
		if l.From, err = license.ParseDay(from); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	switch {
	case until != "":
		if l.Until, err = license.ParseDay(until); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
	case days < 0:
		return errors.New("--days: a term has at least one day")
	case days > 0:
		l.Until = license.DayOf(l.From.Start().AddDate(0, 0, days-1))
	}
	return nil
}

// complete fills in what was not given. Only the spelling of the MAC is mended; what is wrong Sign refuses.
func complete(l *license.Licence) {
	if mac, err := net.ParseMAC(l.MAC); err == nil {
		l.MAC = mac.String()
	}
	if l.ID == "" {
		var random [4]byte
		rand.Read(random[:])
		l.ID = fmt.Sprintf("TK-%d-%s", l.Issued.Year(), strings.ToUpper(hex.EncodeToString(random[:])))
	}
	if l.Server != "" && l.GraceDays == 0 {
		l.GraceDays = license.DefaultGraceDays
	}
}

func showCommand() *cobra.Command {
	var pub string
	cmd := &cobra.Command{
		Use: "show FILE", Short: "Show a licence and check its signature", Args: cobra.ExactArgs(1),
		Long: "Show checks a licence against --pub, or against the keys that are compiled in here and the development key.",
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			signed, err := license.Parse(file)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			ring, err := ringOf(pub)
			if err != nil {
				return err
			}
			l, err := signed.Verify(ring)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			w := cmd.OutOrStdout()
			w.Write(file)
			fmt.Fprintf(w, "\nThe signature is good (key %s).\n", signed.KeyID)
			if signed.KeyID == license.DevelopmentKeyID {
				fmt.Fprintln(w, "It is the development key: only firmware built for the lab believes it.")
			}
			if !l.Until.IsZero() && time.Now().After(l.Until.End()) {
				fmt.Fprintf(w, "Its term is over since %s.\n", l.Until)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&pub, "pub", "", "file of the public key (PEM)")
	return cmd
}

func ringOf(pub string) (license.Ring, error) {
	if pub == "" {
		ring, err := license.Pinned()
		ring[license.DevelopmentKeyID] = devkey.Public()
		return ring, err
	}
	data, err := os.ReadFile(pub)
	if err != nil {
		return nil, err
	}
	key, err := license.ParsePublic(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pub, err)
	}
	return license.Ring{license.KeyID(key): key}, nil
}
