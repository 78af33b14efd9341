// Command ashlar gives every virtual machine its own TPM, lets it prove what it
// runs, and lets secrets follow the proof. One verb, one file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and gives its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	var slow *time.Timer
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { slow = tellIfSlow(errOut, cmd) }
	cmd, err := root.ExecuteContextC(ctx)
	if slow != nil {
		slow.Stop()
	}
	report(errOut, cmd, err)
	return exitCode(err)
}

// tellIfSlow says on a terminal that a verb is at work when it takes more than two
// seconds, unless it reports for itself.
func tellIfSlow(w io.Writer, cmd *cobra.Command) *time.Timer {
	f := terminal(w)
	if f == nil || slices.Contains([]string{"demo", "start", "takeover"}, cmd.Name()) {
		return nil
	}
	return time.AfterFunc(2*time.Second, func() { fmt.Fprintf(f, "%s: still at work …\n", cmd.CommandPath()) })
}

// terminal is a writer as the terminal that it is, else nil.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}

// report writes an error for people: a refusal with a line for each reason, a
// misuse with where to look.
func report(w io.Writer, cmd *cobra.Command, err error) {
	if err == nil {
		return
	}
	var r *refused
	if !errors.As(err, &r) {
		fmt.Fprintf(w, "ashlar: %s\nSee %q.\n", plain(err.Error()), cmd.CommandPath()+" --help")
		return
	}
	for _, reason := range r.reasons {
		fmt.Fprintf(w, "refused: %s\n", plain(reason))
	}
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "ashlar",
		Short: "A TPM for every virtual machine, and proof of what it runs",
		Long: `Ashlar gives every virtual machine its own TPM, lets it prove what it booted and
runs, and releases secrets on that proof.

Every verb ends with exit code 0 where it holds or is done, 1 where it is refused,
with the reason on standard error, and 2 where it was misused.`,
		Example: `  ashlar demo
  ashlar appraise tpm-quote quote.msg quote.sig --key ak.pem --nonce 0badc0de
  ashlar eventlog /sys/kernel/security/tpm0/binary_bios_measurements`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(verbs()...)
	return root
}

// verbs lists the verbs, one file each.
func verbs() []*cobra.Command {
	return []*cobra.Command{
		newAppraiseCmd(), newCollateralCmd(), newDemoCmd(), newEventlogCmd(), newEvidenceCmd(), newIMACmd(), newPredictCmd(),
		newRefvaluesCmd(), newSecretCmd(), newTPMCmd(), newVersionCmd(),
	}
}
