package verifier

import (
	"crypto/ecdsa"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

func newVerifier(t *testing.T) *Verifier {
	t.Helper()
	k, err := rats.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rats.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return New(s, Options{})
}

// TestRefusalIsAResult wants evidence that cannot be read refused in a signed
// result that says why, and never an error.
func TestRefusalIsAResult(t *testing.T) {
	v, nonce, now := newVerifier(t), rats.Nonce("a long nonce"), time.Now()
	for _, data := range []string{"", "{", `{"format":"ashlar-tpm-evidence","version":2}`, "\xffTCG"} {
		out, err := v.Appraise(rats.Evidence{Type: rats.TypeTPMEvidence, Data: []byte(data)}, nil, nil, Session{Nonce: nonce, Now: now})
		if err != nil {
			t.Errorf("%q: %v", data, err)
			continue
		}
		r, err := rats.Verify(out.EAR, rats.Expect{Keys: []*ecdsa.PublicKey{v.signer.Public()}, Issuer: DefaultIssuer, Nonce: nonce, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		failed := r.Submods[tpm.KindQuote].Failed()
		if r.Status() != rats.TierContraindicated || len(failed) == 0 || failed[0].Why == "" {
			t.Errorf("%q: %s without a reason: %v", data, r.Status(), failed)
		}
		if got := r.Expires.Sub(r.IssuedAt); got != DefaultLifetime {
			t.Errorf("the result lasts %s", got)
		}
	}
}

// TestOwnMistakes wants what is wrong on the verifier's side to be an error, not
// held against the attester.
func TestOwnMistakes(t *testing.T) {
	v := newVerifier(t)
	ev := rats.Evidence{Type: rats.TypeTPMEvidence, Data: []byte("{}")}
	if _, err := v.Appraise(rats.Evidence{Type: "text/plain"}, nil, nil, Session{}); err == nil {
		t.Error("evidence of an unknown type was appraised")
	}
	fine := Session{Nonce: rats.Nonce("a long nonce"), Now: time.Now()}
	for _, n := range []rats.Nonce{nil, {}, rats.Nonce("short"), make(rats.Nonce, rats.MaxNonce+1)} {
		if _, err := v.Appraise(ev, nil, nil, Session{Nonce: n, Now: time.Now()}); err == nil {
			t.Errorf("evidence was appraised under a nonce of %d bytes", len(n))
		}
	}
	if _, err := v.Appraise(ev, []rats.Endorsement{{Type: rats.TypeCertificate, Data: []byte("no certificate")}}, nil, fine); err == nil {
		t.Error("an endorsement that cannot be read was held against the attester")
	}
	bad := rats.ReferenceValue{Type: rats.TypeReferenceValues, Data: []byte("{}")}
	if _, err := v.Appraise(ev, nil, []rats.ReferenceValue{bad}, fine); err == nil {
		t.Error("reference values that cannot be read were used")
	}
	if _, err := v.Appraise(ev, nil, []rats.ReferenceValue{bad, bad}, fine); err == nil {
		t.Error("two sets of reference values were used")
	}
}

// TestManyClaims keeps a result to its limit without losing failures.
func TestManyClaims(t *testing.T) {
	res := &scheme.Result{Verdict: scheme.Invalid, Status: rats.TierContraindicated}
	for i := range 3 * maxClaimsWritten {
		res.Claims = append(res.Claims, rats.Claim{Name: fmt.Sprint(i), Status: rats.Holds})
	}
	res.Claims = append(res.Claims, rats.Claim{Name: "the one", Status: rats.Fails, Why: "it fails"})
	out, err := newVerifier(t).Issue(FindKind(tpm.KindQuote), res, rats.Nonce("a nonce"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a := out.Result.Submods[tpm.KindQuote]
	if len(a.Claims) != maxClaimsWritten || len(a.Failed()) != 1 {
		t.Errorf("%d claims, %d failures", len(a.Claims), len(a.Failed()))
	}
}

// TestLongClaims wants a result even of evidence whose every event has a text as
// long as a log allows, of characters that JSON escapes.
func TestLongClaims(t *testing.T) {
	res := &scheme.Result{Verdict: scheme.Invalid, Status: rats.TierContraindicated}
	for range 500 {
		res.Claims = append(res.Claims, rats.Claim{Name: "event", Status: rats.Fails, Found: strings.Repeat("<\xff", 4096), Why: strings.Repeat("\x00&é", 4096)})
	}
	out, err := newVerifier(t).Issue(FindKind(tpm.KindQuote), res, rats.Nonce("a long nonce"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(out.Result.Submods[tpm.KindQuote].Failed()); n < 10 {
		t.Errorf("%d failures are left", n)
	}
}
