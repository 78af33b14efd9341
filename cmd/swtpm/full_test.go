package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"
)

// fills is how often a disk is filled and emptied under each TPM.
const fills = 10

// smallDisk mounts a file system of so many bytes, whatever is in memory elsewhere.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := shortDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fill takes all the room on a disk, and empty gives it back.
func fill(t *testing.T, disk string) (empty func()) {
	t.Helper()
	path := join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 4096); err == nil; {
		_, err = f.Write(b)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk fills the disk under a TPM that works, and empties it again, ten times
// for each way to keep the state; and kills the TPM at the end.
func TestFullDisk(t *testing.T) {
	key := join(t.TempDir(), "key")
	if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	encrypted := []string{"--key", "file=" + key + ",format=binary,mode=aes-256-cbc"}
	for _, c := range []struct {
		name, state, size string
		roomy             bool // it has all its room from the start
		options           []string
	}{
		{"directory", "dir=%s", "1800k", false, nil},
		{"encrypted", "dir=%s", "1800k", false, encrypted},
		{"backup", "dir=%s,backup", "3600k", false, nil},
		{"one file", "backend-uri=file://%s/state", "3600k", true, nil},
		{"one file, encrypted", "backend-uri=file://%s/state", "3600k", true, encrypted},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := smallDisk(t, c.size)
			var f *filled
			refused := 0
			for n := range fills {
				if f == nil || n%3 == 0 && !c.roomy { // a state that has grown needs no more room
					if f != nil {
						f.restart()
						f.p.kill()
					}
					f = startFilled(t, disk, strings.ReplaceAll(c.state, "%s", join(disk, string(rune('a'+n)))), c.options)
				}
				refused += f.fillOnce(c.roomy)
			}
			f.restart()
			t.Logf("%d times full, %d commands refused, %d indices and %d increments acknowledged", fills, refused, len(f.indices), f.k.count)
			if !c.roomy && refused < fills {
				t.Errorf("only %d commands were refused", refused)
			}
		})
	}
}

// filled is a TPM on a disk that is full at times.
type filled struct {
	t       *testing.T
	disk    string
	k       *killer
	p       *process
	w       wire
	indices []uint32 // that were defined and written

	unwritten uint32 // one that is defined only; 0 for none
}

// protectedIndex is one whose authorization is under lockout protection.
const protectedIndex = 0x01800003

func startFilled(t *testing.T, disk, state string, options []string) *filled {
	t.Helper()
	if dir, isDir := strings.CutPrefix(strings.Split(state, ",")[0], "dir="); isDir {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Mkdir(filepath.Dir(strings.TrimPrefix(state, "backend-uri=file://")), 0o700); err != nil {
		t.Fatal(err)
	}
	f := &filled{t: t, disk: disk, k: &killer{t: t, dir: shortDir(t), state: state, options: options}}
	f.k.define()
	f.p, f.w = f.k.start()
	if err := f.define(protectedIndex, 8, false); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *filled) define(index uint32, size uint16, noDA bool) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		Auth:       tpm2.TPM2BAuth{Buffer: []byte("secret")},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256,
			Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: noDA}, DataSize: size,
		}),
	}.Execute(f.w)
	return err
}

// grow defines one more index and writes it, which makes the state larger.
func (f *filled) grow() error {
	if f.unwritten == 0 {
		if err := f.define(f.next(), 1000, true); err != nil {
			return err
		}
		f.unwritten = f.next()
	}
	_, err := tpm2.NVWrite{AuthHandle: f.auth(f.unwritten, "secret"), NVIndex: name(f.unwritten),
		Data: tpm2.TPM2BMaxNVBuffer{Buffer: bytes.Repeat([]byte{byte(f.unwritten)}, 1000)}}.Execute(f.w)
	if err == nil {
		f.indices, f.unwritten = append(f.indices, f.unwritten), 0
	}
	return err
}

func name(index uint32) tpm2.NamedHandle {
	return tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: tpm2.TPM2BName{Buffer: []byte{0}}}
}

func (f *filled) auth(index uint32, value string) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Name: tpm2.TPM2BName{Buffer: []byte{0}}, Auth: tpm2.PasswordAuth([]byte(value))}
}

func (f *filled) read(index uint32, auth string) ([]byte, error) {
	rsp, err := tpm2.NVRead{AuthHandle: f.auth(index, auth), NVIndex: name(index), Size: 8}.Execute(f.w)
	if err != nil {
		return nil, err
	}
	return rsp.Data.Buffer, nil
}

// there reports whether an index is.
func (f *filled) there(index uint32) bool {
	f.t.Helper()
	_, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(f.w)
	if err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
		f.t.Fatal(err)
	}
	return err == nil
}

// next is the number of an index that there is not yet.
func (f *filled) next() uint32 { return 0x01810000 + uint32(len(f.indices)) }

// work is the load: what needs no more room, which always goes on.
func (f *filled) work(n int) {
	f.t.Helper()
	for range n {
		f.k.value++
		f.k.count++
		if err := errors.Join(f.k.write(f.w, f.k.value), f.k.increment(f.w), f.extend()); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *filled) extend() error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(f.w)
	return err
}

// fillOnce works while the disk is full until a command that needs room is refused, and
// on when there is room again. It gives how many were refused.
func (f *filled) fillOnce(roomy bool) (refused int) {
	f.t.Helper()
	f.work(3)
	empty := fill(f.t, f.disk)
	for range 60 {
		f.work(1)
		err := f.grow()
		if err == nil {
			if roomy && len(f.indices)%5 == 0 {
				break
			}
			continue
		}
		if !errors.Is(err, tpm2.TPMRCNVUnavailable) {
			f.t.Fatalf("on a full disk: %v", err)
		}
		refused++
		f.refused(false)
		if refused == 3 {
			break
		}
	}
	f.work(3)
	empty()
	if err := f.grow(); err != nil {
		f.t.Fatalf("with room again: %v", err)
	}
	f.work(3)
	return refused
}

// refused checks what holds after a command was refused for want of room, or since
// nothing can be written.
func (f *filled) refused(readOnly bool) {
	f.t.Helper()
	if f.unwritten == 0 && f.there(f.next()) {
		f.t.Error("what was refused was done")
	}
	if _, err := f.read(protectedIndex, "wrong"); !errors.Is(err, tpm2.TPMRCNVUnavailable) {
		f.t.Errorf("a protected authorization that perhaps cannot be counted: %v", err)
	}
	// That it was refused was written, if it could be: then it can be counted.
	want := error(tpm2.TPMRCNVUninitialized)
	if readOnly {
		want = tpm2.TPMRCNVUnavailable
	}
	if _, err := f.read(protectedIndex, "secret"); !errors.Is(err, want) {
		f.t.Errorf("a protected authorization after it was tried whether it can be counted: %v, want %v", err, want)
	}
	if f.unwritten != 0 {
		if _, err := f.read(f.unwritten, "secret"); !errors.Is(err, tpm2.TPMRCNVUninitialized) {
			f.t.Errorf("what was refused was done: %v", err)
		}
	}
	for range 3 {
		if err := f.extend(); err != nil {
			f.t.Fatalf("PCR_Extend on a full disk: %v", err)
		}
	}
}

// restart kills the TPM, and finds all that was acknowledged.
func (f *filled) restart() {
	f.t.Helper()
	f.p.kill()
	f.p, f.w = f.k.start()
	if value, count := f.k.read(f.w, ordinaryIndex), f.k.read(f.w, counterIndex); value != f.k.value || count != f.k.count {
		f.t.Errorf("%d and %d were acknowledged, %d and %d are there", f.k.value, f.k.count, value, count)
	}
	for _, index := range f.indices {
		if b, err := f.read(index, "secret"); err != nil || b[0] != byte(index) {
			f.t.Errorf("index %x was acknowledged: %x, %v", index, b, err)
		}
	}
	if f.there(f.next()) != (f.unwritten != 0) {
		f.t.Error("an index that was never defined is there")
	}
}

// TestReadOnlyDisk: an error of the file system makes it read-only under a TPM that
// works, as ext4 does; when it was repaired, all that was acknowledged is there.
func TestReadOnlyDisk(t *testing.T) {
	image, disk := join(t.TempDir(), "image"), shortDir(t)
	run := func(args ...string) error {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			err = errors.New(err.Error() + ": " + string(out))
		}
		return err
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 8<<20), run("mkfs.ext4", "-q", image),
		run("mount", "-o", "loop,errors=remount-ro", image, disk)); err != nil {
		t.Skipf("needs mkfs.ext4 and the right to mount a file system: %v", err)
	}
	defer func() { _ = run("umount", disk) }()
	var st syscall.Stat_t
	if err := syscall.Stat(disk, &st); err != nil {
		t.Fatal(err)
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		t.Skip("there is no /sys to tell ext4 by that it is to fail")
	}
	f := startFilled(t, disk, "dir="+join(disk, "a"), nil)
	f.work(3)
	if err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(device)+"/trigger_fs_error", []byte("a test"), 0); err != nil {
		t.Skipf("ext4 cannot be told to fail: %v", err)
	}
	if err := f.grow(); !errors.Is(err, tpm2.TPMRCNVUnavailable) {
		t.Errorf("on a disk that is read-only: %v", err)
	}
	f.refused(true)
	f.p.kill()
	if err := run("umount", disk); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("fsck.ext4", "-p", "-f", image).Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() > 1 {
			t.Fatal(err)
		}
	}
	if err := run("mount", "-o", "loop", image, disk); err != nil {
		t.Fatal(err)
	}
	f.p, f.w = f.k.start()
	f.restart()
	f.work(3)
	f.p.kill()
}
