package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

const keyUsage = "the key of %s, by the `OPTIONS` of swtpm's --key: file=FILE or pwdfile=FILE, with format=, kdf= and mode="

// readKey reads a key where there is one.
func readKey(option string) (*swtpm.Key, error) {
	if option == "" {
		return nil, nil
	}
	return swtpm.ReadKey(option)
}

func wipe(keys ...*swtpm.Key) {
	for _, k := range keys {
		k.Wipe()
	}
}

// keyFlags are the keys of where a TPM comes from and of where it goes.
type keyFlags struct{ from, to string }

// noKey is a --new-key for what shall be in clear.
const noKey = "none"

func (k *keyFlags) add(cmd *cobra.Command, from, to string) {
	cmd.Flags().StringVar(&k.from, "key", "", fmt.Sprintf(keyUsage, from))
	cmd.Flags().StringVar(&k.to, "new-key", "", fmt.Sprintf("the key of %s, by the same `OPTIONS`; %q leaves it in clear (that of %s)", to, noKey, from))
}

// read gives both keys, nil where there is none; without --new-key they are one.
func (k *keyFlags) read() (from, to *swtpm.Key, err error) {
	if from, err = readKey(k.from); err != nil {
		return nil, nil, err
	}
	switch k.to {
	case "":
		return from, from, nil
	case noKey:
		return from, nil, nil
	}
	if to, err = readKey(k.to); err != nil {
		from.Wipe()
		return nil, nil, err
	}
	return from, to, nil
}

func newTPMRekeyCmd() *cobra.Command {
	var keys keyFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rekey DIR",
		Short: "Encrypt a TPM's state, or change its key",
		Long: `Encrypts the TPM in DIR, which must not run, under the key --new-key, or leaves it
in clear where that is "none". --key is the key that it has. What the file held is
overwritten, in the second copy of --tpmstate backup as well; a file system or a disk
that writes elsewhere, and other copies, may keep a state that was there in clear, or
under a key that others know.

Exit code 0: done. 1: refused, with the reason, and nothing was changed. 2: misuse.`,
		Example: "  ashlar tpm rekey ./vm1 --new-key pwdfile=secret\n" +
			"  ashlar tpm rekey ./vm1 --key pwdfile=secret --new-key file=key,mode=aes-256-cbc\n" +
			"  ashlar tpm rekey ./vm1 --key pwdfile=secret --new-key none",
		Args: one("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keys.to == "" {
				return errors.New("--new-key is missing: " + cmd.UseLine())
			}
			from, to, err := keys.read()
			if err != nil {
				return err
			}
			defer wipe(from, to)
			if _, err := os.Stat(args[0]); err != nil {
				return refuse(err.Error())
			}
			path, err := locked(args[0], func(d *store.Dir) (string, error) {
				return swtpm.Rekey(d, engineConfig(), from, to)
			})
			if err != nil {
				return refuse(err.Error())
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]string{"state": path})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has its new key.\n", path)
			return err
		},
	}
	keys.add(cmd, "DIR", "DIR from now on")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}
