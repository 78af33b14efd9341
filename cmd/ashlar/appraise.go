package main

import (
	"crypto/ecdsa"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// maxEvidenceFile bounds each file that appraise reads.
const maxEvidenceFile = tpm.MaxBundle

type appraiseOptions struct {
	key, nonce, pcrs, eventlog, refvalues, at, challenge string
	endorsements, ima                                    []string
	ear, signingKey, issuer, collateral                  string
	mirrors                                              []string
	json, verbose, affirm, fetch                         bool
}

func newAppraiseCmd() *cobra.Command {
	var o appraiseOptions
	cmd := &cobra.Command{
		Use:   "appraise KIND FILE...",
		Short: "Examine evidence and say whether it holds, and if not, why",
		Long: "Appraises evidence of a KIND:\n\n" + kindTable() + `
For tpm-quote the FILEs are a bundle of "ashlar evidence collect", or what tpm2_quote
wrote: the message, then the signature, then if you like the PCR values, the event
log, the IMA log and the key. What each file is follows from its content. Evidence of
go-attestation, go-tpm-tools, Keylime and immune Guard is read too.

An --endorsement is what you vouch for: the TPM maker's CA certificates, the
endorsement key, or the attestation key; of a TEE, certificates and revocation lists
of its maker. What lacks of these, --collateral may have. For eventlog and ima it is a file with the
PCR values recorded at the time, as --pcrs is. A key among the FILEs checks the signature and
vouches for nothing.

With --verbose each measurement has a word for what its text is worth: "proved" by
the digest, only "stated" by the log, or one that "differs" from the digest.

Evidence may hold and prove little: that some TPM, or a program that plays one, signed
something at some time. What is trusted is said at the end: "trust: affirming" wants
a nonce, a key that you vouch for (--key or --endorsement), and --refvalues. With
--affirm anything less is refused.

Exit code 0: it holds. 1: it is refused, or cannot be judged, with the reason.
2: misuse.`,
		Example: `  ashlar appraise tpm-quote bundle.json --key ak.pem --nonce 0badc0de --refvalues good.json --affirm
  ashlar appraise tpm-quote quote.msg quote.sig --key ak.pem --pcrs quote.pcrs --nonce 0badc0de
  ashlar appraise tpm-quote quote.msg quote.sig eventlog.bin ima.bin --key ak.pub
  ashlar appraise tpm-quote bundle.json --challenge kept.json --endorsement ek.pub \
      --refvalues good.json --ear result.jwt --signing-key verifier.key
  ashlar appraise sev-snp report.bin --collateral cache --fetch --nonce 0badc0de --refvalues good.json
  ashlar appraise eventlog eventlog.bin --endorsement quote.json --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("name a kind (%s) and at least one file", kindList())
			}
			if verifier.FindKind(args[0]) == nil {
				return fmt.Errorf("there is no kind %q: choose one of %s", args[0], kindList())
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return strings.Split(kindList(), ", "), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runAppraise(cmd, args, &o) },
	}
	o.flags(cmd)
	return cmd
}

func (o *appraiseOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "the attestation key: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC in `FILE`")
	f.StringArrayVar(&o.endorsements, "endorsement", nil, "what you vouch for, in `FILE`; may be given again")
	f.StringVar(&o.nonce, "nonce", "", "the nonce that was sent, in `HEX`; without it freshness is not checked")
	f.StringVar(&o.pcrs, "pcrs", "", "PCR values beside the quote, in `FILE` (tpm2_quote -o, or raw values)")
	f.StringVar(&o.eventlog, "eventlog", "", "the event log in `FILE`")
	f.StringArrayVar(&o.ima, "ima", nil, "the IMA log in `FILE`; may be given twice, as read before and after the quote")
	f.StringVar(&o.refvalues, "refvalues", "", "reference values in `FILE` to compare with")
	f.StringVar(&o.at, "at", "", "appraise as at this `TIME` (RFC 3339); default is now")
	f.StringVar(&o.challenge, "challenge", "", "the kept state of the challenge that the evidence answers, in `FILE`")
	f.StringVar(&o.ear, "ear", "", "write the signed attestation result to `FILE`, also of a refusal")
	f.StringVar(&o.signingKey, "signing-key", "", "sign it with the key in `FILE`, made if missing (with FILE.pub beside it)")
	f.StringVar(&o.issuer, "issuer", verifier.DefaultIssuer, "the verifier's `NAME` in the result")
	f.StringVar(&o.collateral, "collateral", "", "take what the evidence lacks of its maker's certificates and lists from the cache in `DIR`")
	f.BoolVar(&o.fetch, "fetch", false, "with --collateral: fetch what it lacks, or what is due")
	f.StringArrayVar(&o.mirrors, "mirror", nil, "with --fetch: ask another service in a maker's place, as `HOST=URL`; may be given again")
	f.BoolVar(&o.affirm, "affirm", false, "end with 0 only where trust is affirming: fresh, from a key that is vouched for, as the reference values")
	f.BoolVar(&o.json, "json", false, "write one JSON object")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "list each measurement, and whether its text is proved or only stated")
}

// kindTable lists the kinds with their titles.
func kindTable() string {
	var b strings.Builder
	for _, k := range verifier.Kinds() {
		fmt.Fprintf(&b, "  %-12s %s\n", k.Name, k.Title)
	}
	return b.String()
}

func kindList() string {
	var names []string
	for _, k := range verifier.Kinds() {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

func runAppraise(cmd *cobra.Command, args []string, o *appraiseOptions) error {
	if (o.ear == "") != (o.signingKey == "") {
		return fmt.Errorf("--ear and --signing-key go together")
	}
	if o.collateral == "" && o.fetch || !o.fetch && len(o.mirrors) > 0 {
		return fmt.Errorf("--fetch needs --collateral, and --mirror needs --fetch")
	}
	kind := verifier.FindKind(args[0])
	if err := fitting(cmd, kind); err != nil {
		return err
	}
	in, err := o.input(cmd, kind, args[1:])
	if err != nil {
		return err
	}
	res, err := kind.Appraise(in)
	if err != nil {
		return err
	}
	if o.ear != "" {
		if err := o.writeEAR(kind, res, in); err != nil {
			return err
		}
	}
	if o.json {
		if err := writeJSON(cmd.OutOrStdout(), appraisalJSON(args[0], res)); err != nil {
			return err
		}
	} else if err := printAppraisal(cmd.OutOrStdout(), res, o.verbose); err != nil {
		return err
	}
	if res.Verdict != scheme.Valid {
		return refuse(res.Why()...)
	}
	if o.affirm && res.Status != rats.TierAffirming {
		return refuse(slices.Insert(res.NotAffirmed(), 0, "the evidence holds, but is not affirmed:")...)
	}
	return nil
}

// fitting refuses flags that mean nothing for a kind: what was asked for must not
// be left out in silence.
func fitting(cmd *cobra.Command, kind *scheme.Kind) error {
	for name, part := range map[string]scheme.Takes{
		"nonce": scheme.TakesNonce, "affirm": scheme.TakesNonce, "ear": scheme.TakesNonce, "key": scheme.TakesKey,
		"refvalues": scheme.TakesReferences, "challenge": scheme.TakesChallenge,
		"eventlog": scheme.TakesLogs, "ima": scheme.TakesLogs,
	} {
		if cmd.Flags().Changed(name) && !kind.Takes.Has(part) {
			return fmt.Errorf("--%s does not go with kind %s, which proves nothing of that: leave it out", name, kind.Name)
		}
	}
	return nil
}

// input reads every file that the command line names.
func (o *appraiseOptions) input(cmd *cobra.Command, kind *scheme.Kind, files []string) (*scheme.Input, error) {
	in := &scheme.Input{Time: time.Now(), HasNonce: cmd.Flags().Changed("nonce")}
	var err error
	if in.Nonce, err = rats.ParseNonce(o.nonce); err != nil {
		return nil, err
	}
	if o.at != "" {
		if in.Time, err = time.Parse(time.RFC3339, o.at); err != nil {
			return nil, fmt.Errorf("--at %q is no time: write it like 2026-11-21T12:00:00Z", o.at)
		}
	}
	if o.collateral != "" {
		if in.Collateral, err = openCollateral(o.collateral, o.fetch, o.mirrors); err != nil {
			return nil, err
		}
	}
	add := func(list *[]scheme.File, role scheme.Role, names ...string) {
		for _, name := range names {
			if name == "" || err != nil {
				continue
			}
			var b []byte
			if b, err = readInput(cmd, name, maxEvidenceFile); err == nil {
				*list = append(*list, scheme.File{Name: name, Role: role, Data: b})
			}
		}
	}
	add(&in.Files, scheme.RoleAuto, files...)
	if kind.Takes.Has(scheme.TakesLogs) {
		add(&in.Files, tpm.RolePCRs, o.pcrs)
	} else {
		add(&in.Endorsements, scheme.RoleAuto, o.pcrs)
	}
	add(&in.Files, tpm.RoleEventLog, o.eventlog)
	add(&in.Files, tpm.RoleIMA, o.ima...)
	add(&in.Endorsements, scheme.RoleAuto, o.endorsements...)
	var key, refs, state []scheme.File
	add(&key, tpm.RoleKey, o.key)
	add(&refs, scheme.RoleAuto, o.refvalues)
	add(&state, scheme.RoleAuto, o.challenge)
	if err != nil {
		return nil, err
	}
	if len(key) > 0 {
		in.Key = &key[0]
	}
	if len(refs) > 0 {
		in.References = &refs[0]
	}
	if len(state) > 0 {
		return in, o.useChallenge(in, state[0])
	}
	return in, nil
}

// useChallenge takes the challenge, and its nonce unless one was given.
func (o *appraiseOptions) useChallenge(in *scheme.Input, f scheme.File) error {
	c, nonce, err := identity.ParseChallengeState(f.Data, in.Time)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if in.HasNonce && !in.Nonce.Equal(nonce) {
		return fmt.Errorf("--nonce is not the one of the challenge %s: leave it out", f.Name)
	}
	in.Challenge, in.Nonce, in.HasNonce = c, nonce, true
	return nil
}

func (o *appraiseOptions) writeEAR(kind *scheme.Kind, res *scheme.Result, in *scheme.Input) error {
	key, err := signingKey(o.signingKey)
	if err != nil {
		return err
	}
	signer, err := rats.NewSigner(key)
	if err != nil {
		return err
	}
	v := verifier.New(signer, verifier.Options{Issuer: o.issuer, Build: build().Version})
	out, err := v.Issue(kind, res, in.Nonce, in.Time)
	if err != nil {
		return err
	}
	return os.WriteFile(o.ear, []byte(out.EAR+"\n"), 0o644)
}

// signingKey reads the verifier's key; where there is none it makes one, with
// the public half beside it for relying parties.
func signingKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		k, err := rats.ParsePrivateKey(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return k, nil
	}
	if !os.IsNotExist(err) {
		return nil, err
	}
	k, err := rats.GenerateKey()
	if err != nil {
		return nil, err
	}
	return k, writeKeyPair(k, path, path+".pub")
}

// writeKeyPair writes a new key in PEM: the private half for its owner alone.
func writeKeyPair(k *ecdsa.PrivateKey, private, public string) error {
	priv, pub, err := rats.MarshalPrivateKey(k)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(private, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(priv); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil || public == "" {
		return err
	}
	return os.WriteFile(public, pub, 0o644)
}

// appraisal is the output for machines.
type appraisal struct {
	Kind    string         `json:"kind"`
	Verdict scheme.Verdict `json:"verdict"`
	Expect  scheme.Verdict `json:"expect"` // the verdict, under the name that test lists use
	Reason  *scheme.Reason `json:"reason"`
	Reasons []string       `json:"reasons"`
	Facts   scheme.Facts   `json:"facts"`
	Status  rats.Tier      `json:"status"`
	Vector  rats.Vector    `json:"trustworthinessVector"`
	Claims  []rats.Claim   `json:"claims"`
	PCRs    eventlog.PCRs  `json:"pcrs"`

	Measurements []scheme.Measurement `json:"measurements"`
}

func appraisalJSON(kind string, r *scheme.Result) appraisal {
	a := appraisal{Kind: kind, Verdict: r.Verdict, Expect: r.Verdict, Reasons: append([]string{}, r.Why()...), Facts: r.Facts,
		Status: r.Status, Vector: r.Vector, Claims: r.Claims, PCRs: r.PCRs, Measurements: append([]scheme.Measurement{}, r.Measurements...)}
	if r.Reason != "" {
		a.Reason = &r.Reason
	}
	return a
}

// printAppraisal writes the verdict and the claims for people.
func printAppraisal(w io.Writer, r *scheme.Result, verbose bool) error {
	var b strings.Builder
	for _, c := range r.Claims {
		mark := map[rats.ClaimStatus]string{rats.Holds: "holds", rats.Fails: "FAILS", rats.Unchecked: "open"}[c.Status]
		text := c.Found
		if c.Why != "" {
			text = c.Why
		}
		fmt.Fprintf(&b, "%-6s %s: %s\n", mark, plain(c.Name), plain(text))
	}
	if verbose {
		for _, m := range r.Measurements {
			fmt.Fprintf(&b, "%-8s %5d  PCR %2d  %-20s %-7s %s\n", m.Listing, m.Number, m.PCR, m.Stage, m.Data, plain(m.What))
		}
	}
	fmt.Fprintf(&b, "verdict: %s", r.Verdict)
	if r.Reason != "" {
		fmt.Fprintf(&b, " (%s)", r.Reason)
	}
	fmt.Fprintf(&b, "; trust: %s\n", r.Status)
	_, err := io.WriteString(w, b.String())
	return err
}
