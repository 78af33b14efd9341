package tpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/timing"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// twin is a pair of TPMs that live in one world, so that nearly all that they
// answer can be compared to the byte: they have the same seeds and proofs, the
// null hierarchy's too, draw the same nonces, and see the same time. The oracle
// goes first; what it drew and what time it saw is in its answer, or in its
// state file, and this engine is made to draw and see the same.
type twin struct {
	*pair
	random *scripted
	// first are the permanent states, ours and the oracle's, that every episode
	// begins with.
	first [2][]byte
	saved []savedPair
	// logged, counted: a command was audited after Shutdown(STATE), or a PCR
	// changed that it does not save.
	logged, counted bool
}

// savedPair is one thing's saved context in each TPM's own form.
type savedPair struct {
	context [2]tpm2.Context
	session tpm2.Handle // 0: an object
}

// scripted is a generator of random bytes that gives what it is told to: feed
// in order, and nonces where a session's nonce is due.
type scripted struct {
	io.Reader
	engine *Engine
	feed   [][]byte
	nonces [][]byte
	bare   bool // the response has no parameters
}

// Read gives what is due, else bytes of its own.
func (s *scripted) Read(b []byte) (int, error) {
	list := &s.feed
	if len(s.feed) == 0 && s.rolling() {
		list = &s.nonces
	}
	if len(*list) > 0 && len((*list)[0]) == len(b) {
		copy(b, (*list)[0])
		*list = (*list)[1:]
		return len(b), nil
	}
	return s.Reader.Read(b)
}

// rolling reports whether the engine is at rolling the nonces of the command's
// sessions: the size of the response's parameters is set then.
func (s *scripted) rolling() bool {
	if s.engine == nil || s.engine.call.cmd == nil {
		return false
	}
	c := &s.engine.call
	at := headerSize
	if c.cmd.retHandle {
		at += 4
	}
	if c.tag != tpm2.STSessions || len(c.response) < at+4 {
		return false
	}
	n := int(binary.BigEndian.Uint32(c.response[at:]))
	return n == len(c.response)-at-4 && (n > 0 || s.bare)
}

// newTwin powers on two TPMs with the same seeds and starts them.
func newTwin(t *testing.T, seed uint64) *twin {
	t.Helper()
	o := newOracle(t)
	o.execute(startupCmd(tpm2.SUClear)) // only then is there a state file
	o.execute(shutdownCmd(tpm2.SUClear))
	given := seedsOf(seed)
	w := &twin{random: &scripted{Reader: entropy.Replay(seed)}}
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(seed)}
	state, err := Manufacture(r.cfg, Options{Seeds: given})
	if err != nil {
		t.Fatal(err)
	}
	w.pair = &pair{rig: r, o: o}
	r.cfg.Entropy = w.random
	r.power(state)
	w.random.engine = r.e
	r.execute(startupCmd(tpm2.SUClear))
	r.execute(shutdownCmd(tpm2.SUClear))
	w.first = [2][]byte{r.durable, o.state()}
	for i, to := range o.seedsIn(w.first[1]) {
		copy(to, given.all()[i])
	}
	w.begin()
	return w
}

// seedsOf are the secrets of TPMs for a seed.
func seedsOf(seed uint64) *Seeds {
	s := new(Seeds)
	for _, b := range s.all() {
		io.ReadFull(entropy.Replay(seed), b)
		seed++
	}
	return s
}

// permall is the oracle's state file.
func (o *oracle) permall() string { return filepath.Join(o.dir, "tpm2-00.permall") }

func (o *oracle) state() []byte {
	o.t.Helper()
	b, err := os.ReadFile(o.permall())
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// keep makes the states as they are now the ones that episodes begin with.
func (w *twin) keep() {
	w.t.Helper()
	w.same("Shutdown", shutdownCmd(tpm2.SUClear))
	w.first = [2][]byte{bytes.Clone(w.durable), w.o.state()}
}

// begin begins an episode: both go back to the first state and are started.
func (w *twin) begin() {
	w.t.Helper()
	w.o.data.SetDeadline(time.Now().Add(10 * time.Minute))
	w.o.control.SetDeadline(time.Now().Add(10 * time.Minute))
	if err := os.WriteFile(w.o.permall(), w.first[1], 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.saved, w.logged, w.counted = w.saved[:0], false, false
	w.durable = w.first[0]
	w.setLocality(0)
	w.cut()
	want := w.o.execute(startupCmd(tpm2.SUClear))
	got := w.execute(startupCmd(tpm2.SUClear))
	if code(got) != tpm2.RCSuccess || code(want) != tpm2.RCSuccess {
		w.t.Fatalf("cannot begin: ours %v, swtpm %v", code(got), code(want))
	}
	w.started()
}

// cut cuts the power of both without a Shutdown, and gives it back.
func (w *twin) cut() {
	w.t.Helper()
	test := w.e.state.test
	w.pair.cut()
	w.random.engine = w.e
	w.e.state.test = test // what is tested at each first use takes a quarter of the time
}

// started takes over what the oracle has drawn at Startup: the seed and proof
// of the null hierarchy, out of its volatile state, a STATE_RESET_DATA of
// version 4.
func (w *twin) started() {
	w.t.Helper()
	w.o.tell(0, 0, 0, 10) // CMD_STORE_VOLATILE
	path := filepath.Join(w.o.dir, "tpm2-00.volatilestate")
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // else the next power-on would resume
		w.t.Fatal(err)
	}
	at := bytes.Index(b, []byte{0, 4, 0x01, 0x10, 0x23, 0x32, 0, 4})
	if at < 0 {
		w.t.Skip("the volatile state that this swtpm writes has no STATE_RESET_DATA of version 4")
	}
	proof, rest, _ := cutSized(b[at+8:])
	seed, rest, ok := cutSized(rest)
	null := &w.e.state.hierarchies.Null
	if !ok || len(seed) != len(null.Seed) || len(proof) != len(null.Proof) {
		w.t.Fatal("the null hierarchy's seed and proof are not 64 bytes")
	}
	null.Seed, null.Proof = bytes.Clone(seed), bytes.Clone(proof)
	w.takeCommitments(rest[4+8:])
	w.takeEpoch()
	w.startClock()
}

// takeCommitments takes over the nonce of commitments, from the contextArray on.
func (w *twin) takeCommitments(b []byte) {
	b = b[2+2*binary.BigEndian.Uint16(b)+2+8:] // contextArray, its mask, contextCounter
	_, b, ok := cutSized(b)                    // commandAuditDigest
	const block = 4 + 4 + 3                    // behind restartCount, pcrCounter and a header
	if !ok || len(b) < block+8 {
		w.t.Fatal("the volatile state has no commitNonce")
	}
	c := &w.e.state.commitments
	c.counter = binary.BigEndian.Uint64(b[block:])
	nonce, _, _ := cutSized(b[block+8:])
	copy(c.nonce[:], nonce)
}

// takeEpoch takes over the number of the power cycle and the count of resets,
// which are in tickets: totalResetCount comes behind the proofs, timeEpoch with
// its size behind the version of the firmware.
func (w *twin) takeEpoch() {
	state := w.o.state()
	proof := w.o.seedsIn(state)[5]
	rest := state[bytes.Index(state, proof)+len(proof):]
	w.e.state.resets = binary.BigEndian.Uint64(rest)
	mark := append(binary.BigEndian.AppendUint64(nil, FirmwareVersion), 4)
	at := bytes.Index(rest, mark)
	if at < 0 {
		w.t.Fatal("no timeEpoch in swtpm's state")
	}
	w.e.state.timing.Epoch = binary.BigEndian.Uint32(rest[at+len(mark):])
}

// startClock makes our Time and Clock the oracle's after Startup: a power loss
// may turn Clock back by less than an interval, on each TPM by its own writes, and
// libtpms forgets what ClockSet made of it, which alone it does not write.
func (w *twin) startClock() {
	cmd := frame(tpm2.CCReadClock, nil, nil)
	var info tpm2.TimeInfo
	c := tpm2.NewDecoder(w.o.execute(cmd)[headerSize:])
	info.Walk(&c)
	t := &w.e.state.timing
	if info.Clock < t.Clock+timing.UpdateInterval {
		if info.Clock/timing.UpdateInterval != t.Clock/timing.UpdateInterval {
			t.Safe = info.Safe // by whether that was before Startup, or ClockSet forgotten
		}
		t.Clock, t.Time = info.Clock, info.Time
	}
	w.execute(cmd)
}

// readClock makes our Time and Clock the oracle's.
func (w *twin) readClock() {
	cmd := frame(tpm2.CCReadClock, nil, nil)
	w.takeTime(w.o.execute(cmd)[headerSize:])
	w.execute(cmd)
	w.noteLogged(tpm2.CCReadClock)
}

// noteLogged notes that a command has succeeded, which may be audited.
func (w *twin) noteLogged(cc tpm2.CC) {
	if w.e.state.orderly != shutdownState {
		return
	}
	w.logged = w.logged || w.e.state.audit.has(cc)
	switch cc {
	case tpm2.CCPCRReset, tpm2.CCPCRExtend, tpm2.CCPCREvent, tpm2.CCEventSequenceComplete:
		w.counted = true
	}
}

// takeTime takes over a TPMS_TIME_INFO.
func (w *twin) takeTime(b []byte) {
	var info tpm2.TimeInfo
	c := tpm2.NewDecoder(b)
	if info.Walk(&c); c.RC() != tpm2.RCSuccess {
		w.t.Fatalf("no time in %x", b)
	}
	w.takeClock(info.Clock)
	w.e.state.timing.Time = info.Time
}

// takeClock moves our time on to where Clock is now. Seconds or more apart are
// left to be seen as a difference.
func (w *twin) takeClock(now uint64) {
	t := &w.e.state.timing
	if now < t.Clock || now-t.Clock > 60_000 {
		return
	}
	d := now - t.Clock
	if now/timing.UpdateInterval > t.Clock/timing.UpdateInterval {
		t.Safe = true
	}
	t.Time += d
	t.Clock = now
}

// reply is a response in parts.
type reply struct {
	whole  []byte
	rc     tpm2.RC
	handle tpm2.Handle
	params []byte // decrypted
	auths  []byte // the authorization area
}

// run runs a command on both.
func (w *twin) run(s *sent) (ours, theirs reply) {
	want := w.o.execute(s.cmd[1])
	if code(want) == tpm2.RCRetry {
		// Debian's version wants the first use of a protected object after a
		// power cycle to be sent again; later ones, and this engine, do not.
		want = w.o.execute(s.cmd[1])
	}
	theirs = w.parse(s, want)
	w.prime(s, &theirs)
	got := w.execute(s.cmd[0])
	if s.d.cc == tpm2.CCClockSet || s.d.cc == tpm2.CCPolicyCounterTimer {
		got = w.runLater(s, got, &theirs)
	}
	w.random.feed, w.random.nonces = nil, nil
	return w.parse(s, got), theirs
}

// runLater runs again on ours what compares with a time that went on between the
// two, up to a tenth of a second later.
func (w *twin) runLater(s *sent, got []byte, theirs *reply) []byte {
	first, before := w.e.state, w.e.before
	for late := uint64(1); code(got) != theirs.rc; late++ {
		if late > 100 {
			w.e.state, w.e.before = first, before
			break
		}
		w.e.state = before
		w.takeClock(w.e.state.timing.Clock + late)
		w.prime(s, theirs)
		got = w.execute(s.cmd[0])
	}
	return got
}

// parse takes a response apart.
func (w *twin) parse(s *sent, resp []byte) reply {
	a := reply{whole: resp, rc: code(resp)}
	if a.rc != tpm2.RCSuccess || s.cmd[0] == nil {
		return a
	}
	b := resp[headerSize:]
	if s.d.retHandle && len(b) >= 4 {
		a.handle, b = tpm2.Handle(binary.BigEndian.Uint32(b)), b[4:]
	}
	a.params = b
	if s.c.tag == tpm2.STSessions && len(b) >= 4 {
		if n := binary.BigEndian.Uint32(b); int64(n) <= int64(len(b)-4) {
			a.params, a.auths = b[4:4+n], b[4+n:]
		}
	}
	w.decipher(s, &a)
	return a
}

// nonces are those of the answer's sessions that are not empty.
func (a *reply) nonces() (list [][]byte) {
	for b := a.auths; len(b) > 0; {
		nonce, rest, ok := cutSized(b)
		if !ok || len(rest) < 1 {
			return list
		}
		if len(nonce) > 0 {
			list = append(list, nonce)
		}
		if _, b, ok = cutSized(rest[1:]); !ok {
			return list
		}
	}
	return list
}

// decipher decrypts the answer's first parameter where a session has encrypted
// it. The keys are those of before the command.
func (w *twin) decipher(s *sent, a *reply) {
	i := s.c.auth.encrypt
	if i < 0 || len(a.params) < 2 {
		return
	}
	use := &s.c.auth.sessions[i]
	nonces := a.nonces()
	k := 0
	for j := range i {
		if s.c.auth.sessions[j].session != nil {
			k++
		}
	}
	if k >= len(nonces) {
		return
	}
	a.params = bytes.Clone(a.params)
	n := int(binary.BigEndian.Uint16(a.params))
	if n > len(a.params)-2 {
		return
	}
	data, def := a.params[2:2+n], &use.session.Symmetric
	if def.Alg == tpm2.AlgXOR {
		crypt.XORObfuscate(use.session.AuthHash, s.key, nonces[k], use.nonceCaller, data)
	} else if rc := crypt.DecryptParameter(use.session.AuthHash, s.key, nonces[k], use.nonceCaller, *def, data); rc != tpm2.RCSuccess {
		w.t.Errorf("cannot decrypt a response: %v", rc)
	}
}

// prime makes our engine draw and see what the oracle drew and saw.
func (w *twin) prime(s *sent, a *reply) {
	if a.rc != tpm2.RCSuccess || s.d == nil {
		return
	}
	w.random.nonces, w.random.bare = a.nonces(), len(a.params) == 0
	feed := func(list ...[]byte) { w.random.feed = append(w.random.feed, list...) }
	switch s.d.cc {
	case tpm2.CCStartAuthSession, tpm2.CCGetRandom:
		if b, _, ok := cutSized(a.params); ok && len(b) > 0 {
			feed(b)
		}
	case tpm2.CCClear:
		x := w.o.seeds()
		feed(x.Owner[:], x.OwnerProof[:], x.EndorsementProof[:])
	case tpm2.CCChangePPS:
		x := w.o.seeds()
		feed(x.Platform[:], x.PlatformProof[:])
	case tpm2.CCChangeEPS:
		x := w.o.seeds()
		feed(x.Endorsement[:], x.EndorsementProof[:])
	case tpm2.CCReadClock:
		w.takeTime(a.params)
	case tpm2.CCPolicySecret, tpm2.CCPolicySigned:
		w.takeTimeout(s, a.params)
	case tpm2.CCQuote, tpm2.CCCertify, tpm2.CCCertifyCreation, tpm2.CCGetTime, tpm2.CCNVCertify,
		tpm2.CCGetSessionAuditDigest, tpm2.CCGetCommandAuditDigest:
		w.takeAttested(a.params)
	}
}

// takeAttested takes over the time of an attestation.
func (w *twin) takeAttested(params []byte) {
	var attest tpm2.Attest
	b, _, ok := cutSized(params)
	c := tpm2.NewDecoder(b)
	if attest.Walk(&c); !ok || c.RC() != tpm2.RCSuccess {
		return
	}
	w.takeClock(attest.ClockInfo.Clock)
	if attest.Type == tpm2.STAttestTime {
		w.e.state.timing.Time = attest.Time.Time
	}
}

// takeTimeout takes over, from the timeout of an authorization, when its
// session began, or which millisecond of a second it is.
func (w *twin) takeTimeout(s *sent, params []byte) {
	var in authorization
	c := tpm2.NewDecoder(s.plain)
	in.Walk(&c)
	b, _, ok := cutSized(params)
	sess := w.e.state.sessions.Get(s.handles[len(s.handles)-1])
	seconds := min(uint64(-int64(int32(in.expiration))), 1<<31-1)
	if !ok || len(b) != 8 || sess == nil || c.RC() != tpm2.RCSuccess {
		return
	}
	timeout := binary.BigEndian.Uint64(b) &^ expiresOnReset
	t := &w.e.state.timing
	if len(in.nonceTPM) == 0 {
		d := (timeout%1000 + 1000 - t.Time%1000) % 1000
		w.takeClock(t.Clock + d)
	} else if start := timeout - seconds*1000; start < t.Time+60_000 {
		sess.StartTime = start
	}
}
