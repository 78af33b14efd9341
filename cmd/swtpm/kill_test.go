package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// kills is how often the process is killed in the middle of NV writes.
const kills = 240

// TestKillInTheMiddle kills swtpm with -9 while it writes NV: whatever it
// acknowledged must be there when it starts again.
func TestKillInTheMiddle(t *testing.T) {
	t.Run("clear", func(t *testing.T) { testKill(t, kills/3, "dir=%s") })
	t.Run("one file", func(t *testing.T) { testKill(t, kills/3, "backend-uri=file://%s/state") })
	t.Run("encrypted", func(t *testing.T) {
		key := join(t.TempDir(), "key")
		if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
			t.Fatal(err)
		}
		testKill(t, kills/3, "dir=%s,backup", "--key", "file="+key+",format=binary,mode=aes-256-cbc")
	})
}

func testKill(t *testing.T, n int, state string, options ...string) {
	if testing.Short() {
		n = 10
	}
	dir := shortDir(t)
	k := &killer{t: t, dir: dir, state: fmt.Sprintf(state, dir), options: options, random: rand.New(rand.NewSource(1))}
	k.define()
	for range n {
		k.round()
	}
	t.Logf("%d kills, %d writes acknowledged", n, k.written)
	if k.written < uint64(n) {
		t.Errorf("only %d writes were acknowledged: the test has shown little", k.written)
	}
}

const (
	ordinaryIndex = 0x01800001
	counterIndex  = 0x01800002
)

type killer struct {
	t       *testing.T
	dir     string // of the socket
	state   string // of --tpmstate
	options []string
	random  *rand.Rand
	value   uint64 // last acknowledged value of the ordinary index
	count   uint64 // last acknowledged value of the counter
	written uint64
}

func (k *killer) start() (*process, wire) {
	k.t.Helper()
	p := startProcess(k.t, swtpmCommand(k.t, append([]string{"socket", "--tpm2", "--tpmstate", k.state,
		"--flags", "not-need-init,startup-clear", "--server", "type=unixio,path=" + join(k.dir, "data")}, k.options...)...))
	return p, wire{p.dial("unix", join(k.dir, "data"))}
}

func (k *killer) define() {
	p, w := k.start()
	define := func(index uint32, kind tpm2.TPMNT) {
		attributes := tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: kind}
		_, err := tpm2.NVDefineSpace{
			AuthHandle: tpm2.TPMRHOwner,
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256,
				Attributes: attributes, DataSize: 8,
			}),
		}.Execute(w)
		if err != nil {
			k.t.Fatal(err, p.errs)
		}
	}
	define(ordinaryIndex, tpm2.TPMNTOrdinary)
	define(counterIndex, tpm2.TPMNTCounter)
	if err := k.increment(w); err != nil {
		k.t.Fatal(err, p.errs)
	}
	if err := k.write(w, 1); err != nil {
		k.t.Fatal(err)
	}
	k.value, k.count = k.read(w, ordinaryIndex), k.read(w, counterIndex)
	p.kill()
}

// round starts swtpm, checks what is there, and kills it while it writes.
func (k *killer) round() {
	p, w := k.start()
	// A command that was not acknowledged may have been done or not.
	value, count := k.read(w, ordinaryIndex), k.read(w, counterIndex)
	if value != k.value && value != k.value+1 {
		k.t.Fatalf("NV_Write of %d was acknowledged, %d is there", k.value, value)
	}
	if count < k.count || count > k.count+1 {
		k.t.Fatalf("counter at %d was acknowledged, %d is there", k.count, count)
	}
	k.value, k.count = value, count
	timer := time.AfterFunc(time.Duration(k.random.Intn(20000))*time.Microsecond, func() {
		_ = p.cmd.Process.Kill()
	})
	defer timer.Stop()
	for {
		if k.write(w, k.value+1) != nil {
			break
		}
		k.value++
		if k.increment(w) != nil {
			break
		}
		k.count++
		k.written += 2
	}
	p.kill()
}

// named is a public handle: with password authorization the name is not part
// of anything.
func named(index uint32) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: tpm2.TPM2BName{Buffer: []byte{0}}, Auth: tpm2.PasswordAuth(nil)}
}

func (k *killer) write(w transport.TPM, v uint64) error {
	_, err := tpm2.NVWrite{
		AuthHandle: named(ordinaryIndex),
		NVIndex:    tpm2.NamedHandle{Handle: ordinaryIndex, Name: tpm2.TPM2BName{Buffer: []byte{0}}},
		Data:       tpm2.TPM2BMaxNVBuffer{Buffer: binary.BigEndian.AppendUint64(nil, v)},
	}.Execute(w)
	return err
}

func (k *killer) increment(w transport.TPM) error {
	_, err := tpm2.NVIncrement{
		AuthHandle: named(counterIndex),
		NVIndex:    tpm2.NamedHandle{Handle: counterIndex, Name: tpm2.TPM2BName{Buffer: []byte{0}}},
	}.Execute(w)
	return err
}

func (k *killer) read(w transport.TPM, index uint32) uint64 {
	k.t.Helper()
	rsp, err := tpm2.NVRead{
		AuthHandle: named(index),
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: tpm2.TPM2BName{Buffer: []byte{0}}},
		Size:       8,
	}.Execute(w)
	if err != nil {
		k.t.Fatal(err)
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer)
}
