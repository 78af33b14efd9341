package tpm

import (
	"bytes"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// toDo asks what is untested, after testing some algorithms.
func (r *rig) toDo(test ...tpm2.AlgID) (list tpm2.AlgList) {
	r.t.Helper()
	body := r.must(tpm2.RCSuccess, tpm2.CCIncrementalSelfTest, nil, nil, tpm2.Marshal((*tpm2.AlgList)(&test)))
	decode(r.t, body, &list)
	return list
}

func TestSelfTest(t *testing.T) {
	r := newRig(t, true)
	list := r.toDo()
	if slices.Contains(list, tpm2.AlgSHA256) || !slices.Contains(list, tpm2.AlgRSA) || !slices.Contains(list, tpm2.AlgECDSA) {
		t.Fatalf("after Startup these are untested: %v", list)
	}
	if list = r.toDo(tpm2.AlgECDSA, tpm2.AlgKeyedHash); slices.Contains(list, tpm2.AlgECDSA) {
		t.Errorf("ECDSA is untested after its test: %v", list)
	}
	// The first use of a key tests what it needs.
	h := r.addKey(aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgNull), tpm2.RHOwner)
	r.run(tpm2.CCEncryptDecrypt, []tpm2.Handle{h}, password(""))
	if list = r.toDo(); slices.Contains(list, tpm2.AlgCBC) {
		t.Errorf("CBC is untested after an AES key's use: %v", list)
	}
	e, err := Resume(r.cfg, r.e.Permanent(), r.e.SaveVolatile())
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	if again := r.toDo(); !slices.Equal(again, list) {
		t.Errorf("a resumed TPM has these untested: %v, before %v", again, list)
	}
	r.must(tpm2.RCSuccess, tpm2.CCSelfTest, nil, nil, []byte{0})
	if list = r.toDo(); len(list) != 0 {
		t.Errorf("these are untested after SelfTest: %v", list)
	}
	for _, p := range nullProfile.algorithms() {
		r.toDo(p.Alg)
	}
	r.must(tpm2.RCValue.P(1), tpm2.CCIncrementalSelfTest, nil, nil, u32(1), u16(uint16(tpm2.AlgSM4)))
	r.must(tpm2.RCSize.P(1), tpm2.CCIncrementalSelfTest, nil, nil, u32(65))
	r.must(tpm2.RCValue.P(1), tpm2.CCSelfTest, nil, nil, []byte{2})
	body := r.must(tpm2.RCSuccess, tpm2.CCGetTestResult, nil, nil)
	if !bytes.Equal(body, make([]byte, 6)) {
		t.Errorf("test result %x", body)
	}
}

// TestEveryTestIsOfAnImplementedAlg: what is to be tested is what
// TPM_CAP_ALGS lists.
func TestEveryTestIsOfAnImplementedAlg(t *testing.T) {
	for _, alg := range testable {
		if !slices.ContainsFunc(nullProfile.algorithms(), func(p tpm2.AlgProperty) bool { return p.Alg == alg }) {
			t.Errorf("%v has a test and is not implemented", alg)
		}
	}
}

func TestSelfTestCanBeCanceled(t *testing.T) {
	r := newRig(t, true)
	canceled := make(chan struct{})
	close(canceled)
	for _, cmd := range [][]byte{frame(tpm2.CCSelfTest, nil, nil, []byte{1}),
		frame(tpm2.CCIncrementalSelfTest, nil, nil, u32(1), u16(uint16(tpm2.AlgRSA)))} {
		resp, _ := r.e.Execute(Request{Cancel: canceled}, cmd, nil)
		if rc := tpm2.RC(resp[8])<<8 | tpm2.RC(resp[9]); rc != tpm2.RCCanceled {
			t.Errorf("%v", rc)
		}
	}
	if len(r.toDo()) != len(testable) {
		t.Error("a full test that was canceled leaves algorithms tested")
	}
	r.must(tpm2.RCSuccess, tpm2.CCSelfTest, nil, nil, []byte{0})
}

// TestFailedSelfTest: a test that fails puts the TPM in failure mode, from any
// command that needs the algorithm, until power off.
func TestFailedSelfTest(t *testing.T) {
	for name, c := range map[string]struct {
		alg tpm2.AlgID
		run func(*rig) tpm2.RC
	}{
		"SelfTest": {tpm2.AlgOAEP, func(r *rig) tpm2.RC {
			rc, _ := r.run(tpm2.CCSelfTest, nil, nil, []byte{1})
			return rc
		}},
		"IncrementalSelfTest": {tpm2.AlgSHA1, func(r *rig) tpm2.RC {
			rc, _ := r.run(tpm2.CCIncrementalSelfTest, nil, nil, u32(1), u16(uint16(tpm2.AlgSHA1)))
			return rc
		}},
		"first use": {tpm2.AlgECDSA, func(r *rig) tpm2.RC {
			h := r.addKey(eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
			rc, _ := r.run(tpm2.CCQuote, []tpm2.Handle{h}, password(""))
			return rc
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			var log bytes.Buffer
			r.e.cfg.Log = slog.New(slog.NewTextHandler(io.Writer(&log), nil))
			r.e.tests.Fail = func(alg tpm2.AlgID) bool { return alg == c.alg }
			if rc := c.run(r); rc != tpm2.RCFailure {
				t.Fatalf("%v", rc)
			}
			if !strings.Contains(log.String(), c.alg.String()) {
				t.Errorf("the log does not name %v: %s", c.alg, log.String())
			}
			body := r.must(tpm2.RCSuccess, tpm2.CCGetTestResult, nil, nil)
			if !bytes.Equal(body, append(make([]byte, 2), u32(uint32(tpm2.RCFailure))...)) {
				t.Errorf("test result %x", body)
			}
			r.must(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, u16(8))
			r.power(r.e.Permanent())
			r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
		})
	}
}

func TestGetRandom(t *testing.T) {
	r := newRig(t, true)
	seen := make(map[string]bool)
	for _, c := range []struct{ ask, get int }{{0, 0}, {1, 1}, {32, 32}, {32, 32}, {64, 64}, {65, 64}, {0xFFFF, 64}} {
		body := r.must(tpm2.RCSuccess, tpm2.CCGetRandom, nil, nil, u16(uint16(c.ask)))
		if len(body) != 2+c.get {
			t.Errorf("%d bytes asked for, %d given", c.ask, len(body)-2)
		}
		if c.get >= 32 && seen[string(body)] {
			t.Error("the same bytes twice")
		}
		seen[string(body)] = true
	}
	r.must(tpm2.RCSuccess, tpm2.CCStirRandom, nil, nil, buf16(make([]byte, 128)))
	r.must(tpm2.RCSize.P(1), tpm2.CCStirRandom, nil, nil, buf16(make([]byte, 129)))
}
