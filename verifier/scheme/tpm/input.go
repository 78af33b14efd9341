package tpm

import (
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Kinds are a quote with what belongs to it, and the logs by themselves.
func Kinds() []scheme.Kind {
	return []scheme.Kind{
		scheme.New(scheme.Kind{Name: KindQuote, Title: "a TPM 2.0 quote with what belongs to it", Type: rats.TypeTPMEvidence,
			Takes: scheme.TakesNonce | scheme.TakesKey | scheme.TakesReferences | scheme.TakesChallenge | scheme.TakesLogs}, quote, checkOwn),
		scheme.New(scheme.Kind{Name: KindEventLog, Title: "a TCG event log by itself", One: true}, log, nil),
		scheme.New(scheme.Kind{Name: KindIMA, Title: "an IMA log by itself", Takes: scheme.TakesReferences, One: true}, imaLog, nil),
	}
}

// Names of the kinds.
const (
	KindQuote    = "tpm-quote"
	KindEventLog = "eventlog"
	KindIMA      = "ima"
)

func log(in *scheme.Input) *scheme.Result {
	recorded, err := recordedOf(in)
	if err != nil {
		return scheme.Malformed("recorded PCR values", err)
	}
	return AppraiseEventLog(in.Files[0].Data, recorded)
}

func quote(in *scheme.Input) *scheme.Result {
	req := Request{Evidence: &Evidence{}, Challenge: in.Challenge, Nonce: in.Nonce, HasNonce: in.HasNonce, Time: in.Time}
	for _, f := range in.Files {
		if err := req.Evidence.Add(f.Name, f.Role, f.Data); err != nil {
			return scheme.Malformed("evidence", err)
		}
	}
	for _, f := range in.Endorsements {
		if err := req.endorse(f); err != nil {
			return scheme.Malformed("endorsement", err)
		}
	}
	if in.Key != nil {
		k, err := keyOf(in.Key.Data)
		if err != nil {
			return scheme.Malformed("key", fmt.Errorf("%s: %w", in.Key.Name, err))
		}
		req.Key = k
	}
	if in.References != nil {
		refs, err := ParseReferences(in.References.Data)
		if err != nil {
			return scheme.Malformed("reference values", fmt.Errorf("%s: %w", in.References.Name, err))
		}
		req.References = refs
	}
	return Appraise(req)
}

// checkOwn says which endorsement or reference value of a quote cannot be read.
func checkOwn(in *scheme.Input) error {
	var r Request
	for _, f := range in.Endorsements {
		if err := r.endorse(f); err != nil {
			return err
		}
	}
	if in.References != nil {
		_, err := ParseReferences(in.References.Data)
		return err
	}
	return nil
}

func keyOf(b []byte) (*identity.Key, error) {
	if certs, err := identity.ParseCertificates(b); err == nil {
		return &identity.Key{Crypto: certs[0].PublicKey}, nil
	}
	return identity.ParseKey(b)
}

func (r *Request) endorse(f scheme.File) error {
	if certs, err := identity.ParseCertificates(f.Data); err == nil {
		r.Certificates = append(r.Certificates, certs...)
		return nil
	}
	k, err := identity.ParseKey(f.Data)
	if err != nil {
		return fmt.Errorf("%s endorses nothing: it is neither a certificate nor a public key", f.Name)
	}
	r.Keys = append(r.Keys, k)
	return nil
}

// recorded gathers the PCR values among the endorsements of a log. A runtime
// policy is none, but is left to be given as reference values.
func recordedOf(in *scheme.Input) (eventlog.PCRs, error) {
	all := eventlog.PCRs{}
	for _, f := range in.Endorsements {
		if _, err := ima.ParsePolicy(f.Data); err == nil {
			continue
		}
		p, err := RecordedPCRs(f.Name, f.Data)
		if err != nil {
			return nil, err
		}
		for alg, bank := range p {
			if all[alg] == nil {
				all[alg] = map[int][]byte{}
			}
			maps.Copy(all[alg], bank)
		}
	}
	return all, nil
}

func imaLog(in *scheme.Input) *scheme.Result {
	recorded, err := recordedOf(in)
	if err != nil {
		return scheme.Malformed("recorded PCR values", err)
	}
	var policy *ima.Policy
	if in.References != nil {
		if policy, err = filePolicy(in.References.Data); err != nil {
			return scheme.Malformed("reference values", fmt.Errorf("%s: %w", in.References.Name, err))
		}
	}
	return AppraiseIMA(in.Files[0].Data, recorded, policy)
}

// filePolicy reads reference values for files: this project's, or a runtime
// policy of Keylime.
func filePolicy(b []byte) (*ima.Policy, error) {
	refs, err := ParseReferences(b)
	if err != nil {
		p, other := ima.ParsePolicy(b)
		if other != nil {
			return nil, err
		}
		return p, nil
	}
	p := &ima.Policy{}
	for _, f := range refs.Files {
		alg, digits, _ := strings.Cut(f.Digest, ":")
		d, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("the digest of %s is not hexadecimal", short(f.Path))
		}
		p.Allow(f.Path, ima.FileDigest{Alg: alg, Value: d})
	}
	return p, nil
}
