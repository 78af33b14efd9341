package tpm2

import (
	"bytes"
	"errors"
	"testing"
)

// structures gives one example of each structure that has a wire form of its
// own; the tests below hold for all of them.
func structures() map[string]func() Walker {
	return map[string]func() Walker{
		"public rsa": func() Walker {
			return &Public{PublicParms: PublicParms{Type: AlgRSA, Symmetric: SymDef{AlgAES, 128, AlgCFB},
				Scheme: Scheme{Alg: AlgNull}, KeyBits: 2048}, NameAlg: AlgSHA256,
				Attributes: ObjRestricted | ObjDecrypt, Unique: bytes.Repeat([]byte{7}, 256)}
		},
		"public ecc": func() Walker {
			return &Public{PublicParms: PublicParms{Type: AlgECC, Symmetric: SymDef{Alg: AlgNull},
				Scheme: Scheme{Alg: AlgECDSA, Hash: AlgSHA256}, Curve: CurveP256, KDF: Scheme{Alg: AlgNull}},
				NameAlg: AlgSHA256, Attributes: ObjSign, Point: ECCPoint{X: []byte{1}, Y: []byte{2}}}
		},
		"public keyed hash": func() Walker {
			return &Public{PublicParms: PublicParms{Type: AlgKeyedHash,
				Scheme: Scheme{Alg: AlgXOR, Hash: AlgSHA1, KDF: AlgKDF1SP800108}},
				NameAlg: AlgSHA384, Unique: []byte{1, 2}}
		},
		"derived template": func() Walker {
			return &DerivedTemplate{Public{PublicParms: PublicParms{Type: AlgKeyedHash, Scheme: Scheme{Alg: AlgNull}},
				NameAlg: AlgSHA256}, Derive{[]byte("label"), []byte("context")}}
		},
		"sensitive": func() Walker {
			return &Sensitive{AlgECC, Digest{1}, Digest{2, 3}, []byte{4}}
		},
		"signature": func() Walker {
			return &Signature{Alg: AlgECDSA, Hash: AlgSHA256, R: []byte{1}, S: []byte{2}}
		},
		"hmac": func() Walker {
			return &Signature{Alg: AlgHMAC, Hash: AlgSHA1, HMAC: make([]byte, 20)}
		},
		"quote": func() Walker {
			var s PCRSelection
			s.Hash = AlgSHA256
			s.Set(10)
			return &Attest{Type: STAttestQuote, QualifiedSigner: Name{0, 11}, ExtraData: Data{9},
				Quote: QuoteInfo{PCRSelectionList{s}, Digest{1}}}
		},
		"nv public": func() Walker {
			return &SizedNVPublic{NVPublic{Index: 0x01800001, NameAlg: AlgSHA256,
				Attributes: NVAuthRead | NVAuthWrite, DataSize: 8}}
		},
		"nv public 2": func() Walker {
			return &SizedNVPublic2{NVPublic2{HandleType: HTNVIndex, NVPublic: NVPublic{Index: 0x01800001, NameAlg: AlgSHA256,
				Attributes: NVAuthRead | NVAuthWrite, DataSize: 8}}}
		},
		"external nv public": func() Walker {
			return &SizedNVPublic2{NVPublic2{HandleType: HTExternalNV, Expanded: 7, NVPublic: NVPublic{Index: 0x11000001,
				NameAlg: AlgSHA256, Attributes: NVAuthRead | NVAuthWrite, DataSize: 8}}}
		},
		"context": func() Walker {
			return &Context{Sequence: 1, SavedHandle: 0x02000003, Hierarchy: Hierarchy(RHNull), Blob: []byte{1}}
		},
		"creation data": func() Walker {
			return &SizedCreationData{CreationData{Locality: 1, ParentNameAlg: AlgNull}}
		},
		"capability": func() Walker {
			return &CapabilityData{Cap: CapTPMProperties, Properties: []TaggedProperty{{PTRevision, 159}}}
		},
		"countdown timers": func() Walker {
			return &CapabilityData{Cap: CapACT, ACTs: []ACTData{{Handle: 0x40000110, Timeout: 9}}}
		},
	}
}

func TestRoundTripTruncationAndExcess(t *testing.T) {
	for name, make := range structures() {
		t.Run(name, func(t *testing.T) {
			wire := Marshal(make())
			back := make()
			if err := Unmarshal(wire, back); err != nil {
				t.Fatalf("decode: %v", err)
			}
			if again := Marshal(back); !bytes.Equal(again, wire) {
				t.Fatalf("second encoding differs:\n%x\n%x", wire, again)
			}
			for n := range wire {
				if err := Unmarshal(wire[:n], make()); err == nil {
					t.Errorf("the first %d of %d bytes decode", n, len(wire))
				}
			}
			if err := Unmarshal(append(wire, 0), make()); !errors.Is(err, RCSize) {
				t.Errorf("a trailing byte gives %v, not TPM_RC_SIZE", err)
			}
		})
	}
}

func TestResponseCodeNumbers(t *testing.T) {
	for _, c := range []struct {
		rc   RC
		want uint32
		text string
	}{
		{RCValue.P(2), 0x2C4, "TPM_RC_VALUE (0x2c4, parameter 2)"},
		{RCHandle.H(1), 0x18B, "TPM_RC_HANDLE (0x18b, handle 1)"},
		{RCAuthFail.S(1), 0x98E, "TPM_RC_AUTH_FAIL (0x98e, session 1)"},
		{RCLockout.S(1), 0x921, "TPM_RC_LOCKOUT (0x921)"},
		{RCSize.P(1).P(2), 0x1D5, "TPM_RC_SIZE (0x1d5, parameter 1)"},
		{RCReferenceS0 + 1, 0x919, "TPM_RC_REFERENCE_S1 (0x919)"},
		{RCAuthMissing.P(1), 0x125, "TPM_RC_AUTH_MISSING (0x125)"},
	} {
		if uint32(c.rc) != c.want || c.rc.Error() != c.text {
			t.Errorf("got 0x%x %q, want 0x%x %q", uint32(c.rc), c.rc.Error(), c.want, c.text)
		}
	}
}

// TestDecodeErrors holds the codes of Part 2 for what a structure may not be.
func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		w    Walker
		want RC
	}{
		{"hash", []byte{0, 4}, new(HashID), RCHash},
		{"null hash", []byte{0, 0x10}, new(HashID), RCHash},
		{"digest too long", []byte{0, 65}, new(Digest), RCSize},
		{"digest cut", []byte{0, 2, 1}, new(Digest), RCInsufficient},
		{"yes or no", []byte{2}, new(YesNo), RCValue},
		{"curve", []byte{0, 4}, new(ECCCurve), RCCurve},
		{"object type", []byte{0, 4}, new(PublicParms), RCType},
		{"key bits", []byte{0, 1, 0, 0x10, 0, 0x10, 4, 0, 0, 0, 0, 0}, new(PublicParms), RCValue},
		{"symmetric", []byte{0, 0x26}, new(SymDef), RCSymmetric},
		{"symmetric bits", []byte{0, 6, 1, 0, 0, 0x43}, new(SymDef), RCValue},
		{"symmetric mode", []byte{0, 6, 0, 128, 0, 0x42}, new(SymDef), RCMode},
		{"xor object", []byte{0, 10}, new(SymDefObject), RCSymmetric},
		{"signature scheme", []byte{0, 0x16}, new(SigScheme), RCScheme},
		{"reserved attribute", []byte{0, 0, 0, 1}, new(ObjectAttributes), RCReservedBits},
		{"ticket's unknown tag", []byte{1, 1}, new(HashCheckTicket), RCValue},
		{"ticket's other tag", []byte{0x80, 0x21}, new(HashCheckTicket), RCTag},
		{"selection size", []byte{0, 0, 0, 1, 0, 11, 2, 0, 0}, new(PCRSelectionList), RCValue},
		{"selection count", []byte{0, 0, 0, 2}, new(PCRSelectionList), RCSize},
		{"empty public", []byte{0, 0}, new(SizedPublic), RCSize},
		{"nv handle", []byte{0, 14, 2, 0, 0, 0}, new(SizedNVPublic), RCValue},
		{"no nv public 2", []byte{0, 0}, new(SizedNVPublic2), RCSize},
		{"nv handle type", []byte{0, 15, 2, 2, 0, 0, 0}, new(SizedNVPublic2), RCSelector},
		{"external nv handle", []byte{0, 19, 0x11, 1, 0, 0, 0}, new(SizedNVPublic2), RCValue},
		{"external nv attributes", []byte{0, 19, 0x11, 0x11, 0, 0, 0, 0, 11, 0, 0, 0, 8}, new(SizedNVPublic2), RCReservedBits},
	} {
		d := NewDecoderFor(c.in, &small)
		c.w.Walk(&d)
		if d.RC() != c.want {
			t.Errorf("%s: %v, want %v", c.name, d.RC(), c.want)
		}
	}
}

func TestParamNumbersErrors(t *testing.T) {
	d := NewDecoder([]byte{1, 5})
	var a, b YesNo
	d.Param(&a)
	d.Param(&b)
	if d.RC() != RCValue.P(2) {
		t.Fatalf("got %v", d.RC())
	}
}

func TestStartsSized(t *testing.T) {
	if !StartsSized(new(SizedPublic)) || !StartsSized(new(Digest)) || StartsSized(new(PCRSelectionList)) ||
		StartsSized(new(HashID)) {
		t.Fatal("only a TPM2B can be encrypted")
	}
}

func BenchmarkDecodePublic(b *testing.B) {
	wire := Marshal(structures()["public rsa"]())
	b.ReportAllocs()
	for b.Loop() {
		var p Public
		d := NewDecoder(wire)
		p.Walk(&d)
		if d.RC() != RCSuccess {
			b.Fatal(d.RC())
		}
	}
}
