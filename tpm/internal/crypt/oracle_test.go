package crypt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// oracle is Debian's swtpm, with the seeds and proofs read from its state.
type oracle struct {
	t    *testing.T
	conn net.Conn
	hierarchies
}

// hierarchies are the secrets of a TPM from which primary objects follow.
type hierarchies struct {
	EPS, SPS, PPS, PHProof, SHProof, EHProof []byte
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	for _, tool := range []string{"swtpm", "swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: the comparison with libtpms is skipped", tool)
		}
	}
	dir, err := os.MkdirTemp("", "oracle") // t.TempDir's paths are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", dir).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	state, err := os.ReadFile(filepath.Join(dir, "tpm2-00.permall"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	o := &oracle{t: t, hierarchies: readHierarchies(t, state)}
	for range 200 {
		if o.conn, err = net.Dial("unix", socket); err == nil {
			t.Cleanup(func() { o.conn.Close() })
			return o
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("swtpm does not answer: %v", err)
	return nil
}

// readHierarchies finds the secrets in a plain state file: PERSISTENT_DATA
// version 4 has, after its header, disableClear, three algorithms, three
// policies and three authorization values.
func readHierarchies(t *testing.T, state []byte) hierarchies {
	t.Helper()
	at := bytes.Index(state, []byte{0, 4, 0x12, 0x21, 0x34, 0x43, 0, 4})
	if at < 0 {
		t.Skip("the state that swtpm writes has no PERSISTENT_DATA of version 4")
	}
	rest := state[at+8+1+3*2:]
	next := func() []byte {
		n := int(binary.BigEndian.Uint16(rest))
		b := rest[2 : 2+n]
		rest = rest[2+n:]
		return b
	}
	for range 6 {
		next()
	}
	return hierarchies{
		EPS: next(), SPS: next(), PPS: next(),
		PHProof: next(), SHProof: next(), EHProof: next(),
	}
}

// run runs one command with an empty password per authorized handle and gives
// its response, where it succeeds.
func (o *oracle) run(cc uint32, handles []uint32, auths int, params []byte) []byte {
	o.t.Helper()
	rc, response := o.try(cc, handles, auths, params)
	if rc != tpm2.RCSuccess {
		o.t.Fatalf("swtpm answers command 0x%x with %v", cc, rc)
	}
	return response
}

func (o *oracle) try(cc uint32, handles []uint32, auths int, params []byte) (tpm2.RC, []byte) {
	o.t.Helper()
	be := binary.BigEndian
	body := be.AppendUint32(nil, cc)
	for _, h := range handles {
		body = be.AppendUint32(body, h)
	}
	tag := uint16(0x8001)
	if auths > 0 {
		tag = 0x8002
		body = be.AppendUint32(body, uint32(9*auths))
		for range auths {
			body = append(body, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
		}
	}
	body = append(body, params...)
	cmd := be.AppendUint32(be.AppendUint16(nil, tag), uint32(6+len(body)))
	if _, err := o.conn.Write(append(cmd, body...)); err != nil {
		o.t.Fatal(err)
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(o.conn, head); err != nil {
		o.t.Fatal(err)
	}
	response := make([]byte, be.Uint32(head[2:])-10)
	if _, err := io.ReadFull(o.conn, response); err != nil {
		o.t.Fatal(err)
	}
	return tpm2.RC(be.Uint32(head[6:])), response
}

// createPrimary gives the object's handle and public area.
func (o *oracle) createPrimary(hierarchy uint32, template, data []byte) (handle uint32, public []byte) {
	o.t.Helper()
	params := binary.BigEndian.AppendUint16(nil, uint16(4+len(data)))
	params = append(params, 0, 0)
	params = append2B(params, data)
	params = append2B(params, template)
	params = append(params, 0, 0, 0, 0, 0, 0) // outsideInfo, creationPCR
	r := o.run(ccCreatePrimary, []uint32{hierarchy}, 1, params)
	handle = binary.BigEndian.Uint32(r)
	r = r[8:] // handle, parameterSize
	return handle, r[2 : 2+binary.BigEndian.Uint16(r)]
}

func (o *oracle) flush(handle uint32) {
	o.t.Helper()
	o.run(ccFlushContext, nil, 0, binary.BigEndian.AppendUint32(nil, handle))
}

const (
	ccCreatePrimary = 0x131
	ccFlushContext  = 0x165
	rhOwner         = 0x40000001
	rhEndorsement   = 0x4000000B
	rhPlatform      = 0x4000000C
)

// derive makes the primary object of a template as this package does.
func (h hierarchies) derive(t testing.TB, hierarchy uint32, template, data []byte) *Key {
	t.Helper()
	var pub tpm2.Public
	if err := tpm2.Unmarshal(template, &pub); err != nil {
		t.Fatal(err)
	}
	seed, proofs := h.SPS, [][]byte(nil)
	switch hierarchy {
	case rhPlatform:
		seed = h.PPS
	case rhEndorsement:
		seed, proofs = h.EPS, [][]byte{h.SHProof, h.EHProof}
	}
	d := NewPrimaryDRBG(seed, pub.Name(), data)
	auth := make([]byte, pub.NameAlg.DigestSize())
	k, rc := CreateObject(&pub, auth, data, &Source{Primary: d, Proofs: proofs})
	if rc != tpm2.RCSuccess {
		t.Fatalf("CreateObject: %v", rc)
	}
	return k
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
