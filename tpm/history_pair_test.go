package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// prepare gives both TPMs the same things to work on.
func (p *pair) prepare() {
	p.t.Helper()
	p.same("Startup", frame(tpm2.CCStartup, nil, nil, u16(0)))
	owner := []tpm2.Handle{tpm2.RHOwner}
	for i, attrs := range []tpm2.NVAttributes{
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOwnerRead | tpm2.NVOwnerWrite,
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVAttributes(tpm2.NTCounter)<<4,
		tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAttributes(tpm2.NTExtend)<<4 | tpm2.NVNoDA,
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA | tpm2.NVOrderly | tpm2.NVReadSTClear,
	} {
		size := []uint16{16, 8, 32, 20}[i]
		pub := tpm2.NVPublic{Index: 0x01500001 + tpm2.Handle(i), NameAlg: tpm2.AlgSHA256, Attributes: attrs, DataSize: size}
		p.execute(frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(nil), buf16(tpm2.Marshal(&pub))))
		p.o.execute(frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(nil), buf16(tpm2.Marshal(&pub))))
	}
	p.prepareSpecial()
	written := frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, 0x01500001}, password(""),
		buf16(append([]byte{0, 11}, make([]byte, 14)...)), u16(0))
	p.execute(written)
	p.o.execute(written)
	for _, kind := range []byte{1, 3} {
		cmd := frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
			buf16(nil), []byte{kind}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
		p.execute(cmd)
		p.o.execute(cmd)
	}
	for _, public := range [][]byte{eccStorage(), eccSigning()} {
		cmd := frame(tpm2.CCCreatePrimary, owner, password(""), buf16(make([]byte, 4)), buf16(public), buf16(nil), u32(0))
		p.execute(cmd)
		p.o.execute(cmd)
	}
}

// prepareSpecial defines and writes them.
func (p *pair) prepareSpecial() {
	p.t.Helper()
	const rw = tpm2.NVOwnerRead | tpm2.NVOwnerWrite
	changeAuth := tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicyCommandCode)), u32(uint32(tpm2.CCNVChangeAuth)))
	pin := []byte{0, 0, 0, 0, 0, 0, 0, 3}
	for _, x := range []struct {
		index  tpm2.Handle
		attrs  tpm2.NVAttributes
		policy tpm2.Digest
		data   []byte
	}{
		{bitsIndex, rw | nvKind(tpm2.NTBits) | tpm2.NVAuthRead | tpm2.NVAuthWrite, nil, nil},
		{pinPassIndex, rw | nvKind(tpm2.NTPinPass), nil, pin},
		{pinFailIndex, rw | nvKind(tpm2.NTPinFail) | tpm2.NVNoDA, nil, pin},
		{policyIndex, rw | tpm2.NVGlobalLock, changeAuth, pin},
	} {
		pub := tpm2.NVPublic{Index: x.index, NameAlg: tpm2.AlgSHA256, Attributes: x.attrs, AuthPolicy: x.policy, DataSize: 8}
		cmds := [][]byte{frame(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(nil), buf16(tpm2.Marshal(&pub)))}
		if x.data != nil {
			cmds = append(cmds, frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, x.index}, password(""), buf16(x.data), u16(0)))
		}
		for _, cmd := range cmds {
			p.execute(cmd)
			p.o.execute(cmd)
		}
	}
}

// excused are the differences that are meant.
func excused(d *command, cmd []byte, ours, theirs tpm2.RC) bool {
	switch {
	case d.cc == tpm2.CCPolicyCommandCode && ours == tpm2.RCPolicyCC.P(1) && theirs == tpm2.RCSuccess:
		return true // a command that is not in this version
	case d.cc == tpm2.CCSequenceUpdate && ours == tpm2.RCMode.H(1) && theirs == tpm2.RCMode.P(1):
		return true // version 0.9 names a parameter where later ones name the handle
	case d.cc == tpm2.CCCertifyX509 && ours == tpm2.RCValue.P(3) && (theirs == tpm2.RCSuccess || theirs == tpm2.RCAttributes.H(2)):
		return true // something is left over in a structure
	case comparisonExcused(d, cmd, ours, theirs):
		return true
	}
	return false
}

// restart clears both and begins anew.
func (p *pair) restart() {
	p.t.Helper()
	p.cut()
	p.same("Startup", frame(tpm2.CCStartup, nil, nil, u16(0)))
	for _, cmd := range [][]byte{
		frame(tpm2.CCClearControl, []tpm2.Handle{tpm2.RHPlatform}, password(""), []byte{0}),
		frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password("")),
		frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHPlatform}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull))),
	} {
		if got, want := code(p.execute(cmd)), code(p.o.execute(cmd)); got != tpm2.RCSuccess || want != tpm2.RCSuccess {
			p.t.Fatalf("cannot begin anew: ours %v, swtpm %v: %x", got, want, cmd)
		}
	}
	for i := range 4 {
		cmd := frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHPlatform, 0x01500001 + tpm2.Handle(i)}, password(""))
		p.execute(cmd)
		p.o.execute(cmd)
	}
	p.cut()
	p.prepare()
}

// comparisonExcused are the differences of comparisons that are meant: version
// 0.9 orders two negative numbers the wrong way round, and the clock of this
// engine stands still in the test.
func comparisonExcused(d *command, cmd []byte, ours, theirs tpm2.RC) bool {
	if d.cc == tpm2.CCClockSet { // to a time that has passed on one of the two
		return ours == tpm2.RCSuccess && theirs == tpm2.RCValue.P(1)
	}
	if d.cc == tpm2.CCPolicyTicket {
		return theirs == tpm2.RCExpired.P(1)
	}
	if d.cc != tpm2.CCPolicyNV && d.cc != tpm2.CCPolicyCounterTimer {
		return false
	}
	if ours != tpm2.RCPolicy && theirs != tpm2.RCPolicy {
		return false
	}
	in, ok := comparisonOf(d, cmd)
	if !ok {
		return false
	}
	if d.cc == tpm2.CCPolicyCounterTimer && in.offset < 16 {
		return true
	}
	switch in.operation {
	case tpm2.EOSignedGT, tpm2.EOSignedLT, tpm2.EOSignedGE, tpm2.EOSignedLE:
		return len(in.operandB) > 0 && in.operandB[0]&0x80 != 0
	}
	return false
}

// comparisonOf decodes the parameters of a comparison.
func comparisonOf(d *command, cmd []byte) (in policyNVIn, ok bool) {
	b := cmd[headerSize+4*len(d.handles):]
	if tpm2.ST(uint16(cmd[0])<<8|uint16(cmd[1])) == tpm2.STSessions {
		_, rest, ok := cutSized(b[2:])
		if !ok {
			return in, false
		}
		b = rest
	}
	dec := tpm2.NewDecoderFor(b, &nullProfile.impl)
	in.Walk(&dec)
	return in, dec.RC() == tpm2.RCSuccess
}
