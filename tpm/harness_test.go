package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The tests here are driven by the registry: a new command gets them for free.

// candidates are the values that a field may have to take where zero is not
// one of its values: algorithms, tags, handles, sizes.
var candidates = func() (list [][]byte) {
	for v := range uint16(0x46) {
		list = append(list, u16(v))
	}
	for _, v := range []uint16{128, 256, 2048, 0x8021, 0x8022, 0x8023, 0x8024, 0x8025} {
		list = append(list, u16(v))
	}
	for v := range byte(8) {
		list = append(list, []byte{v})
	}
	for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHNull, tpm2.TransientFirst,
		tpm2.PersistentFirst, tpm2.NVIndexFirst, 1, 2} {
		list = append(list, u32(uint32(h)))
	}
	return list
}()

// progress decodes b and says how far it came.
func progress(d *command, b []byte) (rc tpm2.RC, off int) {
	rc, _, off = progressIn(d, b)
	return rc, off
}

// progressIn is progress with the number of the parameter that ended it.
func progressIn(d *command, b []byte) (rc tpm2.RC, param, off int) {
	dec := tpm2.NewDecoderFor(b, &fullProfile.impl)
	d.newParams().Walk(&dec)
	return dec.RC().Base(), int(dec.RC()>>8) & 0xF, len(b) - dec.Remaining()
}

// sample finds parameters that the command's decoder accepts, by trying: more
// bytes where there are too few, another value where one is refused.
func sample(d *command) (b []byte, ok bool) {
	for range 1000 {
		rc, off := progress(d, b)
		switch rc {
		case tpm2.RCSuccess:
			return b[:off], true
		case tpm2.RCInsufficient:
			b = append(b, 0)
		default:
			if !improve(d, b, rc, off) {
				return b, false
			}
		}
	}
	return b, false
}

// improve changes the bytes before off so that the decoder comes further.
func improve(d *command, b []byte, rc tpm2.RC, off int) bool {
	try := func(at int, v []byte) bool {
		if at < 0 || at+len(v) > len(b) {
			return false
		}
		old := bytes.Clone(b[at : at+len(v)])
		copy(b[at:], v)
		if got, now := progress(d, b); now > off || got == tpm2.RCSuccess || got == tpm2.RCInsufficient {
			return true
		}
		copy(b[at:], old)
		return false
	}
	if rc == tpm2.RCSize && sizeIt(d, b, off) {
		return true
	}
	for _, v := range candidates {
		if try(off-len(v), v) {
			return true
		}
	}
	return false
}

// sizeIt finds the size field of the structure that ends at off: the field with
// which the decoder goes on to the next parameter.
func sizeIt(d *command, b []byte, off int) bool {
	_, param, _ := progressIn(d, b)
	for at := 0; at < off-2; at++ {
		old := binary.BigEndian.Uint16(b[at:])
		binary.BigEndian.PutUint16(b[at:], uint16(off-at-2))
		if rc, now, _ := progressIn(d, b); rc == tpm2.RCSuccess || now > param {
			return true
		}
		binary.BigEndian.PutUint16(b[at:], old)
	}
	return false
}

func TestEveryCommandsParameters(t *testing.T) {
	for i := range registry.list {
		d := &registry.list[i]
		t.Run(d.cc.String(), func(t *testing.T) {
			b, ok := sample(d)
			if !ok {
				rc, off := progress(d, b)
				t.Fatalf("no parameters found: %x ends in %v at %d", b, rc, off)
			}
			in := d.newParams()
			dec := tpm2.NewDecoderFor(b, &fullProfile.impl)
			in.Walk(&dec)
			if out := tpm2.Marshal(in); !bytes.Equal(out, b) {
				t.Fatalf("%x decodes, and encodes to %x", b, out)
			}
			for n := range b {
				if rc, _ := progress(d, b[:n]); rc == tpm2.RCSuccess {
					t.Errorf("the first %d of %d bytes decode", n, len(b))
				}
			}
		})
	}
}

// anyHandle is a handle of a kind.
func anyHandle(k handleKind) tpm2.Handle {
	for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHEndorsement, tpm2.RHLockout,
		tpm2.RHNull, 0, tpm2.NVIndexFirst, tpm2.HMACSessionFirst, tpm2.PolicySessionFirst, tpm2.TransientFirst,
		tpm2.RHACT0} {
		if k.allows(h) {
			return h
		}
	}
	panic("a kind without a handle")
}

// sampleFrame is a command with sample parameters and empty authorizations.
func sampleFrame(d *command) []byte {
	params, _ := sample(d)
	var handles []tpm2.Handle
	var auth []byte
	for _, h := range d.handles {
		handles = append(handles, anyHandle(h.kind))
		if h.role != authNone {
			auth = append(auth, password("")...)
		}
	}
	return frame(d.cc, handles, auth, params)
}

// checkResponse holds what every response must be.
func checkResponse(t *testing.T, cmd, resp []byte) {
	t.Helper()
	if len(resp) < headerSize || len(resp) > DefaultBufferSize || int(binary.BigEndian.Uint32(resp[2:])) != len(resp) {
		t.Fatalf("%x: malformed response %x", cmd, resp)
	}
	rc := tpm2.RC(binary.BigEndian.Uint32(resp[6:]))
	if rc == tpm2.RCFailure {
		t.Fatalf("%x put the TPM in failure mode", cmd)
	}
	if rc != tpm2.RCSuccess && len(resp) != headerSize {
		t.Fatalf("%x: an error with a body: %x", cmd, resp)
	}
}

// TestEveryCommandTruncated runs every command whole, cut at every byte (its
// size field saying so) and with a byte too many: each gets an answer, and a
// wrong one never succeeds.
func TestEveryCommandTruncated(t *testing.T) {
	for i := range registry.list {
		d := &registry.list[i]
		t.Run(d.cc.String(), func(t *testing.T) {
			r := fullRig(t, d.cc != tpm2.CCStartup)
			whole := sampleFrame(d)
			checkResponse(t, whole, r.execute(whole))
			r = fullRig(t, d.cc != tpm2.CCStartup)
			for n := headerSize; n < len(whole); n++ {
				cut := bytes.Clone(whole[:n])
				binary.BigEndian.PutUint32(cut[2:], uint32(n))
				resp := r.execute(cut)
				checkResponse(t, cut, resp)
				if tpm2.RC(binary.BigEndian.Uint32(resp[6:])) == tpm2.RCSuccess {
					t.Errorf("%x succeeds", cut)
				}
			}
			long := append(bytes.Clone(whole), 0)
			binary.BigEndian.PutUint32(long[2:], uint32(len(long)))
			resp := r.execute(long)
			checkResponse(t, long, resp)
			if tpm2.RC(binary.BigEndian.Uint32(resp[6:])) == tpm2.RCSuccess {
				t.Errorf("a trailing byte is accepted: %x", long)
			}
		})
	}
}

// fullProfile shows every command that there is.
var fullProfile = builtinProfile("ashlar-v1")

// fullRig is newRig with all that there is.
func fullRig(t *testing.T, start bool) *rig {
	t.Helper()
	return newRigOf(t, fullProfile, start)
}
