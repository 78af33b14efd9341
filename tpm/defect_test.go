package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestDefectInEncodingIsFailureMode breaks the state so that it cannot be
// saved: the TPM fails, the process does not, and what was durable stays.
func TestDefectInEncodingIsFailureMode(t *testing.T) {
	for name, provoke := range map[string]func(r *rig) Commit{
		"command": func(r *rig) Commit {
			resp, commit := r.e.Execute(Request{}, frame(tpm2.CCHierarchyChangeAuth,
				[]tpm2.Handle{tpm2.RHLockout}, password(""), buf16([]byte("new"))), nil)
			if code(resp) != tpm2.RCFailure {
				r.t.Errorf("the answer is %v", code(resp))
			}
			return commit
		},
		"D-RTM": func(r *rig) Commit {
			r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(0))
			r.e.state.hierarchies.Owner.Policy = make(tpm2.Digest, 100)
			r.e.HashStart()
			return r.e.HashEnd()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, true)
			durable := r.durable
			if name == "command" {
				r.e.state.hierarchies.Owner.Policy = make(tpm2.Digest, 100)
			}
			if commit := provoke(r); commit.Pending() {
				t.Error("a state that cannot be encoded is to be made durable")
			}
			r.must(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, u16(8))
			r.power(durable)
			r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
		})
	}
}
