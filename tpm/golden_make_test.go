package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// goldenFiles are the states of one TPM that holds something of every kind:
// "permanent" with what belongs to it while it runs, once with keys in the
// transient slots and once with sequences, and "state", after Shutdown(STATE).
var goldenFiles = []string{"permanent", "volatile", "sequences", "state"}

// goldenTimeout is what a countdown timer of the golden TPM is set to, in
// seconds.
const goldenTimeout = 1 << 31

// makeGolden makes them.
func makeGolden(t *testing.T) map[string][]byte {
	t.Helper()
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(2026)}
	state, err := Manufacture(r.cfg, Options{Profile: fullProfile})
	if err != nil {
		t.Fatal(err)
	}
	r.power(state)
	r.all(equipment()...)
	r.goldenObjects()
	r.goldenIndices()
	r.goldenSettings()
	r.goldenSessions()
	r.goldenTransients()
	r.all(frame(tpm2.CCACTSetTimeout, []tpm2.Handle{act2}, password(""), u32(goldenTimeout)))
	files := map[string][]byte{"permanent": r.durable, "volatile": r.e.SaveVolatile()}
	r.goldenSequences()
	files["sequences"] = r.e.SaveVolatile()
	if !bytes.Equal(r.durable, files["permanent"]) {
		t.Fatal("the two volatile states do not belong to one permanent state")
	}
	r.all(shutdownCmd(tpm2.SUState))
	files["state"] = r.durable
	return files
}

// all runs commands that must succeed, a second apart.
func (r *rig) all(cmds ...[]byte) {
	r.t.Helper()
	for _, cmd := range cmds {
		r.clock.Advance(time.Second)
		if rc := code(r.execute(cmd)); rc != tpm2.RCSuccess {
			r.t.Fatalf("%v: %v", commandCode(cmd), rc)
		}
	}
}

// goldenObjects keeps a primary object of every type, and a child.
func (r *rig) goldenObjects() {
	r.t.Helper()
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	third := tpm2.TransientFirst + 2
	r.all(evictCmd(tpm2.RHOwner, tpm2.TransientFirst, goldenKey))
	withPolicy := eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP384)
	withPolicy.AuthPolicy = tpm2.AlgSHA256.Digest([]byte("policy"))
	xor := hmacKey(usable|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108})
	for i, key := range []tpm2.Public{
		storageKey(rsaKey(0, null)), rsaKey(signingKey, schemeOf(tpm2.AlgRSAPSS)), withPolicy,
		eccKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgECDH), tpm2.CurveP256),
		hmacKey(attestingKey, schemeOf(tpm2.AlgHMAC)), hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), xor, sealedData(),
		aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgNull), aesKey(signingKey, tpm2.AlgCMAC),
		cipherKey(signingKey|tpm2.ObjDecrypt, tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 192, Mode: tpm2.AlgCBC}),
		storageKey(cipherKey(0, tpm2.SymDef{Alg: tpm2.AlgCamellia, KeyBits: 256, Mode: tpm2.AlgCFB})),
		eccKey(signingKey, schemeOf(tpm2.AlgECDAA), tpm2.CurveBNP256), eccKey(signingKey, schemeOf(tpm2.AlgSM2), tpm2.CurveSM2),
		storageKey(eccKey(0, null, tpm2.CurveP521)),
	} {
		hierarchy, auth, handle := tpm2.RHOwner, tpm2.RHOwner, goldenKey+1+tpm2.Handle(i)
		switch i % 3 {
		case 1:
			hierarchy, auth, handle = tpm2.RHPlatform, tpm2.RHPlatform, tpm2.PlatformPersistent+tpm2.Handle(i)
		case 2:
			hierarchy = tpm2.RHEndorsement
		}
		data := ""
		if !key.Attributes.Has(tpm2.ObjSensitiveDataOrigin) {
			data = "what was sealed"
		}
		r.all(createPrimaryCmd(hierarchy, &key, data), evictCmd(auth, third, handle), flushCmd(third))
	}
	r.all(flushCmd(tpm2.TransientFirst)) // libtpms needs the slot for the parent
	child := sealedData()
	created := new(createOut)
	decode(r.t, params(r.t, r.execute(frame(tpm2.CCCreate, []tpm2.Handle{goldenKey}, password(""),
		buf16(append(buf16([]byte("auth")), buf16([]byte("a child"))...)), buf16(tpm2.Marshal(&child)), buf16(nil), u32(0)))[headerSize:]), created)
	loaded := r.execute(frame(tpm2.CCLoad, []tpm2.Handle{goldenKey}, password(""), buf16(created.private), buf16(tpm2.Marshal(&created.public.Public))))
	at := tpm2.Handle(binary.BigEndian.Uint32(loaded[headerSize:]))
	r.all(evictCmd(tpm2.RHOwner, at, goldenKey+0x10), flushCmd(at))
}

// goldenIndices defines an Index of every kind besides those of equipment, in
// every state that one can have.
func (r *rig) goldenIndices() {
	r.t.Helper()
	const rw = tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead
	owner := func(x tpm2.Handle) []tpm2.Handle { return []tpm2.Handle{tpm2.RHOwner, x} }
	pin := []byte{0, 0, 0, 1, 0, 0, 0, 3}
	write := func(x tpm2.Handle, data []byte) []byte {
		return frame(tpm2.CCNVWrite, owner(x), password(""), buf16(data), u16(0))
	}
	const bits, pass, fail, locked, untouched, platform, hybrid = goldenIndex + 0x10, goldenIndex + 0x11, goldenIndex + 0x12,
		goldenIndex + 0x13, goldenIndex + 0x14, goldenIndex + 0x15, goldenIndex + 0x16
	r.all(defineCmd(tpm2.RHOwner, bits, rw|nvKind(tpm2.NTBits)|tpm2.NVNoDA, 8),
		defineCmd(tpm2.RHOwner, pass, rw|nvKind(tpm2.NTPinPass), 8),
		defineCmd(tpm2.RHOwner, fail, rw|nvKind(tpm2.NTPinFail)|tpm2.NVNoDA, 8),
		defineCmd(tpm2.RHOwner, locked, rw|tpm2.NVWriteDefine|tpm2.NVReadSTClear|tpm2.NVGlobalLock, 300),
		defineCmd(tpm2.RHOwner, untouched, rw|tpm2.NVWriteSTClear, 5),
		defineCmd(tpm2.RHPlatform, platform, tpm2.NVPlatformCreate|tpm2.NVPPRead|tpm2.NVPPWrite|tpm2.NVPolicyDelete, 1),
		defineCmd(tpm2.RHOwner, hybrid, rw|nvKind(tpm2.NTCounter)|tpm2.NVOrderly, 8),
		frame(tpm2.CCNVSetBits, owner(bits), password(""), []byte{0x80, 0, 0, 0, 0, 0, 0, 1}),
		write(pass, pin), write(fail, pin), write(locked, []byte("locked")), write(goldenIndex, []byte("golden")),
		frame(tpm2.CCNVWriteLock, owner(locked), password("")), frame(tpm2.CCNVReadLock, owner(locked), password("")),
		frame(tpm2.CCNVIncrement, owner(hybrid), password("")),
		frame(tpm2.CCNVIncrement, []tpm2.Handle{goldenIndex + 1, goldenIndex + 1}, password("")),
		frame(tpm2.CCNVExtend, owner(goldenIndex+2), password(""), buf16([]byte("extended"))),
		frame(tpm2.CCNVWrite, []tpm2.Handle{goldenIndex + 3, goldenIndex + 3}, password(""), buf16([]byte("orderly")), u16(3)))
}

// goldenSettings changes what hierarchies, lockout, clock, audit and PCRs have.
func (r *rig) goldenSettings() {
	r.t.Helper()
	policy := buf16(tpm2.AlgSHA384.Digest([]byte("policy")))
	owner, platform, lockout := []tpm2.Handle{tpm2.RHOwner}, []tpm2.Handle{tpm2.RHPlatform}, []tpm2.Handle{tpm2.RHLockout}
	r.all(frame(tpm2.CCDictionaryAttackParameters, lockout, password(""), u32(7), u32(1000), u32(500)),
		frame(tpm2.CCSetPrimaryPolicy, owner, password(""), policy, u16(uint16(tpm2.AlgSHA384))),
		frame(tpm2.CCSetPrimaryPolicy, lockout, password(""), policy, u16(uint16(tpm2.AlgSHA384))),
		frame(tpm2.CCClearControl, platform, password(""), []byte{1}),
		frame(tpm2.CCSetAlgorithmSet, platform, password(""), u32(3)),
		frame(tpm2.CCClockSet, owner, password(""), u32(1), u32(5)),
		frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(tpm2.CurveP256))),
		frame(tpm2.CCClockRateAdjust, owner, password(""), []byte{2}),
		frame(tpm2.CCSetCommandCodeAuditStatus, owner, password(""), u16(uint16(tpm2.AlgSHA384)), u32(0), u32(0)),
		frame(tpm2.CCSetCommandCodeAuditStatus, owner, password(""), u16(uint16(tpm2.AlgNull)), u32(1), u32(uint32(tpm2.CCPCRExtend)), u32(0)))
	for _, n := range []tpm2.Handle{0, 10, 16, 23} {
		for _, alg := range tpm2.HashAlgs() {
			r.all(frame(tpm2.CCPCRExtend, []tpm2.Handle{n}, password(""), u32(1), u16(uint16(alg)), make([]byte, alg.DigestSize())))
		}
	}
	// Two failures under lockout protection; then lockoutAuth itself is set.
	for range 2 {
		read := frame(tpm2.CCNVRead, []tpm2.Handle{goldenIndex, goldenIndex}, password("wrong"), u16(1), u16(0))
		if rc := code(r.execute(read)); rc != tpm2.RCAuthFail.S(1) {
			r.t.Fatal(rc)
		}
	}
	r.all(frame(tpm2.CCHierarchyChangeAuth, lockout, password(""), buf16([]byte("lockout"))))
}

// goldenSessions fills the policy session of equipment, saves the HMAC session,
// and starts a bound one for audit.
func (r *rig) goldenSessions() {
	r.t.Helper()
	const policy, saved = tpm2.PolicySessionFirst, tpm2.HMACSessionFirst + 1
	pcrs := []byte{0, 0, 0, 1, 0, 11, 3, 1, 4, 0}
	for _, a := range []func(tpm2.Handle) []byte{
		assert(tpm2.CCPolicyPCR, buf16(nil), pcrs), assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCUnseal))),
		assert(tpm2.CCPolicyAuthValue), assert(tpm2.CCPolicyLocality, []byte{1}), assert(tpm2.CCPolicyNvWritten, []byte{1}),
		assert(tpm2.CCPolicyCpHash, buf16(make([]byte, 32))), assert(tpm2.CCPolicyPhysicalPresence),
	} {
		r.all(a(policy))
	}
	r.all(frame(tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHEndorsement, policy}, password(""), buf16(nil), buf16(nil), buf16(nil), u32(0xFFFFFF00)),
		frame(tpm2.CCContextSave, []tpm2.Handle{saved}, nil), auditableCmd(tpm2.SEHMAC, tpm2.RHOwner, tpm2.AlgSHA256))
}

// goldenTransients puts in the slots an stClear key, a public area and a key of
// the null hierarchy.
func (r *rig) goldenTransients() {
	r.t.Helper()
	stClear := eccKey(signingKey|tpm2.ObjSTClear, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	null := aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgCTR)
	external := cipherKey(signingKey, tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCMAC})
	external.NameAlg = tpm2.AlgSHA512
	external.Unique = make([]byte, 64)
	r.all(flushCmd(tpm2.TransientFirst+1), createPrimaryCmd(tpm2.RHOwner, &stClear, ""),
		loadExternalCmd(&external, nil, tpm2.RHOwner), createPrimaryCmd(tpm2.RHNull, &null, ""))
}

// goldenSequences puts in the slots a sequence of every kind but that of a hash,
// which a saved context has shown.
func (r *rig) goldenSequences() {
	r.t.Helper()
	const hmac, cmac = goldenKey + 1 + 5, goldenKey + 1 + 9
	for i := range tpm2.Handle(3) {
		r.all(flushCmd(tpm2.TransientFirst + i))
	}
	null := u16(uint16(tpm2.AlgNull))
	// A persistent key takes the first slot while it is used.
	r.all(frame(tpm2.CCHMACStart, []tpm2.Handle{hmac}, password(""), buf16([]byte("auth")), null),
		frame(tpm2.CCHMACStart, []tpm2.Handle{cmac}, password(""), buf16([]byte("auth")), null),
		frame(tpm2.CCHashSequenceStart, nil, nil, buf16([]byte("auth")), null))
	for i := range tpm2.Handle(3) {
		r.all(frame(tpm2.CCSequenceUpdate, []tpm2.Handle{tpm2.TransientFirst + i}, password("auth"), buf16([]byte("a part"))))
	}
}

// damage makes a state that must be refused, and says with what words.
type damage struct {
	of   string // which golden file
	make func(b []byte) []byte
	says string
}

// inSections changes sections and leaves the digest right.
func inSections(change func(*blob.Envelope)) func([]byte) []byte {
	return func(b []byte) []byte {
		env, err := blob.Decode(bytes.Clone(b))
		if err != nil {
			panic(err)
		}
		change(env)
		return env.Encode()
	}
}

// flip alters one byte.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		b[(at+len(b))%len(b)] ^= 0x40
		return b
	}
}

const damaged = "the state is damaged: "

// damages are the states of every kind of damage, kept beside the golden ones.
var damages = map[string]damage{
	"no-magic":   {"permanent", flip(0), damaged + "it does not begin as one"},
	"altered":    {"permanent", flip(1000), damaged + "its digest does not match"},
	"bad-digest": {"permanent", flip(-1), damaged + "its digest does not match"},
	"cut":        {"permanent", func(b []byte) []byte { return b[:len(b)-100] }, damaged + "it says "},
	"longer":     {"permanent", func(b []byte) []byte { return append(bytes.Clone(b), 0) }, damaged + "it says "},
	"header":     {"permanent", func(b []byte) []byte { return b[:40] }, damaged + "it does not begin as one"},
	"newer": {"permanent", func(b []byte) []byte {
		b = bytes.Clone(b)
		binary.BigEndian.PutUint16(b[10:], blob.Version+1)
		return b
	}, "the state is of a newer version: it is of version 1 and needs a reader of 2, this one is 1"},
	"newer-section": {"permanent", inSections(func(e *blob.Envelope) { e.Find(0x0105).MinVersion = 9 }),
		"the state is of a newer version: section 0x0105 needs a reader of 9"},
	"unknown-section": {"permanent", inSections(func(e *blob.Envelope) {
		e.Sections = append(e.Sections, blob.Section{Tag: 0x01FE, Version: 1, MinVersion: 1})
	}), "the state is of a newer version: section 0x01fe needs a reader of 1"},
	"no-section": {"permanent", inSections(func(e *blob.Envelope) { *e.Find(0x0106) = blob.Section{Tag: 0x01FE} }),
		damaged + "section 0x0106 is missing"},
	"no-saved-section": {"state", inSections(func(e *blob.Envelope) { *e.Find(0x0203) = blob.Section{Tag: 0x01FE} }),
		damaged + "section 0x0203 is missing"},
	"section-twice": {"permanent", inSections(func(e *blob.Envelope) { e.Sections = append(e.Sections, e.Sections[2]) }),
		damaged + "section 0x0102 is there twice"},
	"section-cut":    {"permanent", inSections(func(e *blob.Envelope) { s := e.Find(0x0106); s.Data = s.Data[:len(s.Data)-7] }), damaged + "section 0x0106 does not decode"},
	"section-longer": {"permanent", inSections(func(e *blob.Envelope) { s := e.Find(0x0101); s.Data = append(bytes.Clone(s.Data), 0) }), damaged + "section 0x0101 does not decode"},
	"nonsense": {"permanent", inSections(func(e *blob.Envelope) {
		s := e.Find(0x0107)
		s.Data = bytes.Repeat([]byte{0xFF}, len(s.Data))
	}), damaged + "section 0x0107 does not decode"},
	"profile": {"permanent", inSections(func(e *blob.Envelope) { e.Find(0x0100).Data = []byte("{}") }), damaged + "the profile has no Name"},
	"bound": {"permanent", inSections(func(e *blob.Envelope) { e.Target[0] = 1 }),
		"the state is bound to another instance by a migration: give it to that one"},
	"volatile-other-instance": {"volatile", inSections(func(e *blob.Envelope) { e.Instance[0] ^= 1 }),
		errNotTogether.Error()},
	"volatile-other-moment": {"volatile", inSections(func(e *blob.Envelope) {
		s := e.Find(0x0300)
		s.Data = bytes.Repeat([]byte{1}, len(s.Data))
	}), ErrNotAPair.Error()},
	"volatile-cut": {"volatile", func(b []byte) []byte { return b[:len(b)/2] }, "the volatile state: " + damaged + "it says "},
	"volatile-buffer": {"volatile", inSections(func(e *blob.Envelope) {
		s := e.Find(0x0306)
		s.Data = bytes.Clone(s.Data)
		binary.BigEndian.PutUint32(s.Data[12:], 99999)
	}), "the volatile state: " + damaged + "its buffer has 99999 bytes"},
	"volatile-of-permanent": {"permanent", func(b []byte) []byte { return b }, "the volatile state: " + damaged + "section 0x0300 is missing"},
}
