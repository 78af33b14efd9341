package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// both runs a command on both where the answers may differ in what is each
// TPM's own: the codes must be the same, and this one.
func (p *pair) both(want tpm2.RC, what string, cmd []byte) {
	p.t.Helper()
	ours, theirs := code(p.execute(cmd)), code(p.o.execute(cmd))
	if ours != want || theirs != want {
		p.t.Errorf("%s: ours %v, swtpm %v, want %v", what, ours, theirs, want)
	}
}

// session starts a session on both, and gives its handle.
func (p *pair) session(kind tpm2.SE) tpm2.Handle {
	p.t.Helper()
	cmd := frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{byte(kind)}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	got, want := p.execute(cmd), p.o.execute(cmd)
	if code(got) != tpm2.RCSuccess || !bytes.Equal(got[:14], want[:14]) {
		p.t.Fatalf("StartAuthSession: %x, swtpm %x", got, want)
	}
	return tpm2.Handle(got[10])<<24 | tpm2.Handle(got[13])
}

// policy makes a policy session on both by the assertions, and gives it with
// its digest.
func (p *pair) policy(kind tpm2.SE, assertions ...func(s tpm2.Handle) []byte) (s tpm2.Handle, digest []byte) {
	p.t.Helper()
	s = p.session(kind)
	for _, a := range assertions {
		p.expect(tpm2.RCSuccess, "an assertion", a(s))
	}
	resp := p.expect(tpm2.RCSuccess, "PolicyGetDigest", frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{s}, nil))
	return s, resp[headerSize+2:]
}

func (p *pair) end(s tpm2.Handle) {
	p.t.Helper()
	p.expect(tpm2.RCSuccess, "FlushContext", frame(tpm2.CCFlushContext, nil, nil, u32(uint32(s))))
}

// assert is a policy command with parameters, for policy.
func assert(cc tpm2.CC, params ...[]byte) func(tpm2.Handle) []byte {
	return func(s tpm2.Handle) []byte { return frame(cc, []tpm2.Handle{s}, nil, params...) }
}

// defineNV defines and writes an Index on both.
func (p *pair) defineNV(pub tpm2.NVPublic, data []byte) {
	p.t.Helper()
	pub.NameAlg, pub.DataSize = tpm2.AlgSHA256, uint16(len(data))
	p.expect(tpm2.RCSuccess, "NV_DefineSpace", frame(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""),
		buf16(nil), buf16(tpm2.Marshal(&pub))))
	p.expect(tpm2.RCSuccess, "NV_Write", frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, pub.Index}, password(""),
		buf16(data), u16(0)))
}

const (
	testIndex  tpm2.Handle = 0x01500001
	otherIndex tpm2.Handle = 0x01500002
	ownerRW                = tpm2.NVOwnerRead | tpm2.NVOwnerWrite
)

// TestPolicyBindingsAgainstSwtpm authorizes the owner by policies that allow
// one command and not another.
func TestPolicyBindingsAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.defineNV(tpm2.NVPublic{Index: testIndex, Attributes: ownerRW}, make([]byte, 8))
	p.defineNV(tpm2.NVPublic{Index: otherIndex, Attributes: ownerRW}, make([]byte, 8))
	read := func(x tpm2.Handle, size uint16) func(auth []byte) []byte {
		return func(auth []byte) []byte {
			return frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, auth, u16(size), u16(0))
		}
	}
	primary := func(template []byte) func(auth []byte) []byte {
		return func(auth []byte) []byte {
			return frame(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, auth, buf16(make([]byte, 4)),
				buf16(template), buf16(nil), u32(0))
		}
	}
	name := p.e.entityName(testIndex)
	owner := u32(uint32(tpm2.RHOwner))
	cpHash := tpm2.AlgSHA256.Digest(u32(uint32(tpm2.CCNVRead)), owner, name, u16(8), u16(0))
	for _, c := range []struct {
		name   string
		policy func(tpm2.Handle) []byte
		cmd    func(auth []byte) []byte
		want   tpm2.RC
	}{
		{"the parameters", assert(tpm2.CCPolicyCpHash, buf16(cpHash)), read(testIndex, 8), tpm2.RCSuccess},
		{"other parameters", assert(tpm2.CCPolicyCpHash, buf16(cpHash)), read(testIndex, 7), tpm2.RCPolicyFail.S(1)},
		{"the Names", assert(tpm2.CCPolicyNameHash, buf16(tpm2.AlgSHA256.Digest(owner, name))), read(testIndex, 7), tpm2.RCSuccess},
		{"other Names", assert(tpm2.CCPolicyNameHash, buf16(tpm2.AlgSHA256.Digest(owner, name))), read(otherIndex, 7), tpm2.RCPolicyFail.S(1)},
		{"the template", assert(tpm2.CCPolicyTemplate, buf16(tpm2.AlgSHA256.Digest(eccSigning()))), primary(eccSigning()), tpm2.RCSuccess},
		{"another template", assert(tpm2.CCPolicyTemplate, buf16(tpm2.AlgSHA256.Digest(eccSigning()))), primary(eccStorage()), tpm2.RCPolicyFail.S(1)},
		{"a template elsewhere", assert(tpm2.CCPolicyTemplate, buf16(make([]byte, 32))), read(testIndex, 8), tpm2.RCPolicyFail.S(1)},
		{"presence", assert(tpm2.CCPolicyPhysicalPresence), read(testIndex, 8), tpm2.RCPP.S(1)},
		{"an Index's state", assert(tpm2.CCPolicyNvWritten, []byte{1}), read(testIndex, 8), tpm2.RCPolicyFail.S(1)},
		{"one TPM Reset", assert(tpm2.CCPolicyCounterTimer, buf16(u32(1)), u16(16), u16(uint16(tpm2.EOEq))), read(testIndex, 8), tpm2.RCSuccess},
		{"a duplication", assert(tpm2.CCPolicyDuplicationSelect, buf16(name), buf16(name), []byte{1}), read(testIndex, 8), tpm2.RCPolicyCC.S(1)},
	} {
		trial, digest := p.policy(tpm2.SETrial, c.policy)
		p.end(trial)
		p.expect(tpm2.RCSuccess, "SetPrimaryPolicy", frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHOwner}, password(""),
			buf16(digest), u16(uint16(tpm2.AlgSHA256))))
		s, _ := p.policy(tpm2.SEPolicy, c.policy)
		p.both(c.want, c.name, c.cmd(sessionAuth(s, 1)))
		p.end(s)
	}
}

// TestPolicyRefusalsAgainstSwtpm tries what the binding commands refuse.
func TestPolicyBindingRefusalsAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	a, b := buf16(make([]byte, 32)), buf16(bytes.Repeat([]byte{1}, 32))
	hashes := []tpm2.CC{tpm2.CCPolicyCpHash, tpm2.CCPolicyNameHash, tpm2.CCPolicyTemplate}
	for _, first := range hashes {
		for _, then := range hashes {
			for _, value := range [][]byte{a, b, buf16(make([]byte, 20)), buf16(nil)} {
				s, _ := p.policy(tpm2.SEPolicy, assert(first, a))
				p.same(then.String()+" after "+first.String(), assert(then, value)(s))
				p.same("DuplicationSelect after "+first.String(), assert(tpm2.CCPolicyDuplicationSelect, a, b, []byte{1})(s))
				p.end(s)
			}
		}
	}
	s, _ := p.policy(tpm2.SEPolicy, assert(tpm2.CCPolicyNvWritten, []byte{1}))
	p.expect(tpm2.RCValue.P(1), "the opposite", assert(tpm2.CCPolicyNvWritten, []byte{0})(s))
	p.expect(tpm2.RCSuccess, "the same", assert(tpm2.CCPolicyNvWritten, []byte{1})(s))
	p.expect(tpm2.RCSuccess, "PolicyCommandCode", assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCDuplicate)))(s))
	p.expect(tpm2.RCCommandCode, "DuplicationSelect", assert(tpm2.CCPolicyDuplicationSelect, a, b, []byte{1})(s))
	eq := u16(uint16(tpm2.EOEq))
	p.expect(tpm2.RCValue.P(2), "beyond the end", assert(tpm2.CCPolicyCounterTimer, buf16(nil), u16(26), eq)(s))
	p.expect(tpm2.RCRange, "over the end", assert(tpm2.CCPolicyCounterTimer, buf16([]byte{1, 0}), u16(24), eq)(s))
	p.expect(tpm2.RCPolicy, "not equal", assert(tpm2.CCPolicyCounterTimer, buf16(u32(77)), u16(16), eq)(s))
}

// TestPolicyAuthorizeNVAgainstSwtpm approves a policy in an Index.
func TestPolicyAuthorizeNVAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	needAuth := assert(tpm2.CCPolicyAuthValue)
	approve := func(s tpm2.Handle) []byte {
		return frame(tpm2.CCPolicyAuthorizeNV, []tpm2.Handle{tpm2.RHOwner, testIndex, s}, password(""))
	}
	s, digest := p.policy(tpm2.SEPolicy, needAuth)
	p.defineNV(tpm2.NVPublic{Index: testIndex, Attributes: ownerRW}, append([]byte{0, 11}, digest...))
	p.expect(tpm2.RCSuccess, "the approved policy", approve(s))
	p.expect(tpm2.RCSuccess, "PolicyGetDigest", frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{s}, nil))
	p.expect(tpm2.RCValue, "another policy", approve(s))
	write := func(b ...byte) {
		p.expect(tpm2.RCSuccess, "NV_Write", frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, testIndex}, password(""),
			buf16(b), u16(0)))
	}
	write(0, 4)
	p.expect(tpm2.RCHash, "another algorithm", approve(s))
	write(0, 16)
	p.expect(tpm2.RCHash, "no algorithm", approve(s))
	write(0, 12)
	p.expect(tpm2.RCInsufficient, "too short", approve(s))
}

// TestConstraintBesideCpHash lets an authorization give the hash that a session
// has for something else: it is then both, and may be repeated as what it was.
func TestConstraintBesideCpHash(t *testing.T) {
	hash := bytes.Repeat([]byte{7}, 32)
	kinds := []tpm2.CC{tpm2.CCPolicyCpHash, tpm2.CCPolicyNameHash, tpm2.CCPolicyTemplate}
	p := newPair(t)
	p.same("Startup", startupCmd(tpm2.SUClear))
	for n, kind := range []tpm2.SE{tpm2.SEPolicy, tpm2.SETrial} {
		start := frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
			buf16(nil), []byte{byte(kind)}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
		p.execute(start)
		p.o.execute(start)
		s := tpm2.PolicySessionFirst + tpm2.Handle(n)
		for _, first := range kinds {
			for _, then := range kinds {
				for _, b := range [][2]byte{{7, 7}, {7, 8}, {8, 8}, {8, 7}} {
					what := fmt.Sprintf("%v, then %v of %d", first, then, b)
					p.same(what, assert(tpm2.CCPolicyRestart)(s))
					p.same(what, assert(first, buf16(hash))(s))
					p.same(what, frame(tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, s}, password(""),
						buf16(nil), buf16(bytes.Repeat(b[:1], 32)), buf16(nil), u32(0)))
					p.same(what, assert(then, buf16(bytes.Repeat(b[1:], 32)))(s))
					p.same(what, assert(tpm2.CCPolicyGetDigest)(s))
				}
			}
		}
	}
}
