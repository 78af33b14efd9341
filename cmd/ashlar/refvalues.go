package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

func newRefvaluesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refvalues",
		Short: "Make reference values: what a good boot measures",
		Long:  "Reference values say which measurements are good; appraise compares with them.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRefvaluesMakeCmd())
	return cmd
}

func newRefvaluesMakeCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "make BUNDLE...",
		Short: "Take reference values from the evidence of good boots",
		Long: `Reads bundles of "ashlar evidence collect", checks that each holds by itself (its quote
is signed by the key in it, and the logs lead to the quoted PCRs), and writes their
events by PCR, and the files that IMA measured, as reference values in JSON.

Whether those boots were good is for you to know. Give several bundles where boots
differ for good reasons: each PCR may then be as in any of them.

Exit code 0; 1 where a bundle does not hold by itself; 2 for misuse.`,
		Example: `  ashlar refvalues make bundle.json -o good.json
  ashlar refvalues make boot1.json boot2.json -o good.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("BUNDLE is missing: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var boots []*tpm.Evidence
			for _, name := range args {
				b, err := readInput(cmd, name, tpm.MaxBundle)
				if err != nil {
					return err
				}
				ev, err := tpm.ParseBundle(b)
				if err != nil {
					return refuse(fmt.Sprintf("%s: %v", name, err))
				}
				boots = append(boots, ev)
			}
			refs, err := tpm.MakeReferences(boots, time.Now())
			if err != nil {
				return refuse(err.Error())
			}
			return writeFile(cmd, out, refs, 0o644)
		},
	}
	jsonNote(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "-", "write to `FILE`, - for standard output")
	return cmd
}
