package tpm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/rats"
)

// Kind says what is appraised.
type Kind string

// The kinds.
const (
	KindQuote    Kind = "tpm-quote" // a quote with what belongs to it
	KindEventLog Kind = "eventlog"  // an event log by itself
	KindIMA      Kind = "ima"       // an IMA log by itself
)

// Kinds lists them.
func Kinds() []Kind { return []Kind{KindQuote, KindEventLog, KindIMA} }

// File is one file as given by a person.
type File struct {
	Name string // for messages
	Role Role
	Data []byte
}

// Input is everything that a person gives to have something appraised, as files.
type Input struct {
	Files        []File
	Endorsements []File
	Key          *File // the Attestation Key
	References   *File
	Challenge    *identity.Challenge
	Nonce        rats.Nonce
	HasNonce     bool
	Time         time.Time
}

// Appraise decodes the files and appraises them as a kind. What cannot be
// decoded is refused in the result; the error is for misuse alone.
func (in *Input) Appraise(kind Kind) (*Result, error) {
	if len(in.Files) == 0 {
		return nil, errors.New("there is nothing to appraise: name at least one file")
	}
	switch kind {
	case KindQuote:
		return in.quote(), nil
	case KindEventLog, KindIMA:
		if len(in.Files) != 1 {
			return nil, fmt.Errorf("kind %s takes one file, not %d", kind, len(in.Files))
		}
		if kind == KindIMA {
			return in.ima(), nil
		}
		recorded, err := in.recorded()
		if err != nil {
			return malformed("recorded PCR values", err), nil
		}
		return AppraiseEventLog(in.Files[0].Data, recorded), nil
	}
	return nil, fmt.Errorf("there is no kind %q: tpm-quote, eventlog and ima are known", short(string(kind)))
}

func (in *Input) quote() *Result {
	req := Request{Evidence: &Evidence{}, Challenge: in.Challenge, Nonce: in.Nonce, HasNonce: in.HasNonce, Time: in.Time}
	for _, f := range in.Files {
		if err := req.Evidence.Add(f.Name, f.Role, f.Data); err != nil {
			return malformed("evidence", err)
		}
	}
	for _, f := range in.Endorsements {
		if err := req.endorse(f); err != nil {
			return malformed("endorsement", err)
		}
	}
	if in.Key != nil {
		k, err := keyOf(in.Key.Data)
		if err != nil {
			return malformed("key", fmt.Errorf("%s: %w", in.Key.Name, err))
		}
		req.Key = k
	}
	if in.References != nil {
		refs, err := ParseReferences(in.References.Data)
		if err != nil {
			return malformed("reference values", fmt.Errorf("%s: %w", in.References.Name, err))
		}
		req.References = refs
	}
	return Appraise(req)
}

// CheckEndorsements says which endorsement of a quote cannot be read, nil if each
// can: that is the caller's mistake, not the attester's.
func (in *Input) CheckEndorsements() error {
	var r Request
	for _, f := range in.Endorsements {
		if err := r.endorse(f); err != nil {
			return err
		}
	}
	return nil
}

func keyOf(b []byte) (*identity.Key, error) {
	if certs, err := identity.ParseCertificates(b); err == nil {
		return &identity.Key{Crypto: certs[0].PublicKey}, nil
	}
	return identity.ParseKey(b)
}

func (r *Request) endorse(f File) error {
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
func (in *Input) recorded() (PCRs, error) {
	all := PCRs{}
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

func (in *Input) ima() *Result {
	recorded, err := in.recorded()
	if err != nil {
		return malformed("recorded PCR values", err)
	}
	var policy *ima.Policy
	if in.References != nil {
		if policy, err = filePolicy(in.References.Data); err != nil {
			return malformed("reference values", fmt.Errorf("%s: %w", in.References.Name, err))
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
