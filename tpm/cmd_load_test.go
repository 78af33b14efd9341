package tpm

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestLoadOfWhatIsNoSensitiveArea loads private areas that are protected right,
// by a parent whose secrets others may know, and hold a sensitive area cut at
// every byte or with one too many.
func TestLoadOfWhatIsNoSensitiveArea(t *testing.T) {
	p := newTwins(t)
	parent := storageKey(aesKey(0, tpm2.AlgCFB))
	parent.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	p.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(tpm2.RHOwner, &parent, ""))
	protection := crypt.ProtectionOf(p.e.state.objects.Get(tpm2.TransientFirst).Key)
	key := newKey(t, hmacKey(usable|tpm2.ObjSign, schemeOf(tpm2.AlgHMAC)))
	whole := buf16(tpm2.Marshal(key.Sensitive))
	for n := range len(whole) + 2 {
		data := append(append([]byte(nil), whole...), 0)[:n]
		private, rc := protection.Wrap(key.Public.Name(), data, rand.Reader)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		load := frame(tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(private), buf16(tpm2.Marshal(&key.Public)))
		if code(p.same(fmt.Sprintf("%d of %d bytes", n, len(whole)), load)) == tpm2.RCSuccess {
			p.same("Flush", flushCmd(tpm2.TransientFirst+1))
		}
	}
}
