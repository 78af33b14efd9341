package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/demo"
	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
)

func newDemoCmd() *cobra.Command {
	var opt demo.Options
	var toStdout bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Boot a real machine four times: proved, given its secret, refused twice",
		Long: `Boots a Debian kernel through OVMF under QEMU with Ashlar's TPM, four times: to take
reference values; unchanged, which is affirmed and given its secret; with a changed
kernel command line and with a program that no policy lists, which are both refused
with the reason.

It says which Debian packages it needs and asks before it installs them, unless
--yes is given or CI is set. The guest's kernel is unpacked, never installed.

Exit code 0: all of it happened. 1: something did not, with the reason. 2: misuse.`,
		Example: `  ashlar demo
  ashlar demo --yes --json-file demo.json
  ashlar demo --device tpm-tis --keep /tmp/demo`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.In, opt.Out = cmd.InOrStdin(), cmd.OutOrStdout()
			if toStdout {
				opt.Out, opt.Result = cmd.ErrOrStderr(), cmd.OutOrStdout()
			}
			return runDemo(cmd.Context(), opt)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opt.Yes, "yes", "y", false, "install missing packages without asking")
	f.StringVar(&opt.Dir, "keep", "demo-out", "keep evidence and logs in `DIR`; what an earlier demo left there is replaced")
	f.StringVar(&opt.HTML, "html", "demo.html", "write the page that shows the boots side by side to `FILE`")
	f.StringVar(&opt.JSON, "json-file", "", "write the result as JSON to `FILE`")
	f.BoolVar(&toStdout, "json", false, "print the result as JSON, and the progress on standard error")
	f.StringVar(&opt.Device, "device", guest.CRB, "how the guest sees its TPM: tpm-crb or tpm-tis")
	f.StringVar(&opt.TPM, "swtpm", "", "the `PROGRAM` that is the TPM (default: swtpm beside this program)")
	return cmd
}

// runDemo fills in where this program and its TPM are, and lets an interrupt end
// the guests as well.
func runDemo(ctx context.Context, opt demo.Options) error {
	if opt.Device != guest.CRB && opt.Device != guest.TIS {
		return fmt.Errorf("--device %s: a guest's TPM is a %s or a %s", opt.Device, guest.CRB, guest.TIS)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	opt.Attester, opt.Self = self, os.Args[0]
	if opt.TPM == "" {
		opt.TPM = filepath.Join(filepath.Dir(self), "swtpm")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo.Run(ctx, opt); err != nil {
		return refuse("The demo did not end well: " + err.Error())
	}
	return nil
}
