package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

func newTPMBackupCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backup SOURCE DIR",
		Short: "Copy a TPM, which may run",
		Long: `Copies the TPM in SOURCE, a directory or the one file of backend-uri=file://, into
the directory DIR, where there must be none. The TPM may run meanwhile: the copy is of
one moment, and what was acknowledged before is in it. What is encrypted stays so, and
no key is needed.

Exit code 0: copied. 1: refused, with the reason. 2: misuse.`,
		Example: "  ashlar tpm backup /var/lib/libvirt/swtpm/UUID/tpm2 /backup/UUID",
		Args:    two("SOURCE", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := inDir(args[1], func(d *store.Dir) (string, error) { return swtpm.Backup(args[0], d) })
			if err != nil {
				return refuse(err.Error())
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"state": path})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The copy is in %s. To put it back: ashlar tpm restore %s %s\n", path, args[1], args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

func newTPMRestoreCmd() *cobra.Command {
	var key string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore BACKUP DIR",
		Short: "Put a copy of a TPM back, and have it show",
		Long: `Puts the copy of a TPM in BACKUP in the place of what is left of that TPM in DIR,
which must not run. What the TPM did since the copy is undone: indices and counters
go back. That shows from then on in all that it attests: resetCount is larger than
any that was shown before, Clock does not go back and is not safe at first. Plain copying does the
same, but does not show. Another TPM in DIR is left as it is.

Exit code 0: put back. 1: refused, with the reason. 2: misuse.`,
		Example: "  ashlar tpm restore /backup/UUID /var/lib/libvirt/swtpm/UUID/tpm2",
		Args:    two("BACKUP", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := readKey(key)
			if err != nil {
				return err
			}
			defer k.Wipe()
			var reverted bool
			path, err := inDir(args[1], func(d *store.Dir) (path string, err error) {
				path, reverted, err = swtpm.Restore(args[0], d, k, engineConfig())
				return path, err
			})
			if err != nil {
				return refuse(err.Error())
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"state": path, "reverted": reverted})
			}
			how := "It is no older than what was there."
			if reverted {
				how = "Its attestations show that it was put back."
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The TPM is in %s. %s\n", path, how)
			return err
		},
	}
	cmd.Flags().StringVar(&key, "key", "", fmt.Sprintf(keyUsage, "both"))
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}
