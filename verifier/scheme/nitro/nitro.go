package nitro

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/cose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// KindNitro is the name of the kind.
const KindNitro = "nitro"

// rootFingerprint is the SHA-256 of the AWS Nitro Enclaves root certificate
// (docs.aws.amazon.com/enclaves, "Verifying the root of trust").
const rootFingerprint = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

// maxAhead is how far a document's time may be ahead of the verifier's clock.
const maxAhead = 5 * time.Minute

// Kinds is the attestation document of an enclave.
func Kinds() []scheme.Kind {
	return []scheme.Kind{scheme.New(scheme.Kind{Name: KindNitro, Title: "an attestation document of an AWS Nitro Enclave",
		Type: rats.TypeNitro, Takes: scheme.TakesNonce | scheme.TakesReferences, One: true}, Appraise, checkOwn)}
}

func checkOwn(in *scheme.Input) error {
	if _, err := roots(in.Endorsements); err != nil {
		return err
	}
	if in.References == nil {
		return nil
	}
	_, err := scheme.ParseValues(in.References.Data, KindNitro)
	return err
}

type appraisal struct {
	*scheme.Result
	in  *scheme.Input
	msg *cose.Message
	doc *Document
}

// Appraise examines one attestation document: its chain, its signature, its time
// and nonce, whether the enclave can be read by its host, and its PCRs.
func Appraise(in *scheme.Input) *scheme.Result {
	data := in.Files[0].Data
	if len(data) > MaxDocument {
		return scheme.Malformed("attestation document", fmt.Errorf("%s is %d bytes long: at most %d are read", in.Files[0].Name, len(data), MaxDocument))
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return scheme.Malformed("attestation document", fmt.Errorf("%s: %w", in.Files[0].Name, err))
	}
	doc, err := ParseDocument(msg.Payload)
	if err != nil {
		return scheme.Malformed("attestation document", fmt.Errorf("%s: %w", in.Files[0].Name, err))
	}
	a := &appraisal{Result: scheme.NewResult(), in: in, msg: msg, doc: doc}
	a.facts()
	if leaf := a.chain(); leaf != nil {
		a.signature(leaf)
	}
	a.freshness()
	a.debug()
	a.references()
	if key, err := x509.ParsePKIXPublicKey(doc.PublicKey); err == nil && key != nil {
		a.AttesterKey = doc.PublicKey
	}
	a.Finish(rats.Hardware, rats.Configuration, rats.Executables)
	return a.Result
}

// facts states the document's content under names of its own.
func (a *appraisal) facts() {
	d := a.doc
	pcrs := map[string]string{}
	for i, v := range d.PCRs {
		if !zero(v) {
			pcrs[strconv.FormatUint(i, 10)] = hex.EncodeToString(v)
		}
	}
	maps.Copy(a.Facts, scheme.Facts{
		"module_id": d.ModuleID, "digest": d.Digest, "timestamp_ms": d.Timestamp.UnixMilli(), "pcrs": pcrs, "pcr_count": len(d.PCRs),
		"user_data_sha256": digest(d.UserData), "public_key_sha256": digest(d.PublicKey), "nonce": nil, "nonce_sha256": digest(d.Nonce),
		"cabundle": len(d.Bundle), "root_sha256": digest(d.Bundle[0]), "debug": a.debuggable(),
	})
	if d.Nonce != nil {
		a.Facts["nonce"] = hex.EncodeToString(d.Nonce)
	}
	if len(d.Unknown) > 0 {
		slices.Sort(d.Unknown)
		a.Leave("", "unknown entries", fmt.Sprintf("the document has entries that are not known here: %.200q", d.Unknown))
	}
}

func digest(b []byte) any {
	if b == nil {
		return nil
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// debuggable tells an enclave in debug mode: its host reads its console, and the
// PCRs of its image are zero.
func (a *appraisal) debuggable() bool {
	for i := range uint64(3) {
		if !zero(a.doc.PCRs[i]) {
			return false
		}
	}
	return true
}

// chain gives the certificate that signs, if it leads to a root that is trusted.
func (a *appraisal) chain() *x509.Certificate {
	const name = "certificate chain"
	leaf, err := x509.ParseCertificate(a.doc.Certificate)
	if err != nil {
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name,
			Why: fmt.Sprintf("the document's certificate cannot be read: %v", err)})
		return nil
	}
	a.Facts["leaf_not_after"] = leaf.NotAfter.UTC().Format(time.RFC3339)
	var bundle []*x509.Certificate
	for i, der := range a.doc.Bundle {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name,
				Why: fmt.Sprintf("certificate %d of the document's bundle cannot be read: %v", i+1, err)})
			return leaf
		}
		bundle = append(bundle, c)
	}
	trusted, err := roots(a.in.Endorsements)
	if err != nil {
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Why: err.Error()})
		return leaf
	}
	if a.Facts["root_sha256"] == rootFingerprint {
		trusted = append(trusted, bundle[0])
	}
	if len(trusted) == 0 {
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Expected: rootFingerprint,
			Found: fmt.Sprint(a.Facts["root_sha256"]), Why: "the document's root certificate is not that of AWS Nitro Enclaves: it is forged, or of another partition, whose root you can give as an endorsement"})
		return leaf
	}
	if err := a.in.Chains.Verify(leaf, bundle, trusted, a.in.Time); err != nil {
		reason := scheme.ReasonCertificate
		if scheme.ExpiredError(err) {
			reason = scheme.ReasonExpired
		}
		a.Fail(reason, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name,
			Why: fmt.Sprintf("%v: a document is good for three hours, so ask the enclave for a new one", err)})
		return leaf
	}
	a.Hold(name, fmt.Sprintf("%d certificates to the root", len(bundle)))
	a.Claim(rats.Hardware, rats.HardwareGenuine)
	return leaf
}

// roots are the certificates that the caller trusts besides AWS's own.
func roots(endorsed []scheme.File) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, f := range endorsed {
		certs, err := identity.ParseCertificates(f.Data)
		if err != nil {
			return nil, fmt.Errorf("%s endorses no enclave: it is no certificate", f.Name)
		}
		list = append(list, certs...)
	}
	return list, nil
}

func (a *appraisal) signature(leaf *x509.Certificate) {
	const name = "document signature"
	err := errors.New("it states the algorithm " + a.msg.Algorithm() + ", and ES384 is the one that is defined")
	if a.msg.Algorithm() == "ES384" && a.msg.Tag != cose.TagMac0 {
		err = a.msg.Verify(leaf.PublicKey)
	}
	if err != nil {
		a.Break(scheme.ReasonSignature, name, fmt.Errorf("the document's signature does not hold: %w: it was altered, or is not from this enclave's host", err))
		return
	}
	a.Hold(name, "ES384")
}

// freshness checks the nonce, and that the document's time is not to come.
func (a *appraisal) freshness() {
	if ahead := a.doc.Timestamp.Sub(a.in.Time); ahead > maxAhead {
		a.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: "time", Found: a.doc.Timestamp.Format(time.RFC3339),
			Why: fmt.Sprintf("the document says that it was made %s from now: set the clock of the verifier, or find out why the host's is wrong", ahead.Round(time.Second))})
	} else {
		a.Hold("time", a.doc.Timestamp.Format(time.RFC3339))
	}
	switch {
	case !a.in.HasNonce:
		a.Leave("", "nonce", "no nonce was given, so the document may be up to three hours old")
	case !bytes.Equal(a.doc.Nonce, a.in.Nonce):
		a.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: "nonce",
			Expected: a.in.Nonce.String(), Found: hex.EncodeToString(a.doc.Nonce),
			Why: "the document was made under another nonce: it is a replay, or answers another challenge"})
	default:
		a.Hold("nonce", a.in.Nonce.String())
	}
}

func (a *appraisal) debug() {
	if a.debuggable() {
		a.Warn(scheme.ReasonDebug, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: "debug mode", Expected: "off", Found: "on",
			Why: "the enclave runs in debug mode: its host reads its console, and nothing proves its image; start it without --debug-mode"})
		return
	}
	a.Hold("debug mode", "off")
	if a.Verdict == scheme.Valid {
		a.Claim(rats.Configuration, rats.ConfigApproved)
	}
}

func (a *appraisal) references() {
	if a.in.References == nil || a.Verdict != scheme.Valid {
		return
	}
	v, err := scheme.ParseValues(a.in.References.Data, KindNitro)
	if err != nil {
		a.Break(scheme.ReasonMalformed, "reference values", fmt.Errorf("%s: %w", a.in.References.Name, err))
		return
	}
	a.Compare(v, category)
}

// category says that PCRs 0 to 2 are the image's, 3 and 4 the host's role and
// instance, 8 the key that signed the image.
func category(fact string) rats.Category {
	switch {
	case fact == "pcrs.3", fact == "pcrs.4", fact == "module_id":
		return rats.InstanceIdentity
	case strings.HasPrefix(fact, "pcrs."):
		return rats.Executables
	}
	return rats.Configuration
}
