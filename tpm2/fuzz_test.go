package tpm2

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/metrics"
	"testing"
)

// walkers are all structures and types with a wire form.
var walkers = []Walker{
	new(ACTData), new(AlgID), new(AlgList), new(AlgProperty), new(Attest), new(AuthTicket), new(CC),
	new(CCAttributes), new(CCAttributesList), new(CCList), new(Cap), new(CapabilityData),
	new(CipherModeOrNull), new(ClockInfo), new(Context), new(ContextData), new(CreationData),
	new(CreationTicket), new(Data), new(Derive), new(DerivedTemplate), new(Digest), new(DigestList),
	new(DigestValues), new(ECCCurve), new(ECCParameter), new(ECCPoint), new(EO), new(EncryptedSecret),
	new(HA), new(Handle), new(HandleList), new(HashCheckTicket), new(HashID), new(HashIDOrNull),
	new(Hierarchy), new(IDObject), new(IV), new(KDFScheme), new(KeyExchange), new(KeyedHashScheme), new(Locality), new(MaxBuffer),
	new(NVAttributes), new(NVPublic), new(NVPublic2), new(Name), new(ObjectAttributes), new(PCRSelect),
	new(PCRSelection), new(PCRSelectionList), new(PolicyBranches), new(Private), new(Public),
	new(PublicParms), new(RSADecryptScheme), new(RSAPublicKey), new(SE), new(ST), new(SU), new(Sensitive),
	new(SensitiveCreate), new(SensitiveData), new(SessionAttributes), new(SigScheme), new(Signature),
	new(SizedAttest), new(SizedCreationData), new(SizedECCPoint), new(SizedNVPublic), new(SizedNVPublic2),
	new(SizedPublic), new(SizedPublicOrNull), new(PublicOrNull), new(SizedSensitive), new(SymDef), new(SymDefObject),
	new(TaggedPCRSelect), new(TaggedPolicy), new(TaggedProperty), new(Template), new(TimeInfo),
	new(Timeout), new(UINT16), new(UINT32), new(UINT64), new(VerifiedTicket), new(YesNo),
}

// TestWalkersAreAll: the list has every type that has a Walk.
func TestWalkersAreAll(t *testing.T) {
	have := map[string]bool{}
	for _, w := range walkers {
		have[reflect.TypeOf(w).Elem().Name()] = true
	}
	method := regexp.MustCompile(`(?m)^func \(\w+ \*([A-Z]\w*)\) Walk\(`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range method.FindAllSubmatch(src, -1) {
			found++
			if !have[string(m[1])] {
				t.Errorf("%s is not among the walkers", m[1])
			}
		}
	}
	if found != len(walkers) {
		t.Errorf("%d types have a Walk, and %d are in the list", found, len(walkers))
	}
}

// allocated is about how many bytes f allocates.
func allocated(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// small is a TPM with one algorithm of each kind.
var small = Implementation{Hashes: []AlgID{AlgSHA256}, RSABits: []uint16{2048}, MaxRSABytes: 256,
	Ciphers: []Cipher{{AlgAES, []uint16{128}}}, SymModes: []AlgID{AlgCFB}, MaxHashes: 1,
	RSASchemes: []AlgID{AlgRSASSA}, ECCSchemes: []AlgID{AlgECDSA}, Curves: []ECCCurve{CurveP256}}

// FuzzStructures decodes anything as every type: no input panics, none takes more
// memory than in proportion to its length, and what decodes encodes to the same
// bytes and decodes again to what it was.
func FuzzStructures(f *testing.F) {
	for _, mk := range structures() {
		f.Add(Marshal(mk()))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n := allocated(func() {
			for _, w := range walkers {
				for _, impl := range []*Implementation{nil, &small} {
					roundTrip(t, in, reflect.TypeOf(w).Elem(), impl)
				}
			}
		})
		if limit := uint64(1<<20 + 2000*len(in)); n > limit {
			t.Fatalf("%d bytes of input take %d bytes of memory", len(in), n)
		}
	})
}

func roundTrip(t *testing.T, in []byte, of reflect.Type, impl *Implementation) {
	w := reflect.New(of).Interface().(Walker)
	dec := NewDecoderFor(in, impl)
	if w.Walk(&dec); dec.RC() != RCSuccess {
		return
	}
	used := in[:len(in)-dec.Remaining()]
	out := Marshal(w)
	if !bytes.Equal(out, used) {
		t.Fatalf("%v: %x decodes, and encodes to %x", of, used, out)
	}
	again := reflect.New(of).Interface().(Walker)
	if err := Unmarshal(out, again); err != nil || !reflect.DeepEqual(w, again) {
		t.Fatalf("%v: %x decodes to %+v, and again to %+v: %v", of, in, w, again, err)
	}
}
