package tpm

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// differ says in what two answers of the same code differ where they should
// not, or nothing. They are the same to the byte, but for what ownParts names.
func (w *twin) differ(s *sent, ours, theirs *reply) string {
	switch {
	case bytes.Equal(ours.whole, theirs.whole):
		return ""
	case s.d == nil || ours.rc != tpm2.RCSuccess:
		return "the answers differ"
	case ours.handle != theirs.handle:
		return "the handles differ"
	}
	if !bytes.Equal(ours.params, theirs.params) {
		own := ownParts[s.d.cc]
		if own == nil {
			return "the parameters differ"
		}
		if why := own(w, s, ours.params, theirs.params); why != "" {
			return why
		}
		if !sameShape(ours.auths, theirs.auths) {
			return "the authorization areas differ in shape"
		}
		return ""
	}
	return "the authorization areas differ"
}

// sameShape compares authorization areas whose HMACs are over other parameters.
func sameShape(a, b []byte) bool {
	for len(a) > 0 && len(b) > 0 {
		nonceA, restA, okA := cutSized(a)
		nonceB, restB, okB := cutSized(b)
		if !okA || !okB || !bytes.Equal(nonceA, nonceB) || len(restA) == 0 || len(restB) == 0 || restA[0] != restB[0] {
			return false
		}
		var macA, macB []byte
		macA, a, okA = cutSized(restA[1:])
		macB, b, okB = cutSized(restB[1:])
		if !okA || !okB || len(macA) != len(macB) {
			return false
		}
	}
	return len(a) == 0 && len(b) == 0
}

// ownPart compares the parameters of two answers without what is each TPM's
// own, and says in what they differ.
type ownPart func(w *twin, s *sent, ours, theirs []byte) string

// ownParts are the commands whose answers have parts that are each TPM's own,
// since they come from random numbers that do not show, or from the version.
var ownParts = map[tpm2.CC]ownPart{
	tpm2.CCCreate:                sameIn(func() tpm2.Walker { return new(createOut) }, maskCreated),
	tpm2.CCCreateLoaded:          sameIn(func() tpm2.Walker { return new(createLoadedOut) }, maskCreated),
	tpm2.CCImport:                sameIn(func() tpm2.Walker { return new(importOut) }, nil),
	tpm2.CCObjectChangeAuth:      sameIn(func() tpm2.Walker { return new(objectChangeAuthOut) }, nil),
	tpm2.CCMakeCredential:        sameIn(func() tpm2.Walker { return new(credential) }, nil),
	tpm2.CCDuplicate:             sameIn(func() tpm2.Walker { return new(duplicateOut) }, nil),
	tpm2.CCRewrap:                sameIn(func() tpm2.Walker { return new(rewrapOut) }, nil),
	tpm2.CCRSAEncrypt:            sameIn(func() tpm2.Walker { return new(rsaOut) }, nil),
	tpm2.CCECDHKeyGen:            sameIn(func() tpm2.Walker { return new(ecdhKeyGenOut) }, nil),
	tpm2.CCContextSave:           sameIn(func() tpm2.Walker { return new(savedContext) }, maskContext),
	tpm2.CCSign:                  sameSignature,
	tpm2.CCCertifyX509:           sameCertificate,
	tpm2.CCCertify:               sameAttestation,
	tpm2.CCCertifyCreation:       sameAttestation,
	tpm2.CCQuote:                 sameAttestation,
	tpm2.CCGetTime:               sameAttestation,
	tpm2.CCNVCertify:             sameAttestation,
	tpm2.CCGetSessionAuditDigest: sameAttestation,
	tpm2.CCGetCommandAuditDigest: sameAttestation,
	tpm2.CCGetCapability:         sameIn(func() tpm2.Walker { return new(getCapabilityOut) }, maskCapability),
	tpm2.CCGetTestResult:         func(*twin, *sent, []byte, []byte) string { return "" },
	tpm2.CCIncrementalSelfTest:   func(*twin, *sent, []byte, []byte) string { return "" },
}

// sameIn compares in structure, after mask has taken out what is own: every
// buffer must have the same length, everything else the same value. Without
// mask, the content of all buffers is each TPM's own.
func sameIn(out func() tpm2.Walker, mask func(out tpm2.Walker)) ownPart {
	return func(_ *twin, _ *sent, ours, theirs []byte) string {
		a, b := out(), out()
		for _, x := range []struct {
			w tpm2.Walker
			b []byte
		}{{a, ours}, {b, theirs}} {
			c := tpm2.NewDecoder(bytes.Clone(x.b))
			if x.w.Walk(&c); c.RC() != tpm2.RCSuccess || c.Remaining() != 0 {
				return fmt.Sprintf("%x does not decode: %v", x.b, c.RC())
			}
			if mask != nil {
				mask(x.w)
			} else {
				blank(reflect.ValueOf(x.w).Elem())
			}
		}
		if !reflect.DeepEqual(a, b) {
			return fmt.Sprintf("they differ in more than they may: ours %+v, swtpm %+v", a, b)
		}
		return ""
	}
}

// blank zeroes the content of every buffer in v.
func blank(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			blank(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			clear(v.Bytes())
			return
		}
		for i := range v.Len() {
			blank(v.Index(i))
		}
	}
}

// maskCreated leaves of an object created what its template says, and of its
// creation all but the ticket, whose digest is over the Name.
func maskCreated(out tpm2.Walker) {
	pub := func(p *tpm2.Public) {
		clear(p.Unique)
		clear(p.Point.X)
		clear(p.Point.Y)
	}
	switch x := out.(type) {
	case *createOut:
		clear(x.private)
		pub(&x.public.Public)
		clear(x.ticket.Digest)
	case *createLoadedOut:
		clear(x.private)
		pub(&x.public.Public)
		if len(x.name) > 2 {
			clear(x.name[2:])
		}
	}
}

// maskContext leaves what a resource manager reads.
func maskContext(out tpm2.Walker) { out.(*savedContext).Blob = nil }

// ownProperties are the properties that say what a TPM is, or change by
// themselves.
var ownProperties = []tpm2.PT{}

// maskCapability takes the properties out that are each TPM's own.
func maskCapability(out tpm2.Walker) {
	d := &out.(*getCapabilityOut).data
	d.Properties = slices.DeleteFunc(d.Properties, func(p tpm2.TaggedProperty) bool {
		return slices.Contains(ownProperties, p.Property)
	})
}

// sameSignature compares signatures by their scheme, and verifies both.
func sameSignature(w *twin, s *sent, ours, theirs []byte) string {
	if len(s.spoiled) > 0 && s.c.auth.decrypt >= 0 {
		return "" // what a changed nonce has decrypted is not known here
	}
	var in signIn
	c := tpm2.NewDecoder(s.plain)
	if in.Walk(&c); c.RC() != tpm2.RCSuccess {
		return fmt.Sprintf("signed, though the parameters do not decode: %v", c.RC())
	}
	return w.sameSigned(s, ours, theirs, in.digest)
}

// sameAttestation compares what is attested to the byte, and the signatures as
// sameSignature does.
func sameAttestation(w *twin, s *sent, ours, theirs []byte) string {
	a, restA, okA := cutSized(ours)
	b, restB, okB := cutSized(theirs)
	if !okA || !okB {
		return "the answers do not decode"
	}
	if !bytes.Equal(a, b) {
		return "what is attested differs"
	}
	return w.sameSigned(s, restA, restB, a)
}

// sameSigned compares two signatures; message is what was signed, or its
// digest.
func (w *twin) sameSigned(s *sent, ours, theirs []byte, message []byte) string {
	signer := 0
	if cc := s.d.cc; cc == tpm2.CCCertify || cc == tpm2.CCGetTime || cc == tpm2.CCGetCommandAuditDigest || cc == tpm2.CCGetSessionAuditDigest {
		signer = 1
	}
	if s.d.cc == tpm2.CCCertify || s.d.cc == tpm2.CCGetTime || s.d.cc == tpm2.CCGetCommandAuditDigest {
		signer = 1
	}
	key := w.e.state.objects.Get(s.handles[signer])
	if key == nil {
		return "there is no key"
	}
	var sigs [2]tpm2.Signature
	for i, b := range [][]byte{ours, theirs} {
		c := tpm2.NewDecoder(b)
		if sigs[i].Walk(&c); c.RC() != tpm2.RCSuccess || c.Remaining() != 0 {
			return "a signature does not decode"
		}
	}
	a, b := &sigs[0], &sigs[1]
	if a.Alg != b.Alg || a.Hash != b.Hash || len(a.RSA) != len(b.RSA) || len(a.HMAC) != len(b.HMAC) {
		return "the signatures' schemes or sizes differ"
	}
	if s.d.cc != tpm2.CCSign {
		message = a.Hash.Digest(message)
	}
	if a.Alg == tpm2.AlgECDAA {
		if data := s.qualifying(); s.d.cc != tpm2.CCSign && len(data) > 0 {
			message = a.Hash.Digest(data, message)
		}
		if !sameCommitment(key.Key, message, a, b) {
			return "the signatures are not of the same commitment and data"
		}
		return ""
	}
	for i := range sigs {
		if rc := crypt.VerifySignature(key.Key, message, &sigs[i]); rc != tpm2.RCSuccess {
			return fmt.Sprintf("the signature of %s does not verify: %v", [2]string{"ours", "swtpm"}[i], rc)
		}
	}
	return ""
}

// qualifying is the first parameter of an attestation command, which is not
// there where it was encrypted.
func (s *sent) qualifying() []byte {
	data, _, _ := cutSized(s.plain)
	return data
}

// verifiable reports whether there is a way to verify what a scheme signs.
func verifiable(alg tpm2.AlgID) bool { return alg != tpm2.AlgECDAA }
