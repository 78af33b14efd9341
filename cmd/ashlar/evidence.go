package main

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/agent"
	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func newEvidenceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Collect evidence from a TPM, in a guest or over a socket",
		Long: `The attester's side of an attestation, and the verifier's challenge to it:

  1. attester  evidence identity   says which keys its TPM has
  2. verifier  evidence challenge  makes a nonce, and a secret that only this TPM can open
  3. attester  evidence collect    opens it, quotes the PCRs, adds the logs
  4. verifier  appraise tpm-quote  examines the bundle

Step 3 alone, with --nonce, is enough where the attestation key is known already.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEvidenceIdentityCmd(), newEvidenceChallengeCmd(), newEvidenceCollectCmd())
	return cmd
}

// tpmFlag adds --tpm.
func tpmFlag(cmd *cobra.Command, where *string) {
	cmd.Flags().StringVar(where, "tpm", "", "the TPM: a device, unix:PATH, tcp:HOST:PORT or swtpm:path=P (default /dev/tpmrm0 or /dev/tpm0)")
}

func newEvidenceIdentityCmd() *cobra.Command {
	var where, out string
	cmd := &cobra.Command{
		Use:   "identity",
		Short: "Say which endorsement key and attestation key the TPM has",
		Long: `Writes the TPM's endorsement key, its certificate if there is one, and its attestation
key as JSON. Nothing in it is secret, and nothing is proven yet.

Exit code 0; 2 where the TPM cannot be reached or refuses.`,
		Example: `  ashlar evidence identity -o identity.json
  ashlar evidence identity --tpm swtpm:path=/run/tpm.sock -o -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := agent.OpenTPM(where)
			if err != nil {
				return err
			}
			defer t.Close()
			doc, err := agent.Identify(t)
			if err != nil {
				return err
			}
			return writeFile(cmd, out, doc, 0o644)
		},
	}
	tpmFlag(cmd, &where)
	jsonNote(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "-", "write to `FILE`, - for standard output")
	return cmd
}

func newEvidenceChallengeCmd() *cobra.Command {
	var out, keep string
	cmd := &cobra.Command{
		Use:   "challenge IDENTITY",
		Short: "Make a challenge that only the identified TPM can answer (verifier)",
		Long: `Draws a nonce and a secret, and encrypts the secret so that only a TPM with the
endorsement key opens it, and only for the attestation key. The challenge goes to the
attester; the state is kept, as it holds the secret in clear. Both are good for 15
minutes.

Exit code 0; 1 where a key of the identity is not fit for it; 2 for misuse.`,
		Example: `  ashlar evidence challenge identity.json -o challenge.json --keep kept.json
  ashlar appraise tpm-quote bundle.json --challenge kept.json --endorsement ek.pub`,
		Args: one("IDENTITY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readInput(cmd, args[0], identity.MaxMessage)
			if err != nil {
				return err
			}
			_, ek, ak, err := identity.ParseDocument(b)
			if err != nil {
				return refuse(fmt.Sprintf("%s: %v", args[0], err))
			}
			nonce, err := rats.NewNonce(nil)
			if err != nil {
				return err
			}
			msg, state, err := identity.Issue(ek, ak, nonce, time.Now())
			if err != nil {
				return refuse(err.Error())
			}
			if err := writeFile(cmd, keep, state, 0o600); err != nil {
				return err
			}
			return writeFile(cmd, out, msg, 0o644)
		},
	}
	jsonNote(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "-", "write the challenge to `FILE`, - for standard output")
	cmd.Flags().StringVar(&keep, "keep", "", "keep the state in `FILE`, readable to you alone")
	_ = cmd.MarkFlagRequired("keep") // fails only for a flag that does not exist
	return cmd
}

type collectOptions struct {
	where, out, nonce, challenge, keyOut, eventlog, ima string
	banks                                               []string
}

func newEvidenceCollectCmd() *cobra.Command {
	var o collectOptions
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Quote the PCRs and gather the logs that explain them",
		Long: `Quotes all 24 PCRs under the nonce, or under the challenge's, which it also answers,
and writes a bundle of quote, PCR values, keys, event log and IMA log as JSON.

With --key-out it makes a key, binds it to the quote and keeps the private half in
that file: what a key broker releases on this evidence is sealed to it (open it with
"ashlar secret open").

Exit code 0; 1 where the TPM does not open the challenge; 2 for misuse, or where the
TPM cannot be reached.`,
		Example: `  ashlar evidence collect --challenge challenge.json --key-out attester.key -o bundle.json
  ashlar evidence collect --nonce 0badc0de -o bundle.json
  ashlar evidence collect --nonce 0badc0de --banks sha1,sha256 --tpm unix:/run/tpm.sock -o bundle.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runCollect(cmd, &o) },
	}
	tpmFlag(cmd, &o.where)
	jsonNote(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.out, "output", "o", "-", "write the bundle to `FILE`, - for standard output")
	f.StringVar(&o.nonce, "nonce", "", "the verifier's nonce, in `HEX`")
	f.StringVar(&o.challenge, "challenge", "", "the verifier's challenge, in `FILE`")
	f.StringVar(&o.keyOut, "key-out", "", "make a key, bind it to the quote, and keep it in `FILE`")
	f.StringSliceVar(&o.banks, "banks", []string{"sha256"}, "the PCR banks to quote")
	f.StringVar(&o.eventlog, "eventlog", agent.EventLogPath, "where the event log is")
	f.StringVar(&o.ima, "ima", agent.IMALogPath, "where the IMA log is")
	cmd.MarkFlagsOneRequired("nonce", "challenge")
	cmd.MarkFlagsMutuallyExclusive("nonce", "challenge")
	return cmd
}

func runCollect(cmd *cobra.Command, o *collectOptions) error {
	opt := agent.Options{EventLog: o.eventlog, IMALog: o.ima, CommandLine: agent.CommandLinePath, Now: time.Now()}
	if err := o.session(cmd, &opt); err != nil {
		return err
	}
	for _, name := range o.banks {
		alg, ok := tpm2.ParseAlg(name)
		if !ok || alg.DigestSize() == 0 {
			return fmt.Errorf("there is no PCR bank %q: sha1, sha256, sha384 and sha512 are known", name)
		}
		opt.Banks = append(opt.Banks, alg)
	}
	var key *ecdsa.PrivateKey
	if o.keyOut != "" {
		var err error
		if key, err = rats.GenerateKey(); err != nil {
			return err
		}
		opt.Key = &key.PublicKey
	}
	t, err := agent.OpenTPM(o.where)
	if err != nil {
		return err
	}
	defer t.Close()
	bundle, err := agent.Collect(t, opt)
	var no *agent.ChallengeError
	if errors.As(err, &no) {
		return refuse(err.Error())
	}
	if err != nil {
		return err
	}
	if key != nil {
		if err := os.Remove(o.keyOut); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := writeKeyPair(key, o.keyOut, ""); err != nil {
			return err
		}
	}
	return writeFile(cmd, o.out, bundle, 0o644)
}

// session reads the nonce, or the challenge that carries one.
func (o *collectOptions) session(cmd *cobra.Command, opt *agent.Options) error {
	if o.challenge == "" {
		n, err := rats.ParseNonce(o.nonce)
		opt.Nonce = n
		return err
	}
	b, err := readInput(cmd, o.challenge, identity.MaxMessage)
	if err != nil {
		return err
	}
	msg, nonce, err := identity.ParseChallenge(b)
	if err != nil {
		return fmt.Errorf("%s: %w", o.challenge, err)
	}
	opt.Challenge, opt.Nonce = msg, nonce
	return nil
}

// writeFile writes v as indented JSON; - is standard output.
func writeFile(cmd *cobra.Command, path string, v any, mode os.FileMode) error {
	if path == "-" {
		return writeJSON(cmd.OutOrStdout(), v)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	if mode&0o077 == 0 {
		// A file that is there already keeps its mode: make it anew.
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return os.WriteFile(path, append(b, '\n'), mode)
}

// trimmed is a one-line file's content.
func trimmed(b []byte) string { return strings.TrimSpace(string(b)) }
