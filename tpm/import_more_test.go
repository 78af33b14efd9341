package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// handleOf is the handle in a response.
func handleOf(resp []byte) tpm2.Handle {
	return tpm2.Handle(binary.BigEndian.Uint32(resp[headerSize:]))
}

func saveCmd(h tpm2.Handle) []byte { return frame(tpm2.CCContextSave, []tpm2.Handle{h}, nil) }
func loadContextCmd(saved []byte) []byte {
	return frame(tpm2.CCContextLoad, nil, nil, saved[headerSize:])
}

// TestImportContexts: what the guest of Debian's swtpm has saved loads here, each
// as often as it should, and not after the next TPM Reset.
func TestImportContexts(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear))
	rsa := storageKey(rsaKey(0, schemeOf(tpm2.AlgNull)))
	stClear := eccKey(signingKey|tpm2.ObjSTClear, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	r.all(createPrimaryCmd(tpm2.RHOwner, &rsa, ""), createPrimaryCmd(tpm2.RHEndorsement, &stClear, ""),
		frame(tpm2.CCHashSequenceStart, nil, nil, buf16([]byte("auth")), u16(uint16(tpm2.AlgSHA384))),
		frame(tpm2.CCSequenceUpdate, []tpm2.Handle{tpm2.TransientFirst + 2}, password("auth"), buf16([]byte("a part"))),
		auditableCmd(tpm2.SEHMAC, tpm2.RHOwner, tpm2.AlgSHA512), auditableCmd(tpm2.SEPolicy, tpm2.RHNull, tpm2.AlgSHA256),
		assert(tpm2.CCPolicyAuthValue)(tpm2.PolicySessionFirst+1))
	var objects, sessions [][]byte
	for i := range tpm2.Handle(3) {
		saved := r.execute(saveCmd(tpm2.TransientFirst + i))
		objects = append(objects, saved)
		r.all(flushCmd(tpm2.TransientFirst + i))
	}
	for _, h := range []tpm2.Handle{tpm2.HMACSessionFirst, tpm2.PolicySessionFirst + 1} {
		sessions = append(sessions, r.execute(saveCmd(h)))
	}
	mine := r.takeOver()
	for i, saved := range append(objects, sessions...) {
		r.agree(mine, "loading a context", loadContextCmd(saved))
		if i < 2 {
			r.agree(mine, "an object loaded", readPublicCmd(tpm2.TransientFirst+tpm2.Handle(i)))
		}
	}
	r.agree(mine, "a sequence and sessions loaded",
		frame(tpm2.CCSequenceComplete, []tpm2.Handle{tpm2.TransientFirst + 2}, password("auth"), buf16([]byte("the rest")), u32(uint32(tpm2.RHOwner))),
		frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{tpm2.PolicySessionFirst + 1}, nil),
		capabilityCmd(tpm2.CapHandles, 0x02000000, 10), capabilityCmd(tpm2.CapHandles, 0x03000000, 10),
		loadContextCmd(sessions[0]), flushCmd(tpm2.TransientFirst), flushCmd(tpm2.TransientFirst+1), loadContextCmd(objects[0]))
	altered := bytes.Clone(objects[0])
	altered[len(altered)-1] ^= 1
	r.agree(mine, "an altered context", flushCmd(tpm2.TransientFirst), loadContextCmd(altered))

	// What we have saved, and what libtpms had, over Shutdown(STATE).
	again := mine.execute(saveCmd(tpm2.HMACSessionFirst))
	mine.all(shutdownCmd(tpm2.SUState))
	mine.power(mine.durable)
	mine.all(startupCmd(tpm2.SUState), loadContextCmd(objects[0]), loadContextCmd(objects[1]), loadContextCmd(again),
		flushCmd(tpm2.TransientFirst), flushCmd(tpm2.TransientFirst+1), shutdownCmd(tpm2.SUState))
	mine.power(mine.durable)
	mine.all(startupCmd(tpm2.SUClear), loadContextCmd(objects[0]))
	if rc := code(mine.execute(loadContextCmd(objects[1]))); rc != tpm2.RCIntegrity.P(1) {
		t.Errorf("an stClear key after a TPM Restart: %v", rc)
	}
	mine.all(shutdownCmd(tpm2.SUClear))
	mine.power(mine.durable)
	mine.all(startupCmd(tpm2.SUClear))
	if rc := code(mine.execute(loadContextCmd(objects[0]))); rc != tpm2.RCIntegrity.P(1) {
		t.Errorf("after a TPM Reset: %v", rc)
	}
}

// TestImportSequences goes on here with sequences of every kind that Debian's
// swtpm has begun, with data that ends within a block, at its end and beyond.
func TestImportSequences(t *testing.T) {
	for _, length := range []int{0, 6, 63, 64, 128, 300} {
		r := newForeign(t)
		r.all(startupCmd(tpm2.SUClear))
		key := hmacKey(signingKey, schemeOf(tpm2.AlgHMAC))
		r.all(createPrimaryCmd(tpm2.RHOwner, &key, ""), evictCmd(tpm2.RHOwner, tpm2.TransientFirst, goldenKey), flushCmd(tpm2.TransientFirst))
		for i, alg := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgNull} {
			start := frame(tpm2.CCHashSequenceStart, nil, nil, buf16([]byte("auth")), u16(uint16(alg)))
			if i%2 == 1 {
				start = frame(tpm2.CCHMACStart, []tpm2.Handle{goldenKey}, password(""), buf16([]byte("auth")), u16(uint16(tpm2.AlgNull)))
			}
			h := handleOf(r.execute(start))
			data := bytes.Repeat([]byte("abc"), 100)[:length]
			if length > 0 {
				r.all(frame(tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password("auth"), buf16(data)))
			}
			mine := r.takeOver()
			rest := buf16([]byte("the rest"))
			end := frame(tpm2.CCSequenceComplete, []tpm2.Handle{h}, password("auth"), rest, u32(uint32(tpm2.RHNull)))
			if alg == tpm2.AlgNull {
				end = frame(tpm2.CCEventSequenceComplete, []tpm2.Handle{16, h}, append(password(""), password("auth")...), rest)
			}
			r.agree(mine, "a sequence", frame(tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password("auth"), buf16([]byte("more"))), end)
		}
	}
}

// TestImportTime: Time and Clock go on, with the time between.
func TestImportTime(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear))
	time.Sleep(50 * time.Millisecond)
	read := frame(tpm2.CCReadClock, nil, nil)
	var before, after tpm2.TimeInfo
	decode(t, r.execute(read)[headerSize:], &before)
	mine := r.takeOver()
	decode(t, mine.execute(read)[headerSize:], &after)
	// The rig's clock shows a day of the year 2000, before the state was saved:
	// no time has passed.
	if after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	volatile, err := libtpms.DecodeVolatile(r.other.blob(volatileBlob))
	if err != nil {
		t.Fatal(err)
	}
	if d := unread(volatile); d > 10_000 || volatile.Saved < 1_700_000_000_000 {
		t.Errorf("saved %d ms after 1970, %d ms after its clock was read", volatile.Saved, d)
	}
}

// TestImportOldSeeds: primary keys of seeds from before revision 155 are the same
// ones, and new seeds give keys of the new kind.
func TestImportOldSeeds(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear), shutdownCmd(tpm2.SUClear))
	p, err := libtpms.DecodePermanent(r.other.blob(permanentBlob))
	if err != nil {
		t.Fatal(err)
	}
	p.Data.OwnerLevel, p.Data.EndorsementLevel, p.Data.PlatformLevel = 0, 0, 0
	old, err := p.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	here, err := ImportLibtpms(testConfig(), old)
	if err != nil {
		t.Fatal(err)
	}
	swtpm := &rig{t: t, other: newOracleOf(t, old)}
	mine := &rig{t: t, cfg: testConfig(), clock: new(clock.Manual)}
	mine.power(here)
	swtpm.agree(mine, "starting up", startupCmd(tpm2.SUClear))
	rsa := storageKey(rsaKey(0, schemeOf(tpm2.AlgNull)))
	ecc := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256))
	for _, template := range []tpm2.Public{rsa, ecc} {
		for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform} {
			swtpm.agree(mine, "a primary key", createPrimaryCmd(h, &template, ""), flushCmd(tpm2.TransientFirst))
		}
	}
	rsa.KeyBits = 3072
	swtpm.agree(mine, "a larger one", createPrimaryCmd(tpm2.RHOwner, &rsa, ""))
	back, err := ExportLibtpms(mine.cfg, mine.durable, false)
	if err != nil {
		t.Fatal(err)
	}
	if p := plain(t, back); p.Data.OwnerLevel != 0 || p.Data.PlatformLevel != 0 {
		t.Error("the levels did not go back")
	}
	mine.all(frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHLockout}, password("")))
	if h := mine.e.state.hierarchies; h.Owner.Level != 1 || h.Endorsement.Level != 0 {
		t.Errorf("after Clear: %d, %d", h.Owner.Level, h.Endorsement.Level)
	}
}

// TestImportRefuses: a volatile state that cannot be taken over is refused in one
// sentence, and so is one of another TPM.
func TestImportRefuses(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear))
	permanent, volatile := r.other.blob(permanentBlob), r.other.blob(volatileBlob)
	cfg := testConfig()
	here, err := ImportLibtpms(cfg, permanent)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(v *libtpms.Volatile)
		says   string
	}{
		"failed":    {func(v *libtpms.Volatile) { v.Failed = true }, "failure mode"},
		"measuring": {func(v *libtpms.Volatile) { v.DRTM = tpm2.TransientFirst }, "_TPM_Hash_Start"},
		"another":   {func(v *libtpms.Volatile) { v.OwnerSeed[5] ^= 1 }, "another TPM's"},
	} {
		v, err := libtpms.DecodeVolatile(volatile)
		if err != nil {
			t.Fatal(err)
		}
		c.change(v)
		b, err := v.Encode(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ImportLibtpmsVolatile(cfg, here, b); err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(r *libtpms.Reset){
		"sessions": func(r *libtpms.Reset) { r.ContextCounter = 1<<64 - 1 }, // the next context would have the number 0
		"objects":  func(r *libtpms.Reset) { r.ObjectContextID = 1<<64 - 1 },
	} {
		v, err := libtpms.DecodeVolatile(volatile)
		if err != nil {
			t.Fatal(err)
		}
		change(&v.Reset)
		b, err := v.Encode(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ImportLibtpmsVolatile(cfg, here, b); !errors.Is(err, ErrForeign) {
			t.Errorf("contexts of %s without end: %v", name, err)
		}
	}
	if _, err := ImportLibtpmsVolatile(cfg, here, volatile[:len(volatile)-1]); !errors.Is(err, ErrForeign) {
		t.Errorf("cut: %v", err)
	}
	if _, err := ImportLibtpmsVolatile(cfg, here, flip(2000)(volatile)); !errors.Is(err, ErrForeign) {
		t.Errorf("altered: %v", err)
	}
}
