package console

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) ifstatCommand() *cobra.Command {
	var macs bool
	cmd := &cobra.Command{
		Use: "ifstat [interface]", Short: "Show the interfaces of this device", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: s.completeInterfaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := s.client().Interfaces(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				var one []api.Interface
				for _, i := range list {
					if i.Name == args[0] || i.Device == args[0] {
						one = append(one, i)
					}
				}
				if list = one; len(one) == 0 {
					return &api.Error{Message: fmt.Sprintf("there is no interface %q", args[0]), Hint: "ifstat shows them all"}
				}
			}
			switch {
			case macs:
				return show(cmd, s, list, writeMACs)
			case len(args) == 1:
				return show(cmd, s, list, writeInterfaceDetails)
			}
			return show(cmd, s, list, writeInterfaces)
		},
	}
	cmd.Flags().BoolVar(&macs, "maclist", false, "show MAC addresses")
	return cmd
}

func writeInterfaces(w io.Writer, list []api.Interface) {
	table(w, "NAME|ZONE|LINK|SPEED|ADDRESSES|RX|TX|ERRORS|DROPS", func(row func(...any)) {
		for _, i := range list {
			row(i.Name, zone(i), linkOf(i), speed(i.Speed), prefixes(i.Addresses, ", "),
				size(i.RX.Bytes), size(i.TX.Bytes), i.RX.Errors+i.TX.Errors, i.RX.Drops+i.TX.Drops)
		}
	})
}

func writeMACs(w io.Writer, list []api.Interface) {
	licensed := slices.ContainsFunc(list, func(i api.Interface) bool { return i.Registration != "" })
	header := "NAME|DEVICE|MAC|SHARED MAC"
	if licensed {
		header += "|REGISTRATION"
	}
	table(w, header, func(row func(...any)) {
		for _, i := range list {
			cells := []any{i.Name, i.Device, i.MAC, i.SharedMAC}
			if licensed {
				cells = append(cells, i.Registration)
			}
			row(cells...)
		}
	})
}

func linkOf(i api.Interface) string {
	if i.Disabled {
		return "disabled"
	}
	return link(i.Present, i.Carrier)
}

func writeInterfaceDetails(w io.Writer, list []api.Interface) {
	for _, i := range list {
		pairs := [][2]string{
			{"Interface", i.Name}, {"Device", i.Device}, {"Zone", zone(i)}, {"Link", linkOf(i)},
			{"Speed", speed(i.Speed)}, {"MTU", fmt.Sprint(i.MTU)}, {"MAC", i.MAC}, {"Shared MAC", i.SharedMAC}, {"Licence", i.Registration},
			{"Addresses", prefixes(i.Addresses, ", ")}, {"Place", i.Place}, {"Driver", i.Driver},
			{"Received", counters(i.RX)}, {"Sent", counters(i.TX)},
		}
		for _, p := range pairs {
			if p[1] != "" {
				fmt.Fprintf(w, "%-11s %s\n", p[0]+":", p[1])
			}
		}
	}
}

func counters(c api.Counters) string {
	return fmt.Sprintf("%s in %s, %s, %s", size(c.Bytes), plural(c.Packets, "packet"), plural(c.Errors, "error"), plural(c.Drops, "drop"))
}

func zone(i api.Interface) string {
	if i.Sync {
		return "sync"
	}
	return i.Zone
}

func speed(mbit int) string {
	switch {
	case mbit <= 0:
		return ""
	case mbit%1000 == 0:
		return fmt.Sprintf("%d Gbit/s", mbit/1000)
	}
	return fmt.Sprintf("%d Mbit/s", mbit)
}

func prefixes(list []netip.Prefix, between string) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return strings.Join(texts, between)
}

func writeHardware(w io.Writer, h api.Hardware) {
	board := h.Board
	if h.BoardText != "" {
		board += " (" + h.BoardText + ")"
	}
	for _, p := range [][2]string{
		{"Board", board}, {"Machine", strings.TrimSpace(h.Vendor + " " + h.Product)},
		{"CPU", fmt.Sprintf("%s, %s", either(h.CPU, "unknown"), plural(h.Cores, "core"))},
		{"Memory", fmt.Sprintf("%s, %s available", size(h.MemoryTotal), size(h.MemoryFree))},
		{"Kernel", h.Kernel}, {"Uptime", long(h.Uptime)}, {"Watchdog", either(h.Watchdog, "none")},
	} {
		fmt.Fprintf(w, "%-10s%s\n", p[0]+":", either(p[1], "unknown"))
	}
	for _, p := range h.Problems {
		fmt.Fprintf(w, "%-10s%s\n", "Problem:", p)
	}
	if len(h.NICs) == 0 {
		fmt.Fprintln(w, "\nNo network card on PCI.")
		return
	}
	fmt.Fprintln(w)
	table(w, "DEVICE|PLACE|DRIVER|MAC|NN|SHARED MAC|PCI ID", func(row func(...any)) {
		for _, n := range h.NICs {
			row(n.Device, n.Place, n.Driver, n.MAC, fmt.Sprintf("%02x", n.NN), n.SharedMAC, n.IDs)
		}
	})
}
