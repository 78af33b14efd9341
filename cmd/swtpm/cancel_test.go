package main

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// TestCancelInTime cancels RSA keys that are being made, by the control
// channel: the command ends within 50 ms, and the TPM makes the next one.
func TestCancelInTime(t *testing.T) {
	const limit, wanted = 50 * time.Millisecond, 9
	dir := shortDir(t)
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+join(dir, "data"), "--ctrl", "type=unixio,path="+join(dir, "ctrl")))
	w, ctrl := wire{p.dial("unix", join(dir, "data"))}, p.dial("unix", join(dir, "ctrl"))
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(w)
	if err != nil {
		t.Fatal(err)
	}
	key := tpm2.RSASRKTemplate
	key.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
			Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)},
		KeyBits: 3072,
	})
	create := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.ObjectHandle, Name: parent.Name, Auth: tpm2.PasswordAuth(nil)},
		InPublic:     tpm2.New2B(key),
	}
	var took []time.Duration
	for try := 0; len(took) < wanted; try++ {
		if try == 20*wanted {
			t.Fatalf("%d of %d keys were canceled: %v", len(took), try, took)
		}
		answer := make(chan error, 1)
		go func() { _, err := create.Execute(w); answer <- err }()
		time.Sleep(time.Duration(3+5*(try%4)) * time.Millisecond)
		before := time.Now()
		if _, err := ctrl.Write([]byte{0, 0, 0, 9}); err != nil { // CANCEL_TPM_CMD
			t.Fatal(err)
		}
		var result [4]byte
		if _, err := io.ReadFull(ctrl, result[:]); err != nil || result != [4]byte{} {
			t.Fatalf("CANCEL_TPM_CMD: %x, %v", result, err)
		}
		switch err := <-answer; {
		case errors.Is(err, tpm2.TPMRCCanceled):
			took = append(took, time.Since(before))
		case err != nil:
			t.Fatal(err)
		}
	}
	slices.Sort(took)
	t.Logf("canceled after %v", took)
	// The median, since other programs run on this machine too.
	if m := took[wanted/2]; m > limit {
		t.Errorf("to cancel took %v, more than %v: %v", m, limit, took)
	}
	if _, err := create.Execute(w); err != nil {
		t.Errorf("the next key: %v", err)
	}
}
