package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// startSequence starts a hash sequence, or an event sequence with AlgNull.
func (r *rig) startSequence(alg tpm2.AlgID) tpm2.Handle {
	r.t.Helper()
	body := r.must(tpm2.RCSuccess, tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(alg)))
	return tpm2.Handle(binary.BigEndian.Uint32(body))
}

// TestSequenceTickets: a ticket is for data that does not begin like an
// attestation, and the first buffer must be long enough to tell.
func TestSequenceTickets(t *testing.T) {
	r := newRig(t, true)
	for _, c := range []struct {
		name   string
		data   []string // the last one with SequenceComplete
		ticket bool
	}{
		{"one buffer", []string{"data"}, true},
		{"two buffers", []string{"data", "more"}, true},
		{"an attestation", []string{"\xFFTCG", ""}, false},
		{"an attestation in one buffer", []string{"\xFFTCG, it says"}, false},
		{"an attestation in two buffers", []string{"\xFFTC", "G"}, false},
		{"a first buffer too short to tell", []string{"dat", "a"}, false},
		{"nothing", []string{""}, false},
		{"the mark in a second buffer", []string{"data", "\xFFTCG"}, true},
	} {
		h := r.startSequence(tpm2.AlgSHA1)
		var all string
		for _, d := range c.data[:len(c.data)-1] {
			r.must(tpm2.RCSuccess, tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(""), buf16([]byte(d)))
			all += d
		}
		last := c.data[len(c.data)-1]
		body := r.must(tpm2.RCSuccess, tpm2.CCSequenceComplete, []tpm2.Handle{h}, password(""), buf16([]byte(last)), u32(uint32(tpm2.RHEndorsement)))
		var digest tpm2.Digest
		var ticket tpm2.HashCheckTicket
		decode(t, params(t, body), &digest, &ticket)
		want := tpm2.Digest(tpm2.AlgSHA1.Digest([]byte(all + last)))
		if !bytes.Equal(digest, want) {
			t.Errorf("%s: digest %x, want %x", c.name, digest, want)
		}
		expect := tpm2.HashCheckTicket(nullTicket(tpm2.STHashCheck))
		if c.ticket {
			expect = r.e.hashCheckTicket(tpm2.RHEndorsement, tpm2.AlgSHA1, want)
		}
		if ticket.Hierarchy != expect.Hierarchy || !bytes.Equal(ticket.Digest, expect.Digest) {
			t.Errorf("%s: ticket %+v, want %+v", c.name, ticket, expect)
		}
	}
}

// TestSequenceBySession authorizes a sequence by an HMAC session, encrypted
// both ways: the answer to the command that ends it must still be authorized.
func TestSequenceBySession(t *testing.T) {
	r := newRig(t, true)
	tpm := r.gotpm()
	auth := []byte("sequence")
	start, err := gotpm.HashSequenceStart{Auth: gotpm.TPM2BAuth{Buffer: auth}, HashAlg: gotpm.TPMAlgSHA256}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	sess, end, err := gotpm.HMACSession(tpm, gotpm.TPMAlgSHA256, 16, gotpm.Auth(auth), gotpm.AESEncryption(128, gotpm.EncryptInOut))
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	h := gotpm.AuthHandle{Handle: start.SequenceHandle, Name: gotpm.TPM2BName{}, Auth: gotpm.HMAC(gotpm.TPMAlgSHA256, 16,
		gotpm.Auth(auth), gotpm.AESEncryption(128, gotpm.EncryptIn))}
	if _, err := (gotpm.SequenceUpdate{SequenceHandle: h, Buffer: gotpm.TPM2BMaxBuffer{Buffer: []byte("one, ")}}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	h.Auth = sess
	done, err := gotpm.SequenceComplete{SequenceHandle: h, Buffer: gotpm.TPM2BMaxBuffer{Buffer: []byte("two")}, Hierarchy: gotpm.TPMRHNull}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(done.Result.Buffer, tpm2.AlgSHA256.Digest([]byte("one, two"))) {
		t.Errorf("digest %x", done.Result.Buffer)
	}
	if r.e.state.objects.Get(tpm2.Handle(start.SequenceHandle)) != nil {
		t.Error("the completed sequence is still there")
	}
}

func TestEventSequenceExtendsEveryBank(t *testing.T) {
	r := newRig(t, true)
	h := r.startSequence(tpm2.AlgNull)
	r.must(tpm2.RCSuccess, tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(""), buf16([]byte("ev")))
	counter := r.e.state.pcrs.Counter
	body := r.must(tpm2.RCSuccess, tpm2.CCEventSequenceComplete, []tpm2.Handle{9, h}, noAuths(2), buf16([]byte("ent")))
	var list tpm2.DigestValues
	decode(t, params(t, body), &list)
	if len(list) != 4 || r.e.state.pcrs.Counter == counter {
		t.Fatalf("%d digests, counter %d", len(list), r.e.state.pcrs.Counter)
	}
	for i, alg := range tpm2.HashAlgs() {
		digest := alg.Digest([]byte("event"))
		if list[i].Hash != alg || !bytes.Equal(list[i].Digest, digest) {
			t.Errorf("digest %d: %+v", i, list[i])
		}
		if want := alg.Digest(make([]byte, alg.DigestSize()), digest); !bytes.Equal(r.e.state.pcrs.Value(alg, 9), want) {
			t.Errorf("PCR 9 of %v: %x, want %x", alg, r.e.state.pcrs.Value(alg, 9), want)
		}
	}
}

// TestSequencesMove goes on with sequences of every kind in a resumed TPM.
func TestSequencesMove(t *testing.T) {
	r := newRig(t, true)
	key := r.addKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), tpm2.RHOwner)
	secret := bytes.Clone(r.e.state.objects.Get(key).Sensitive.Sensitive)
	body := r.must(tpm2.RCSuccess, tpm2.CCHMACStart, []tpm2.Handle{key}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull)))
	mac := tpm2.Handle(binary.BigEndian.Uint32(body))
	event := r.startSequence(tpm2.AlgNull)
	r.e.state.objects.Flush(key)
	hash := r.startSequence(tpm2.AlgSHA512)
	for _, part := range []string{"before, ", "after"} {
		for _, h := range []tpm2.Handle{mac, event, hash} {
			r.must(tpm2.RCSuccess, tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(""), buf16([]byte(part)))
		}
		e, err := Resume(r.cfg, r.e.Permanent(), r.e.SaveVolatile())
		if err != nil {
			t.Fatal(err)
		}
		r.e = e
	}
	data := []byte("before, after")
	for h, want := range map[tpm2.Handle][]byte{hash: tpm2.AlgSHA512.Digest(data), mac: hmacOf(secret, data)} {
		body := r.must(tpm2.RCSuccess, tpm2.CCSequenceComplete, []tpm2.Handle{h}, password(""), buf16(nil), u32(uint32(tpm2.RHNull)))
		var digest tpm2.Digest
		var ticket tpm2.HashCheckTicket
		decode(t, params(t, body), &digest, &ticket)
		if !bytes.Equal(digest, want) {
			t.Errorf("sequence %x: %x, want %x", h, digest, want)
		}
	}
	r.must(tpm2.RCSuccess, tpm2.CCEventSequenceComplete, []tpm2.Handle{tpm2.RHNull, event}, noAuths(2), buf16(nil))
}

// TestWhatKeepsAShutdown: a sequence and a signature change nothing that
// Shutdown saved; an event in a PCR and an attestation do.
func TestWhatKeepsAShutdown(t *testing.T) {
	r := newRig(t, true)
	key := r.addKey(eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
	h := r.startSequence(tpm2.AlgNull)
	null := wireScheme(schemeOf(tpm2.AlgNull))
	shutdown := func() { r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(0)) }
	shutdown()
	r.must(tpm2.RCSuccess, tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(""), buf16(nil))
	r.must(tpm2.RCSuccess, tpm2.CCSign, []tpm2.Handle{key}, password(""), buf16(make([]byte, 32)), null, nullHashCheck)
	r.must(tpm2.RCSuccess, tpm2.CCGetRandom, nil, nil, u16(4))
	if r.e.NeedsShutdown() {
		t.Error("a sequence, a signature or random bytes revoke a Shutdown")
	}
	r.must(tpm2.RCSuccess, tpm2.CCEventSequenceComplete, []tpm2.Handle{0, h}, noAuths(2), buf16(nil))
	if !r.e.NeedsShutdown() {
		t.Error("an event in PCR 0 does not revoke a Shutdown")
	}
	shutdown()
	r.must(tpm2.RCSuccess, tpm2.CCQuote, []tpm2.Handle{key}, password(""), buf16(nil), null, u32(0))
	if !r.e.NeedsShutdown() {
		t.Error("a quote does not revoke a Shutdown")
	}
}
