package tpm

import (
	"bytes"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestXORByTheSessionsHash encrypts a parameter by XOR in a session whose
// authHash is not the hash algorithm of its symmetric definition: both TPMs take
// authHash, which Part 1, 21.2 calls the hash algorithm of the session.
func TestXORByTheSessionsHash(t *testing.T) {
	p := newPair(t)
	nonce, plain := bytes.Repeat([]byte{7}, 16), []byte("a parameter that nobody shall see on the bus")
	for name, execute := range map[string]func([]byte) []byte{"ours": p.execute, "swtpm": p.o.execute} {
		execute(startupCmd(tpm2.SUClear))
		resp := execute(frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(nonce), buf16(nil),
			[]byte{byte(tpm2.SEHMAC)}, u16(uint16(tpm2.AlgXOR)), u16(uint16(tpm2.AlgSHA1)), u16(uint16(tpm2.AlgSHA256))))
		if code(resp) != tpm2.RCSuccess {
			t.Fatalf("%s: no session: %v", name, code(resp))
		}
		nonceTPM, _, _ := cutSized(resp[headerSize+4:])
		data := bytes.Clone(plain)
		crypt.XORObfuscate(tpm2.AlgSHA256, nil, nonce, nonceTPM, data)
		auth := append(u32(uint32(tpm2.HMACSessionFirst)), buf16(nonce)...)
		auth = append(auth, byte(tpm2.SessionDecrypt), 0, 0)
		resp = execute(frame(tpm2.CCHash, nil, auth, buf16(data), u16(uint16(tpm2.AlgSHA256)), u32(uint32(tpm2.RHNull))))
		if want := tpm2.AlgSHA256.Digest(plain); code(resp) != tpm2.RCSuccess || !bytes.Contains(resp, want) {
			t.Errorf("%s: %v, decrypted to something else", name, code(resp))
		}
	}
}
