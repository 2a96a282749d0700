package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// hardwareAnswer is what the command hardware shows: the box, and its case if hald runs.
type hardwareAnswer struct {
	api.Hardware
	Panel *api.Panel `json:"panel,omitempty"`
}

func (s *session) hardwareCommand() *cobra.Command {
	cmd := get(s, &cobra.Command{Use: "hardware", Short: "Show the board, CPU, memory, network cards, LEDs, buttons, temperatures, watchdog"},
		func(c *api.Client, ctx context.Context) (hardwareAnswer, error) {
			h, err := c.Hardware(ctx)
			if err != nil {
				return hardwareAnswer{}, err
			}
			p, err := c.Panel(ctx)
			if err != nil {
				// A member in a namespace has no hald; elsewhere it may just be starting.
				if !errors.Is(err, fs.ErrNotExist) {
					h.Problems = append(h.Problems, err.Error())
				}
				return hardwareAnswer{Hardware: h}, nil
			}
			return hardwareAnswer{h, &p}, nil
		},
		func(w io.Writer, a hardwareAnswer) {
			writeHardware(w, a.Hardware)
			if a.Panel != nil {
				writePanel(w, *a.Panel)
			}
		})
	cmd.AddCommand(s.locateCommand(), s.hardwareDiffCommand())
	return cmd
}

func (s *session) locateCommand() *cobra.Command {
	length, off := time.Minute, false
	cmd := &cobra.Command{
		Use: "locate", Short: "Make all LEDs of this device blink, to find it in the rack", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if off {
				length = 0
			}
			message, err := s.client().Locate(cmd.Context(), api.Locate{For: member.Duration(length)})
			if err != nil {
				return err
			}
			return s.say(cmd, message)
		},
	}
	cmd.Flags().DurationVar(&length, "for", length, "how long, at most 1h")
	cmd.Flags().BoolVar(&off, "off", false, "end it")
	return cmd
}

// writePanel shows the case.
func writePanel(w io.Writer, p api.Panel) {
	fmt.Fprintf(w, "\nCase:     %s", p.Status)
	if p.Showing != "" {
		fmt.Fprintf(w, " (the LEDs show: %s)", p.Showing)
	}
	fmt.Fprintln(w)
	for _, r := range p.Reasons {
		fmt.Fprintf(w, "          %s\n", r)
	}
	if v := p.Watch; v != nil {
		fmt.Fprintf(w, "Watchdog: %s, %s, %d s", v.Identity, either(v.State, "state unknown"), v.Timeout)
		if v.Left > 0 {
			fmt.Fprintf(w, " (%d left)", v.Left)
		}
		if v.Fired {
			fmt.Fprint(w, "; it caused the last reset")
		}
		fmt.Fprintln(w)
	}
	if len(p.LEDs)+len(p.Buttons)+len(p.Sensors) == 0 && p.Power == nil && p.Buzzer == nil {
		fmt.Fprintln(w, "No LED, button or sensor is known for this board.")
		return
	}
	fmt.Fprintln(w)
	table(w, "PART|NAME|USE|STATE|DEVICE|PROBLEM", func(row func(...any)) {
		for _, l := range p.LEDs {
			row("LED", l.Name, l.Shows, map[bool]string{true: "lit", false: "dark"}[l.Lit], l.Device, l.Problem)
		}
		for _, b := range p.Buttons {
			row("button", b.Name, b.Use, fmt.Sprintf("%s, pressed %s", b.State, plural(b.Presses, "time")), b.Device, b.Problem)
		}
		for _, t := range p.Sensors {
			row("sensor", t.Name, sensorLimits(t), temperature(t), t.Chip, t.Problem)
		}
		if f := p.Power; f != nil {
			row("input", "power-fail", "", map[bool]string{true: "failing", false: "good"}[f.Failing]+", failed "+plural(f.Count, "time"), f.Device, f.Problem)
		}
		if b := p.Buzzer; b != nil {
			row("buzzer", "", "", "", b.Device, b.Problem)
		}
	})
}

func temperature(t api.PanelSensor) string {
	if t.Level == "" {
		return "no reading"
	}
	return fmt.Sprintf("%.1f C, %s", t.Celsius, t.Level)
}

func sensorLimits(t api.PanelSensor) string {
	if t.Warn == 0 && t.Critical == 0 {
		return "no limits"
	}
	text := fmt.Sprintf("%.0f/%.0f C", t.Warn, t.Critical)
	if t.Device {
		text += ", unfit"
	}
	return text
}
