package tpm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

var (
	historyCount = flag.Int("history.n", 2500, "commands of each history that is suspended, rolled back or saved")
	historySeed  = flag.Uint64("history.seed", 0, "added to the seeds of these histories")
)

// newSoloHistory is a history for engines of ours alone: with what cannot be
// compared with swtpm.
func newSoloHistory(seed uint64) *history {
	h := newHistory(seed)
	for i := range registry.list {
		d := &registry.list[i]
		if nullProfile.lookup(d.cc) == nil {
			h.commands = append(h.commands, d)
		}
		switch d.cc {
		case tpm2.CCShutdown, tpm2.CCPCRAllocate, tpm2.CCLoad, tpm2.CCImport, tpm2.CCTestParms, tpm2.CCContextLoad:
			h.commands = append(h.commands, d)
		}
	}
	return h
}

// equipment is what histories work on: Indices, policy sessions and keys.
func equipment() [][]byte {
	owner := []tpm2.Handle{tpm2.RHOwner}
	list := [][]byte{startupCmd(tpm2.SUClear)}
	for i, attrs := range []tpm2.NVAttributes{
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOwnerRead | tpm2.NVOwnerWrite,
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOrderly | tpm2.NVAttributes(tpm2.NTCounter)<<4,
		tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAttributes(tpm2.NTExtend)<<4 | tpm2.NVNoDA,
		tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA | tpm2.NVOrderly | tpm2.NVReadSTClear,
	} {
		pub := tpm2.NVPublic{Index: 0x01500001 + tpm2.Handle(i), NameAlg: tpm2.AlgSHA256, Attributes: attrs,
			DataSize: []uint16{16, 8, 32, 20}[i]}
		list = append(list, frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(nil), buf16(tpm2.Marshal(&pub))))
	}
	for _, kind := range []byte{1, 0} {
		list = append(list, frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
			buf16(nil), []byte{kind}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256))))
	}
	for _, public := range [][]byte{eccStorage(), eccSigning()} {
		list = append(list, frame(tpm2.CCCreatePrimary, owner, password(""), buf16(make([]byte, 4)), buf16(public), buf16(nil), u32(0)))
	}
	return list
}

// solo runs a history on one engine or several.
type solo struct {
	*history
	contexts [][]byte // that were saved
	todo     [][]byte // of what it begins with
}

// step is command i for two TPMs under one clock, which goes on. After every
// length commands the power of both goes, and they begin anew.
func (s *solo) step(i, length int, a, b *rig) []byte {
	if i%length == length-1 {
		a.power(a.durable)
		b.power(b.durable)
		s.todo = equipment()
	}
	a.clock.Advance(time.Duration(s.IntN(3000)) * time.Millisecond)
	if len(s.todo) == 0 {
		return s.nextCommand()
	}
	cmd := s.todo[0]
	s.todo = s.todo[1:]
	return cmd
}

// nextCommand is the next command: at times a context that was saved, or what
// begins anew.
func (s *solo) nextCommand() []byte {
	if len(s.contexts) > 0 && s.IntN(20) == 0 {
		return frame(tpm2.CCContextLoad, nil, nil, s.contexts[s.IntN(len(s.contexts))])
	}
	if s.IntN(25) == 0 {
		list := equipment()
		return list[s.IntN(len(list))]
	}
	_, cmd := s.next()
	return cmd
}

// note keeps a context that a response holds.
func (s *solo) note(cmd, resp []byte) {
	if commandCode(cmd) == tpm2.CCContextSave && code(resp) == tpm2.RCSuccess {
		s.contexts = append(s.contexts, bytes.Clone(resp[headerSize:]))
		s.contexts = s.contexts[max(0, len(s.contexts)-8):]
	}
}

func commandCode(cmd []byte) tpm2.CC {
	var cc tpm2.CC
	if len(cmd) >= headerSize {
		dec := tpm2.NewDecoder(cmd[6:headerSize])
		cc.Walk(&dec)
	}
	return cc
}

// drawsSecrets are commands whose answers have randomness that the standard
// library draws by itself.
var drawsSecrets = map[tpm2.CC]bool{tpm2.CCCreate: true, tpm2.CCSign: true, tpm2.CCQuote: true, tpm2.CCCertify: true,
	tpm2.CCCertifyCreation: true, tpm2.CCGetTime: true, tpm2.CCMakeCredential: true, tpm2.CCDuplicate: true,
	tpm2.CCRSAEncrypt: true, tpm2.CCImport: true, tpm2.CCCreateLoaded: true, tpm2.CCObjectChangeAuth: true,
	tpm2.CCECDHKeyGen: true, tpm2.CCRewrap: true, tpm2.CCNVCertify: true,
	tpm2.CCGetSessionAuditDigest: true, tpm2.CCGetCommandAuditDigest: true, tpm2.CCCertifyX509: true}

// suspend puts the engine through a suspension, as to another process.
func (r *rig) suspend() {
	r.t.Helper()
	random := r.cfg.Entropy
	r.cfg.Entropy = entropy.Replay(99)
	e, err := Resume(r.cfg, r.e.Permanent(), r.e.SaveVolatile())
	if err != nil {
		r.t.Fatal(err)
	}
	r.cfg.Entropy = random
	e.cfg.Entropy = random
	r.e = e
}

// TestSuspendBetweenAnyCommands runs one history on two TPMs that start alike.
// One of them is suspended and resumed before every command; that must not
// change an answer, nor what is written.
func TestSuspendBetweenAnyCommands(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			a, b := fullRig(t, false), fullRig(t, false)
			b.clock, b.cfg.Clock, b.e.cfg.Clock = a.clock, a.clock, a.clock
			s := &solo{history: newSoloHistory(*historySeed + seed), todo: equipment()}
			for i := range *historyCount {
				cmd := s.step(i, 400, a, b)
				b.suspend()
				cryptotest.SetGlobalRandom(t, uint64(i))
				x := a.execute(cmd)
				cryptotest.SetGlobalRandom(t, uint64(i))
				y := b.execute(cmd)
				a.alive(fmt.Sprintf("command %d, %x", i, cmd))
				s.note(cmd, x)
				if !bytes.Equal(x, y) {
					t.Fatalf("command %d, %v: %v %x\n  when suspended before: %v %x\n%x", i, commandCode(cmd),
						code(x), x, code(y), y, cmd)
				}
				if !bytes.Equal(a.durable, b.durable) {
					t.Fatalf("command %d, %v: what is durable differs: %x", i, commandCode(cmd), cmd)
				}
			}
		})
	}
}

// saved is everything that is saved of an engine.
func (e *Engine) saved() []byte { return append(e.Permanent(), e.SaveVolatile()...) }

// TestRollbackBetweenAnyCommands runs histories in which a write fails at times:
// the TPM is then as before the command, but for a failed authorization and the
// use of a PIN, which stay counted. A command that fails by itself changes nothing either.
func TestRollbackBetweenAnyCommands(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := fullRig(t, false)
			s := &solo{history: newSoloHistory(*historySeed + seed + 100)}
			todo := equipment()
			rolled := 0
			for i := range *historyCount {
				if i%400 == 399 {
					r.power(r.durable)
					todo = equipment()
				}
				r.clock.Advance(time.Duration(s.IntN(3000)) * time.Millisecond)
				// Time, and the failures that it heals, are up to date at a command.
				r.e.tick()
				var cmd []byte
				if len(todo) > 0 {
					cmd, todo = todo[0], todo[1:]
				} else {
					cmd = s.nextCommand()
				}
				before, lockout, tests, indices := r.e.saved(), r.e.state.lockout, r.e.state.test, r.e.state.nv
				resp, commit := r.e.Execute(Request{}, cmd, nil)
				r.alive(fmt.Sprintf("command %d, %x", i, cmd))
				s.note(cmd, resp)
				switch {
				case commit.Pending() && s.IntN(2) == 0:
					rolled++
					if rc := code(commit.Rollback(nil)); rc != tpm2.RCNVUnavailable {
						t.Fatal(rc)
					}
					if r.e.failure.counted {
						want := lockout
						want.Fail(r.e.failure.lockoutAuth, r.e.state.timing.Time)
						if r.e.state.lockout != want {
							t.Fatalf("command %d: the failure is forgotten", i)
						}
					}
				case commit.Pending():
					r.durable = commit.State()
					commit.Done()
					continue
				case code(resp) == tpm2.RCSuccess:
					continue
				}
				after, test := r.e.state.lockout, r.e.state.test
				r.e.state.lockout, r.e.state.test = lockout, tests
				counted := r.e.state.nv
				if len(r.e.failure.pins) > 0 { // PINs stay counted too
					r.e.state.nv = indices
				}
				if !bytes.Equal(r.e.saved(), before) {
					t.Fatalf("command %d, %v, which answered %v, is not undone: %x", i, commandCode(cmd), code(resp), cmd)
				}
				r.e.state.lockout, r.e.state.test, r.e.state.nv = after, test, counted
			}
			if rolled < *historyCount/200 {
				t.Errorf("only %d of %d commands were rolled back", rolled, *historyCount)
			}
		})
	}
}

func TestResumeRefusesAnotherMoment(t *testing.T) {
	r := newRig(t, true)
	permanent, volatile := r.e.Permanent(), r.e.SaveVolatile()
	r.must(tpm2.RCSuccess, tpm2.CCPCRExtend, []tpm2.Handle{10}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32))
	if _, err := Resume(r.cfg, permanent, r.e.SaveVolatile()); err != nil {
		t.Errorf("a command that wrote nothing parts them: %v", err)
	}
	r.must(tpm2.RCSuccess, tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16([]byte("new")))
	if _, err := Resume(r.cfg, r.durable, volatile); !errors.Is(err, ErrNotAPair) {
		t.Errorf("an older volatile state: %v", err)
	}
	if _, err := Resume(r.cfg, permanent, r.e.SaveVolatile()); !errors.Is(err, ErrNotAPair) {
		t.Errorf("an older permanent state: %v", err)
	}
	if _, err := Resume(r.cfg, r.durable, r.e.SaveVolatile()); err != nil {
		t.Error(err)
	}
}

// TestSuspendedTimeCounts: the other process's clock starts anew, and the time
// of day tells how long the TPM was suspended.
func TestSuspendedTimeCounts(t *testing.T) {
	r := newRig(t, true)
	r.clock.Advance(10 * time.Second)
	r.e.tick()
	permanent, volatile := r.e.Permanent(), r.e.SaveVolatile()
	for _, c := range []struct{ suspended, want time.Duration }{
		{0, 10 * time.Second}, {time.Hour, time.Hour + 10*time.Second}, {-time.Hour, 10 * time.Second},
	} {
		other := &shifted{shift: 10*time.Second + c.suspended}
		cfg := r.cfg
		cfg.Clock = other
		e, err := Resume(cfg, permanent, volatile)
		if err != nil {
			t.Fatal(err)
		}
		got := &e.state.timing
		if ms := uint64(c.want.Milliseconds()); got.Time != ms || got.Clock != ms {
			t.Errorf("suspended for %v: Time %d, Clock %d, want %d", c.suspended, got.Time, got.Clock, ms)
		}
		other.Advance(time.Second)
		e.tick()
		if ms := uint64((c.want + time.Second).Milliseconds()); got.Time != ms {
			t.Errorf("suspended for %v, and a second later: Time %d, want %d", c.suspended, got.Time, ms)
		}
	}
}

// shifted is a clock of another process.
type shifted struct {
	clock.Manual
	shift time.Duration
}

func (s *shifted) Wall() time.Time { return s.Manual.Wall().Add(s.shift) }

// TestFullDiskWinsNoTries: while nothing can be written, a wrong authorization
// is not answered, and a right one must not be told from it.
func TestFullDiskWinsNoTries(t *testing.T) {
	r := newRig(t, true)
	pub := tpm2.NVPublic{Index: 0x01500001, NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOwnerWrite}
	r.must(tpm2.RCSuccess, tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16([]byte("secret")),
		buf16(tpm2.Marshal(&pub)))
	both := []tpm2.Handle{pub.Index, pub.Index}
	write := []tpm2.Handle{tpm2.RHOwner, pub.Index}
	r.must(tpm2.RCSuccess, tpm2.CCNVWrite, write, password(""), buf16(make([]byte, 8)), u16(0))
	r.must(tpm2.RCSuccess, tpm2.CCNVRead, both, password("secret"), u16(8), u16(0))

	try := func(auth string, full bool) tpm2.RC {
		resp, commit := r.e.Execute(Request{}, frame(tpm2.CCNVRead, both, password(auth), u16(8), u16(0)), nil)
		switch {
		case !commit.Pending():
		case full:
			resp = commit.Rollback(resp)
		default:
			commit.Done()
		}
		return code(resp)
	}
	for i := range 5 {
		if rc := try("wrong", true); rc != tpm2.RCNVUnavailable {
			t.Fatalf("wrong, disk full, %d: %v", i, rc)
		}
		if rc := try("secret", true); rc != tpm2.RCNVUnavailable {
			t.Fatalf("right, disk full, %d: %v", i, rc)
		}
	}
	if n := r.e.state.lockout.FailedTries; n != 1 {
		t.Errorf("%d failures are counted, want the one that was checked", n)
	}
	// The first attempt when the disk is well again finds that out.
	for _, want := range []tpm2.RC{tpm2.RCNVUnavailable, tpm2.RCSuccess} {
		if rc := try("secret", false); rc != want {
			t.Errorf("right, disk well: %v, want %v", rc, want)
		}
	}
}

// TestContextNumbersDoNotRepeat: the number of a saved context does not repeat in
// a TPM that was suspended since the permanent state was written.
func TestContextNumbersDoNotRepeat(t *testing.T) {
	r := newRig(t, true)
	r.must(tpm2.RCSuccess, tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256)))
	save := func() string {
		return string(r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{tpm2.TransientFirst}, nil)[:8])
	}
	first := save()
	var err error
	if r.e, err = Resume(r.cfg, r.durable, r.e.SaveVolatile()); err != nil {
		t.Fatal(err)
	}
	if second := save(); second == first {
		t.Errorf("two contexts have the number %x", first)
	}
}
