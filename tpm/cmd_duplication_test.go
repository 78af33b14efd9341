package tpm

import (
	"fmt"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// dupPolicy is the policy that allows a duplication: PolicyCommandCode.
func dupPolicy() []byte {
	return tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicyCommandCode)), u32(uint32(tpm2.CCDuplicate)))
}

// dupAuth fulfils it.
func dupAuth(tpm transport.TPM) gotpm.Session {
	return gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(_ transport.TPM, s gotpm.TPMISHPolicy, _ gotpm.TPM2BNonce) error {
		_, err := gotpm.PolicyCommandCode{PolicySession: s, Code: gotpm.TPMCCDuplicate}.Execute(tpm)
		return err
	})
}

// wraps are the ways to protect a duplicate.
type wraps struct {
	name   string
	parent gotpm.TPMTPublic
	outer  bool
	inner  bool
	key    []byte // of the inner wrap; the TPM's own where nil
}

func (w *wraps) symmetric() gotpm.TPMTSymDef {
	if !w.inner {
		return gotpm.TPMTSymDef{Algorithm: gotpm.TPMAlgNull}
	}
	return gotpm.TPMTSymDef{Algorithm: gotpm.TPMAlgAES,
		KeyBits: gotpm.NewTPMUSymKeyBits(gotpm.TPMAlgAES, gotpm.TPMKeyBits(128)),
		Mode:    gotpm.NewTPMUSymMode(gotpm.TPMAlgAES, gotpm.TPMAlgCFB)}
}

// TestDuplicateAndImport moves a sealed object between this engine and swtpm,
// both ways, to parents of each type, with every wrap.
func TestDuplicateAndImport(t *testing.T) {
	p := newTwins(t)
	tpms := []transport.TPM{p.gotpm(), p.o.gotpm()}
	key := []byte("a key of 16 byte")
	for _, w := range []wraps{
		{"RSA, outer", gotpm.RSASRKTemplate, true, false, nil},
		{"ECC, outer", gotpm.ECCSRKTemplate, true, false, nil},
		{"both", gotpm.ECCSRKTemplate, true, true, nil},
		{"both, key given", gotpm.RSASRKTemplate, true, true, key},
		{"inner", gotpm.ECCSRKTemplate, false, true, key},
		{"none", gotpm.ECCSRKTemplate, false, false, nil},
	} {
		for from, to := range []int{1, 0} {
			t.Run(fmt.Sprintf("%s, from %d", w.name, from), func(t *testing.T) {
				w.move(t, tpms[from], tpms[to])
			})
		}
	}
}

// move duplicates a sealed object of one TPM and imports it into the other.
func (w *wraps) move(t *testing.T, from, to transport.TPM) {
	parent, newParent := primary(t, to, gotpm.TPMRHOwner, w.parent)
	defer flush(t, to, parent.Handle)
	public, d := w.duplicate(t, from, newParent.OutPublic)
	key := gotpm.TPM2BData{Buffer: w.key}
	if w.inner && w.key == nil {
		key = d.EncryptionKeyOut
	} else if len(d.EncryptionKeyOut.Buffer) != 0 {
		t.Errorf("a key came out: %x", d.EncryptionKeyOut.Buffer)
	}
	i := gotpm.Import{ParentHandle: parent, EncryptionKey: key, ObjectPublic: public,
		Duplicate: d.Duplicate, InSymSeed: d.OutSymSeed, Symmetric: w.symmetric()}
	r, err := i.Execute(to)
	wantRC(t, "Import", err, tpm2.RCSuccess)
	if got := unseal(t, to, parent, public, r.OutPrivate, "auth"); string(got) != "it moves" {
		t.Errorf("%q arrives", got)
	}
	last := len(i.Duplicate.Buffer) - 1
	i.Duplicate.Buffer[last] ^= 1
	if _, err = i.Execute(to); w.outer || w.inner {
		wantRC(t, "Import of an altered duplicate", err, tpm2.RCIntegrity.P(3))
	} else {
		wantRC(t, "Import of another secret", err, tpm2.RCBinding)
	}
}

// duplicate seals an object that may be duplicated, and duplicates it.
func (w *wraps) duplicate(t *testing.T, tpm transport.TPM, newParent gotpm.TPM2BPublic) (gotpm.TPM2BPublic, *gotpm.DuplicateResponse) {
	t.Helper()
	parent, _ := primary(t, tpm, gotpm.TPMRHOwner, gotpm.ECCSRKTemplate)
	defer flush(t, tpm, parent.Handle)
	template := sealTemplate
	template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
	template.ObjectAttributes.EncryptedDuplication = w.outer && w.inner
	template.AuthPolicy.Buffer = dupPolicy()
	s := sealAs(t, tpm, parent, template, "auth", "it moves")
	l, err := gotpm.Load{ParentHandle: parent, InPublic: s.OutPublic, InPrivate: s.OutPrivate}.Execute(tpm)
	wantRC(t, "Load", err, tpm2.RCSuccess)
	defer flush(t, tpm, l.ObjectHandle)
	d := gotpm.Duplicate{
		ObjectHandle:    gotpm.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: dupAuth(tpm)},
		NewParentHandle: gotpm.TPMRHNull, EncryptionKeyIn: gotpm.TPM2BData{Buffer: w.key}, Symmetric: w.symmetric(),
	}
	if w.outer {
		x, err := gotpm.LoadExternal{InPublic: newParent, Hierarchy: gotpm.TPMRHOwner}.Execute(tpm)
		wantRC(t, "LoadExternal", err, tpm2.RCSuccess)
		defer flush(t, tpm, x.ObjectHandle)
		d.NewParentHandle = named(x.ObjectHandle, x.Name)
	}
	r, err := d.Execute(tpm)
	wantRC(t, "Duplicate", err, tpm2.RCSuccess)
	return s.OutPublic, r
}

// TestDuplicateNeedsItsPolicy tries to duplicate without a policy and what may
// not be duplicated.
func TestDuplicateNeedsItsPolicy(t *testing.T) {
	p := newTwins(t)
	guarded := hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA|tpm2.ObjEncryptedDuplication, schemeOf(tpm2.AlgNull))
	guarded.AuthPolicy = dupPolicy()
	movable := guarded
	movable.Attributes &^= tpm2.ObjEncryptedDuplication
	fixed := movable
	fixed.Attributes |= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	signing := eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	p.expect(tpm2.RCSuccess, "SRK", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	p.expect(tpm2.RCSuccess, "no parent", createPrimaryCmd(tpm2.RHOwner, &signing, ""))
	const srk, noParent, object = tpm2.TransientFirst, tpm2.TransientFirst + 1, tpm2.TransientFirst + 2
	null := u16(uint16(tpm2.AlgNull))
	aes := append(append(u16(uint16(tpm2.AlgAES)), u16(128)...), u16(uint16(tpm2.AlgCFB))...)
	for name, template := range map[string]tpm2.Public{"guarded": guarded, "movable": movable, "fixed": fixed} {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHOwner, &template, "a secret"))
		for i, params := range [][][]byte{{buf16(nil), null}, {buf16(nil), aes}, {buf16(make([]byte, 16)), aes},
			{buf16(make([]byte, 16)), null}, {buf16(make([]byte, 15)), aes}} {
			for _, newParent := range []tpm2.Handle{srk, noParent, object, tpm2.RHNull} {
				what := fmt.Sprintf("%s to 0x%x, parameters %d", name, uint32(newParent), i)
				handles := []tpm2.Handle{object, newParent}
				p.same(what, frame(tpm2.CCDuplicate, handles, password(""), params...))
				const s = tpm2.PolicySessionFirst
				p.sameCode(what, startSessionCmd(tpm2.SEPolicy), false)
				p.same(what, frame(tpm2.CCPolicyCommandCode, []tpm2.Handle{s}, nil, u32(uint32(tpm2.CCDuplicate))))
				p.sameCode(what, frame(tpm2.CCDuplicate, handles, policy(s), params...), false)
				p.expect(tpm2.RCSuccess, what, flushCmd(s))
			}
		}
		p.expect(tpm2.RCSuccess, name, flushCmd(object))
	}
}

// policy is an authorization by a policy session that needs no HMAC; the
// session goes on.
func policy(s tpm2.Handle) []byte {
	return append(u32(uint32(s)), 0, 0, 1, 0, 0)
}

func startSessionCmd(kind tpm2.SE) []byte {
	return frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{byte(kind)}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
}
