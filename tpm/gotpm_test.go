package tpm

import (
	"errors"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// sender lets go-tpm talk to an engine or to swtpm.
type sender func(cmd []byte) []byte

// Send runs a command.
func (s sender) Send(cmd []byte) ([]byte, error) { return s(cmd), nil }

func (r *rig) gotpm() transport.TPM { return sender(r.execute) }

// wantRC checks the response code that go-tpm found.
func wantRC(t *testing.T, what string, err error, want tpm2.RC) {
	t.Helper()
	var got gotpm.TPMRC
	if err != nil && !errors.As(err, &got) {
		t.Fatalf("%s: %v", what, err)
	}
	if tpm2.RC(got) != want {
		t.Fatalf("%s: %v, want %v", what, tpm2.RC(got), want)
	}
}
