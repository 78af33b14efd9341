package main

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/keybroker"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

func newSecretCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Keep secrets, and release them on proof",
		Long: `Secrets are kept encrypted in a folder (--store), under a key in its file "kek".
A secret is released only on an attestation result that affirms, sealed to the key
that the evidence bound (see "ashlar evidence collect --key-out").`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSecretPutCmd(), newSecretGetCmd(), newSecretOpenCmd())
	return cmd
}

// storeFlag adds --store.
func storeFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "store", "", "the `FOLDER` of secrets (default $XDG_STATE_HOME/ashlar/secrets or ~/.local/state/ashlar/secrets)")
}

func openStore(dir string) (*keybroker.Broker, error) {
	if dir == "" {
		state := os.Getenv("XDG_STATE_HOME")
		if state == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("cannot find your folder of secrets, name one with --store: %w", err)
			}
			state = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(state, "ashlar", "secrets")
	}
	return keybroker.Open(dir)
}

func newSecretPutCmd() *cobra.Command {
	var dir, refs string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "put NAME",
		Short: "Keep what comes on standard input as a secret",
		Long: `Reads a secret of up to 64 KiB from standard input and keeps it, encrypted, under the
NAME, in place of one that is there. With --refvalues it is released only to machines
that were compared with exactly those reference values.

Exit code 0; 2 for misuse, or where it cannot be kept.`,
		Example: `  ashlar secret put disk-key --refvalues good.json < disk.key
  head -c 32 /dev/urandom | ashlar secret put disk-key --store /var/lib/ashlar/secrets`,
		Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := readInput(cmd, "-", keybroker.MaxSecret)
			if err != nil {
				return err
			}
			defer clear(secret)
			var rule keybroker.Rule
			if refs != "" {
				b, err := readInput(cmd, refs, tpm.MaxReferences)
				if err != nil {
					return err
				}
				if _, err := tpm.ParseReferences(b); err != nil {
					return fmt.Errorf("%s: %w", refs, err)
				}
				rule.PolicyID = tpm.ReferencesID(b)
			}
			broker, err := openStore(dir)
			if err != nil {
				return err
			}
			if err := broker.Put(args[0], secret, rule); err != nil || !asJSON {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), map[string]string{"name": args[0], "policyID": rule.PolicyID})
		},
	}
	storeFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object: name and policyID")
	cmd.Flags().StringVar(&refs, "refvalues", "", "release only on comparison with the reference values in `FILE`")
	return cmd
}

type secretGetOptions struct {
	dir, ear, key, issuer, nonce, challenge, at, out string
	json                                             bool
}

func newSecretGetCmd() *cobra.Command {
	var o secretGetOptions
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Release a secret on an attestation result that affirms",
		Long: `Checks the attestation result (an EAR): signed by the verifier whose public key is
given, of this exchange's nonce, not older than 10 minutes, affirming. Then writes the
secret, sealed to the attester's key in the result, as a JWE. Only the attester can
open it ("ashlar secret open").

Exit code 0; 1 where it is refused, with the reason; 2 for misuse.`,
		Example: `  ashlar secret get disk-key --ear result.jwt --key verifier.key.pub --challenge kept.json -o sealed.jwe
  ashlar secret get disk-key --ear result.jwt --key verifier.key.pub --nonce 0badc0de0badc0de`,
		Args: one("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return runSecretGet(cmd, args[0], &o) },
	}
	storeFlag(cmd, &o.dir)
	f := cmd.Flags()
	f.StringVar(&o.ear, "ear", "", "the attestation result, in `FILE`")
	f.StringVar(&o.key, "key", "", "the verifier's public key, PEM or JWK in `FILE`")
	f.StringVar(&o.issuer, "issuer", verifier.DefaultIssuer, "the verifier's `NAME` that the result must have")
	f.StringVar(&o.nonce, "nonce", "", "the nonce of this exchange, in `HEX`")
	f.StringVar(&o.challenge, "challenge", "", "the kept state of the challenge, in `FILE`, for its nonce")
	f.StringVar(&o.at, "at", "", "judge as at this `TIME` (RFC 3339); default is now")
	f.BoolVar(&o.json, "json", false, "print one JSON object: name, released, reason, why, and sealed unless -o is given")
	f.StringVarP(&o.out, "output", "o", "-", "write the sealed secret to `FILE`, - for standard output")
	for _, name := range []string{"ear", "key"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	cmd.MarkFlagsOneRequired("nonce", "challenge")
	cmd.MarkFlagsMutuallyExclusive("nonce", "challenge")
	return cmd
}

// trust reads whose results count, in which exchange.
func (o *secretGetOptions) trust(cmd *cobra.Command) (keybroker.Trust, error) {
	t := keybroker.Trust{Issuer: o.issuer, Now: time.Now()}
	b, err := readInput(cmd, o.key, rats.MaxKeyFile)
	if err != nil {
		return t, err
	}
	key, err := rats.ParsePublicKey(b)
	if err != nil {
		return t, fmt.Errorf("%s: %w", o.key, err)
	}
	t.Keys = []*ecdsa.PublicKey{key}
	if o.at != "" {
		if t.Now, err = time.Parse(time.RFC3339, o.at); err != nil {
			return t, fmt.Errorf("--at %q is no time: write it like 2026-11-21T12:00:00Z", o.at)
		}
	}
	if o.challenge == "" {
		t.Nonce, err = rats.ParseNonce(o.nonce)
		return t, err
	}
	if b, err = readInput(cmd, o.challenge, identity.MaxMessage); err != nil {
		return t, err
	}
	_, t.Nonce, err = identity.ParseChallengeState(b, t.Now)
	return t, err
}

func runSecretGet(cmd *cobra.Command, name string, o *secretGetOptions) error {
	t, err := o.trust(cmd)
	if err != nil {
		return err
	}
	ear, err := readInput(cmd, o.ear, rats.MaxToken)
	if err != nil {
		return err
	}
	broker, err := openStore(o.dir)
	if err != nil {
		return err
	}
	sealed, err := broker.Release(name, trimmed(ear), t)
	var no *keybroker.Refusal
	if errors.As(err, &no) {
		if o.json {
			if err := writeJSON(cmd.OutOrStdout(), releaseJSON{Name: name, Reason: no.Reason, Why: no.Why}); err != nil {
				return err
			}
		}
		return refuse(no.Why)
	}
	if err != nil {
		return err
	}
	j := releaseJSON{Name: name, Released: true}
	switch {
	case o.out != "-":
		err = os.WriteFile(o.out, []byte(sealed+"\n"), 0o644)
	case !o.json:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), sealed)
	default:
		j.Sealed = sealed
	}
	if err != nil || !o.json {
		return err
	}
	return writeJSON(cmd.OutOrStdout(), j)
}

// releaseJSON is a release, or the refusal of one, for machines.
type releaseJSON struct {
	Name     string `json:"name"`
	Released bool   `json:"released"`
	Reason   string `json:"reason,omitempty"`
	Why      string `json:"why,omitempty"`
	Sealed   string `json:"sealed,omitempty"` // a JWE
}

func newSecretOpenCmd() *cobra.Command {
	var keyFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "open SEALED",
		Short: "Open a released secret, where the evidence was collected",
		Long: `Opens what "ashlar secret get" wrote with the key that "ashlar evidence collect
--key-out" made, and writes the secret to standard output as it is.

Exit code 0; 1 where the key does not open it; 2 for misuse.`,
		Example: "  ashlar secret open --key attester.key sealed.jwe > disk.key",
		Args:    one("SEALED"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kb, err := readInput(cmd, keyFile, rats.MaxKeyFile)
			if err != nil {
				return err
			}
			key, err := rats.ParsePrivateKey(kb)
			if err != nil {
				return fmt.Errorf("%s: %w", keyFile, err)
			}
			b, err := readInput(cmd, args[0], 4*keybroker.MaxSecret)
			if err != nil {
				return err
			}
			secret, err := keybroker.OpenSealed(trimmed(b), key)
			if err != nil {
				return refuse(err.Error())
			}
			defer clear(secret)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string][]byte{"secret": secret})
			}
			_, err = cmd.OutOrStdout().Write(secret)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object with the secret in base64")
	cmd.Flags().StringVar(&keyFile, "key", "", "the attester's key, in `FILE`")
	_ = cmd.MarkFlagRequired("key") // fails only for a flag that does not exist
	return cmd
}
