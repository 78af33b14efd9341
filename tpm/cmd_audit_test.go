package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

const (
	auditing  = byte(tpm2.SessionAudit | tpm2.SessionContinue)
	exclusive = byte(tpm2.SessionAuditExclusive)
	anew      = byte(tpm2.SessionAuditReset)
)

func auditableCmd(kind tpm2.SE, bind tpm2.Handle, alg tpm2.AlgID) []byte {
	return frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, bind}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{byte(kind)}, u16(uint16(tpm2.AlgAES)), u16(128), u16(uint16(tpm2.AlgCFB)), u16(uint16(alg)))
}

// sessionsOf gives the attributes of the sessions of a command's response.
func sessionsOf(t *testing.T, cmd, resp []byte) (attrs []tpm2.SessionAttributes) {
	t.Helper()
	if tpm2.ST(binary.BigEndian.Uint16(resp)) != tpm2.STSessions {
		return nil
	}
	resp = resp[headerSize:]
	if registry.lookup(commandCode(cmd)).retHandle {
		resp = resp[4:]
	}
	c := tpm2.NewDecoder(resp[4+binary.BigEndian.Uint32(resp):])
	for c.Remaining() > 0 {
		var nonce, hmac tpm2.Digest
		var a tpm2.SessionAttributes
		nonce.Walk(&c)
		a.Walk(&c)
		hmac.Walk(&c)
		attrs = append(attrs, a)
	}
	if c.RC() != tpm2.RCSuccess {
		t.Fatal(c.RC())
	}
	return attrs
}

// audited runs a command on both; code, session attributes and parameters must
// be the same.
func (p *pair) audited(what string, cmd []byte) tpm2.RC {
	p.t.Helper()
	got, want := p.execute(cmd), p.o.execute(cmd)
	if code(got) != code(want) {
		p.t.Errorf("%s: ours %v, swtpm %v", what, code(got), code(want))
	} else if code(got) == tpm2.RCSuccess {
		if a, b := sessionsOf(p.t, cmd, got), sessionsOf(p.t, cmd, want); !slices.Equal(a, b) {
			p.t.Errorf("%s: our sessions' attributes are %x, swtpm's %x", what, a, b)
		}
	}
	return code(got)
}

// auditInfo compares what attestations of ours and of swtpm say of an audit, but
// for its digest where that is each TPM's own: a nonce or the time is in it.
func (p *pair) auditInfo(what string, cmd []byte, own bool) {
	p.t.Helper()
	var infos [2]tpm2.Attest
	for i, resp := range [][]byte{p.execute(cmd), p.o.execute(cmd)} {
		if code(resp) != tpm2.RCSuccess {
			p.t.Fatalf("%s, TPM %d: %v", what, i, code(resp))
		}
		var raw tpm2.SizedAttest
		c := tpm2.NewDecoder(params(p.t, resp[headerSize:]))
		raw.Walk(&c)
		if err := tpm2.Unmarshal(raw, &infos[i]); err != nil {
			p.t.Fatal(err)
		}
	}
	a, b := &infos[0], &infos[1]
	if own {
		a.Digest, b.Digest = a.Digest[:0], b.Digest[:0]
	}
	if !bytes.Equal(a.Digest, b.Digest) || fmt.Sprint(a.Audit) != fmt.Sprint(b.Audit) {
		p.t.Errorf("%s: ours %x %+v, swtpm %x %+v", what, a.Digest, a.Audit, b.Digest, b.Audit)
	}
}

func sessionDigestCmd(signer, s tpm2.Handle, auth []byte) []byte {
	if auth == nil {
		auth = append(password(""), password("")...)
	}
	return frame(tpm2.CCGetSessionAuditDigest, []tpm2.Handle{tpm2.RHEndorsement, signer, s}, auth,
		buf16([]byte("nonce")), u16(uint16(tpm2.AlgNull)))
}

func commandDigestCmd(signer tpm2.Handle) []byte {
	return frame(tpm2.CCGetCommandAuditDigest, []tpm2.Handle{tpm2.RHEndorsement, signer},
		append(password(""), password("")...), buf16([]byte("nonce")), u16(uint16(tpm2.AlgNull)))
}

func auditStatusCmd(alg tpm2.AlgID, set, unset tpm2.CCList) []byte {
	return frame(tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{tpm2.RHOwner}, password(""),
		u16(uint16(alg)), tpm2.Marshal(&set), tpm2.Marshal(&unset))
}

// TestAuditSessionAgainstSwtpm compares digest and exclusiveness of audit
// sessions through everything that changes them.
func TestAuditSessionAgainstSwtpm(t *testing.T) {
	p := newTwins(t)
	const a, b, policy = tpm2.HMACSessionFirst, tpm2.HMACSessionFirst + 1, tpm2.PolicySessionFirst + 2
	for _, cmd := range [][]byte{auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256),
		auditableCmd(tpm2.SEHMAC, tpm2.RHOwner, tpm2.AlgSHA384), auditableCmd(tpm2.SEPolicy, tpm2.RHNull, tpm2.AlgSHA256)} {
		p.audited("StartAuthSession", cmd)
	}
	random := func(s tpm2.Handle, attrs byte) []byte {
		return frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, sessionAuth(s, attrs))
	}
	key := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256))
	p.expect(tpm2.RCSuccess, "a key", createPrimaryCmd(tpm2.RHOwner, &key, ""))
	plain := frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, nil)
	own := false
	look := func(what string, s tpm2.Handle) {
		t.Helper()
		if code(p.execute(sessionDigestCmd(tpm2.RHNull, s, nil))) == tpm2.RCSuccess {
			p.o.execute(sessionDigestCmd(tpm2.RHNull, s, nil))
			p.auditInfo(what, sessionDigestCmd(tpm2.RHNull, s, nil), own)
		}
	}
	extend := frame(tpm2.CCPCRExtend, []tpm2.Handle{16}, append(password(""), sessionAuth(a, auditing)...),
		u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32))
	for i, step := range []struct {
		what string
		cmd  []byte
	}{
		{"no audit session yet", sessionDigestCmd(tpm2.RHNull, a, nil)},
		{"the first use", random(a, auditing)},
		{"another", random(a, auditing)},
		{"exclusive", random(a, auditing|exclusive)},
		{"no session", plain},
		{"no longer exclusive", random(a, auditing|exclusive)},
		{"not asked", random(a, auditing)},
		{"begun again", random(a, auditing|anew)},
		{"exclusive and begun again", random(a, auditing|anew|exclusive)},
		{"a command without sessions", flushCmd(tpm2.TransientFirst + 1)},
		{"still exclusive", random(a, auditing|exclusive)},
		{"no audit attribute, not that of encryption", random(a, 1)},
		{"the others without audit", random(a, exclusive|anew|1)},
		{"a refused command", random(a, auditing|0x20)},
		{"a reserved attribute", random(a, auditing|8)},
		{"refused commands do not count", random(a, auditing|exclusive)},
		{"a policy session", random(policy, auditing)},
		{"two audit sessions", frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, append(sessionAuth(a, auditing), sessionAuth(b, auditing)...))},
		{"with a response that is encrypted", random(a, auditing|0x40)},
		{"begun again", random(a, auditing|anew)},
		{"audit beside an authorization", extend},
		{"the attestation audited", sessionDigestCmd(tpm2.RHNull, a, append(append(password(""), password("")...), sessionAuth(a, auditing)...))},
		{"begun again", random(a, auditing|anew)},
		{"an authorization that audits", frame(tpm2.CCPCRReset, []tpm2.Handle{16}, sessionAuth(a, auditing))},
		{"in Shutdown", frame(tpm2.CCShutdown, nil, sessionAuth(a, auditing|exclusive), u16(0))},
		{"not one of HMACs", sessionDigestCmd(tpm2.RHNull, policy, nil)},
		{"not there", sessionDigestCmd(tpm2.RHNull, tpm2.HMACSessionFirst+5, nil)},
		{"of the other type", sessionDigestCmd(tpm2.RHNull, tpm2.HMACSessionFirst+2, nil)},
		{"not a signing key", sessionDigestCmd(tpm2.TransientFirst, a, nil)},
		{"the last use", random(a, auditing&^1)},
		{"gone", random(a, auditing)},
	} {
		own = step.what == "with a response that is encrypted" || step.what == "the attestation audited"
		p.audited(fmt.Sprintf("%d, %s", i, step.what), step.cmd)
		look(fmt.Sprintf("after %d, %s", i, step.what), a)
		look(fmt.Sprintf("after %d, %s", i, step.what), b)
	}
}

// TestAuditedContext: an audit goes on in a session that was saved, and in one
// of an instance that was suspended.
func TestAuditedContext(t *testing.T) {
	r := newRig(t, true)
	s := r.startSession(tpm2.SEHMAC)
	use := func(attrs byte) []tpm2.SessionAttributes {
		cmd := frame(tpm2.CCReadClock, nil, sessionAuth(s, attrs))
		resp := r.execute(cmd)
		if code(resp) != tpm2.RCSuccess {
			t.Fatal(code(resp))
		}
		return sessionsOf(t, cmd, resp)
	}
	use(auditing)
	digest := func() tpm2.Digest { return r.e.state.sessions.Get(s).AuditDigest }
	before := digest()
	context := r.saveContext(s)
	r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, context)
	if !bytes.Equal(digest(), before) || len(before) != 32 {
		t.Error("a context loses the audit digest")
	}
	r.suspend()
	if attrs := use(auditing | exclusive); !attrs[0].Has(tpm2.SessionAuditExclusive) {
		t.Error("a suspended instance loses what session is exclusive")
	}
	r.flush(s)
	if got := r.startSession(tpm2.SEHMAC); got != s || r.e.state.sessions.Exclusive != 0 || r.e.state.sessions.Get(s).IsAudit() {
		t.Error("a new session goes on with another's audit")
	}
}

// TestCommandAuditAgainstSwtpm compares the list, the counter and the log of
// the commands audited.
func TestCommandAuditAgainstSwtpm(t *testing.T) {
	p := newTwins(t)
	signing := eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	p.expect(tpm2.RCSuccess, "a key", createPrimaryCmd(tpm2.RHEndorsement, &signing, ""))
	null := tpm2.AlgNull
	clock := frame(tpm2.CCPCRRead, nil, nil, u32(0))
	own := false
	look := func(what string) {
		t.Helper()
		p.auditInfo(what, commandDigestCmd(tpm2.RHNull), own)
		p.same(what, capabilityCmd(tpm2.CapAuditCommands, 0, 200))
		p.same(what, capabilityCmd(tpm2.CapAuditCommands, 0x140, 1))
		p.same(what, capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTAuditCounter0), 2))
	}
	all := tpm2.CCList{}
	for cc := tpm2.CC(0x11F); cc < 0x1A0; cc++ {
		if registry.lookup(cc) != nil {
			all = append(all, cc)
		}
	}
	look("new")
	for i, step := range []struct {
		what string
		cmd  []byte
	}{
		{"nothing to change", auditStatusCmd(null, nil, nil)},
		{"PCR_Read", auditStatusCmd(null, tpm2.CCList{tpm2.CCPCRRead, tpm2.CCPCRRead, 0x999}, nil)},
		{"read", clock},
		{"read again", clock},
		{"Startup, Shutdown and this one", auditStatusCmd(null, tpm2.CCList{tpm2.CCStartup, tpm2.CCShutdown}, tpm2.CCList{tpm2.CCSetCommandCodeAuditStatus})},
		{"Shutdown", shutdownCmd(tpm2.SUState)},
		{"read after Shutdown", clock},
		{"set and cleared", auditStatusCmd(null, tpm2.CCList{tpm2.CCNVRead}, tpm2.CCList{tpm2.CCNVRead, tpm2.CCHash})},
		{"algorithm and list", auditStatusCmd(tpm2.AlgSHA256, tpm2.CCList{tpm2.CCNVRead}, nil)},
		{"the same algorithm and list", auditStatusCmd(tpm2.AlgSHA512, tpm2.CCList{tpm2.CCNVWrite}, nil)},
		{"algorithm", auditStatusCmd(tpm2.AlgSHA256, nil, nil)},
		{"read", clock},
		{"no algorithm", auditStatusCmd(tpm2.AlgSM3256, nil, nil)},
		{"254", auditStatusCmd(null, make(tpm2.CCList, 254), nil)},
		{"not the lockout", frame(tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{tpm2.RHLockout}, password(""), u16(0x10), u32(0), u32(0))},
		{"255", frame(tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{tpm2.RHOwner}, password(""), u16(0x10), u32(255), make([]byte, 255*4), u32(0))},
		{"all but what attests, with the time", auditStatusCmd(null, all, tpm2.CCList{tpm2.CCGetCommandAuditDigest})},
		{"a Name that changes", defineCmd(tpm2.RHOwner, 0x01000001, plainNV, 8)},
		{"written", frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, 0x01000001}, password(""), buf16([]byte("data")), u16(0))},
		{"undefined", frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, 0x01000001}, password(""))},
		{"the owner's hierarchy off", hierarchyControlCmd(tpm2.RHOwner, tpm2.RHOwner, 0)},
		{"Clear", frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password(""))},
		{"read", clock},
		{"a key", createPrimaryCmd(tpm2.RHEndorsement, &signing, "")},
		{"the attestation", auditStatusCmd(null, tpm2.CCList{tpm2.CCGetCommandAuditDigest}, nil)},
		{"read", clock},
		{"not the attestation", auditStatusCmd(null, nil, tpm2.CCList{tpm2.CCGetCommandAuditDigest})},
		{"a log of its own again", auditStatusCmd(tpm2.AlgSHA1, nil, nil)},
		{"read", clock},
	} {
		switch step.what {
		case "Clear": // renews the proofs, and so makes each its own tickets
			own = true
		case "a log of its own again":
			own = false
		}
		p.audited(fmt.Sprintf("%d, %s", i, step.what), step.cmd)
		look(fmt.Sprintf("after %d, %s", i, step.what))
	}
	p.audited("signed", commandDigestCmd(tpm2.TransientFirst))
	look("after it was signed")
	for _, su := range []tpm2.SU{tpm2.SUState, tpm2.SUClear} {
		p.audited("read", clock)
		p.audited("Shutdown", shutdownCmd(tpm2.SUState))
		p.cut()
		p.audited("Startup", startupCmd(su))
		look(fmt.Sprintf("Startup %v", su))
	}
	p.cut()
	p.audited("Startup", startupCmd(tpm2.SUClear))
	look("after a power cut")
}

// TestAuditedAfterShutdown: what is audited after Shutdown(STATE) is not lost,
// where swtpm goes back to what the log was.
func TestAuditedAfterShutdown(t *testing.T) {
	r := newRig(t, true)
	r.must(tpm2.RCSuccess, tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{tpm2.RHOwner}, password(""),
		u16(uint16(tpm2.AlgNull)), u32(1), u32(uint32(tpm2.CCGetRandom)), u32(0))
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(1))
	r.must(tpm2.RCSuccess, tpm2.CCGetRandom, nil, nil, u16(4))
	digest := r.e.state.audit.digest
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(1))
	if !bytes.Equal(r.e.state.audit.digest, digest) {
		t.Error("the log misses a command")
	}
}

// TestAuditOfAClient: a client's own record of the commands that it has audited,
// in a session with a key, is what the TPM attests.
func TestAuditOfAClient(t *testing.T) {
	p := newTwins(t)
	for name, tpm := range map[string]transport.TPM{"ours": p.gotpm(), "swtpm": p.o.gotpm()} {
		t.Run(name, func(t *testing.T) {
			srk, created := primary(t, tpm, gotpm.TPMRHOwner, gotpm.ECCSRKTemplate)
			defer flush(t, tpm, srk.Handle)
			pub, err := created.OutPublic.Contents()
			if err != nil {
				t.Fatal(err)
			}
			s, end, err := gotpm.HMACSession(tpm, gotpm.TPMAlgSHA384, 32, gotpm.AuditExclusive(), gotpm.Salted(srk.Handle, *pub))
			if err != nil {
				t.Fatal(err)
			}
			defer end()
			record, err := gotpm.NewAudit(gotpm.TPMAlgSHA384)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				cmd := gotpm.GetCapability{Capability: gotpm.TPMCapTPMProperties, Property: uint32(gotpm.TPMPTFamilyIndicator) + uint32(i), PropertyCount: 1}
				rsp, err := cmd.Execute(tpm, s)
				wantRC(t, "GetCapability", err, tpm2.RCSuccess)
				if err := gotpm.AuditCommand(record, cmd, rsp); err != nil {
					t.Fatal(err)
				}
			}
			empty := gotpm.AuthHandle{Handle: gotpm.TPMRHEndorsement, Auth: gotpm.PasswordAuth(nil)}
			rsp, err := gotpm.GetSessionAuditDigest{PrivacyAdminHandle: empty,
				SignHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHNull, Auth: gotpm.PasswordAuth(nil)}, SessionHandle: s.Handle()}.Execute(tpm)
			wantRC(t, "GetSessionAuditDigest", err, tpm2.RCSuccess)
			info, err := rsp.AuditInfo.Contents()
			if err != nil {
				t.Fatal(err)
			}
			audit, err := info.Attested.SessionAudit()
			if err != nil || !bytes.Equal(audit.SessionDigest.Buffer, record.Digest()) || !audit.ExclusiveSession {
				t.Errorf("attested %+v, %v, recorded %x", audit, err, record.Digest())
			}
			// What is not audited ends the exclusive audit.
			_, err = gotpm.GetCapability{Capability: gotpm.TPMCapTPMProperties, PropertyCount: 1}.Execute(tpm, s)
			wantRC(t, "GetCapability after another command", err, tpm2.RCExclusive)
		})
	}
}

// TestAuditHistories compares two audit sessions through random commands, with
// every combination of attributes, saved and loaded again in between.
func TestAuditHistories(t *testing.T) {
	p := newTwins(t)
	h := rand.New(rand.NewPCG(1, 0))
	key := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256))
	p.expect(tpm2.RCSuccess, "a key", createPrimaryCmd(tpm2.RHOwner, &key, ""))
	var sessions [2]tpm2.Handle
	succeeded := 0
	for i := range 1500 {
		k := h.IntN(2)
		s := sessions[k]
		if s == 0 {
			resp := p.execute(auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256))
			if code(resp) != tpm2.RCSuccess || code(p.o.execute(auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256))) != tpm2.RCSuccess {
				t.Fatal("StartAuthSession")
			}
			sessions[k] = tpm2.Handle(binary.BigEndian.Uint32(resp[headerSize:]))
			continue
		}
		attrs := byte(1) | byte(h.IntN(8)) | auditing&byte(-h.IntN(2))
		if h.IntN(20) == 0 {
			attrs &^= 1
		}
		var cmd []byte
		switch h.IntN(8) {
		case 0:
			cmd = frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, append(sessionAuth(s, attrs), sessionAuth(sessions[1-k], auditing)...))
		case 1:
			cmd = frame(tpm2.CCPCRExtend, []tpm2.Handle{16}, append(password(""), sessionAuth(s, attrs)...), u32(1), ha(tpm2.AlgSHA1, byte(i)))
		case 2:
			cmd = frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHOwner}, sessionAuth(s, attrs), buf16(nil))
		case 3:
			cmd = frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, nil)
		case 4:
			ours, theirs := p.execute(frame(tpm2.CCContextSave, []tpm2.Handle{s}, nil)), p.o.execute(frame(tpm2.CCContextSave, []tpm2.Handle{s}, nil))
			p.execute(frame(tpm2.CCContextLoad, nil, nil, ours[headerSize:]))
			p.o.execute(frame(tpm2.CCContextLoad, nil, nil, theirs[headerSize:]))
			continue
		default:
			cmd = frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, sessionAuth(s, attrs))
		}
		what := fmt.Sprintf("command %d, %v with attributes 0x%02x", i, commandCode(cmd), attrs)
		if p.audited(what, cmd) == tpm2.RCSuccess {
			succeeded++
		}
		for k, s := range sessions {
			if s != 0 && p.e.state.sessions.Get(s) == nil {
				sessions[k] = 0
			} else if s != 0 && p.e.state.sessions.Get(s).IsAudit() && i%5 == 0 {
				p.auditInfo(what, sessionDigestCmd(tpm2.RHNull, s, nil), false)
			}
		}
	}
	if succeeded < 500 {
		t.Errorf("only %d commands succeeded", succeeded)
	}
}
