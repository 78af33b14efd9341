package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/disk"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// Names of swtpm's own state files.
const (
	foreignName         = "tpm2-00.permall"
	foreignVolatileName = "tpm2-00.volatilestate"
)

// Foreign is the state of a TPM of swtpm, decrypted: libtpms' permanent state,
// and the volatile one where the TPM was suspended.
type Foreign struct {
	Permanent, Volatile []byte
	from                string // the file of the permanent state
}

// Wipe overwrites both states, which must not be used afterwards.
func (f *Foreign) Wipe() {
	clear(f.Permanent)
	clear(f.Volatile)
}

// ReadForeign reads the state of a TPM of swtpm, which is left as it is: a
// directory of its state files, which its permanent file stands for as well, or
// the single file of its backend file://. key is nil for a state that is not
// encrypted, and only then is such a state read. What was decrypted before an error
// is wiped; after none that is the caller's to do.
func ReadForeign(path string, key *Key) (f Foreign, err error) {
	defer func() {
		if err != nil {
			f.Wipe()
		}
	}()
	if filepath.Base(path) == foreignName { // a running state may be beside it
		path = filepath.Dir(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	if !info.IsDir() {
		b, err := readLimited(path, 0)
		if err != nil {
			return f, err
		}
		if isLinear(b) {
			return decodeLinear(path, b, key)
		}
		f.Permanent, err = decodeNamed(path, b, key)
		return f, err
	}
	return readForeignDir(path, func(name string) ([]byte, error) { return readLimited(filepath.Join(path, name), syscall.O_NOFOLLOW) }, key)
}

// readForeignDir reads the files of a directory of swtpm's, of which read gives one.
func readForeignDir(path string, read func(name string) ([]byte, error), key *Key) (f Foreign, err error) {
	defer func() {
		if err != nil {
			f.Wipe()
		}
	}()
	f.from = filepath.Join(path, foreignName)
	b, err := read(foreignName)
	if err != nil {
		return f, err
	}
	if f.Permanent, err = decodeNamed(f.from, b, key); err != nil {
		return f, err
	}
	switch b, err := read(foreignVolatileName); {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, err
	default:
		f.Volatile, err = decodeNamed(filepath.Join(path, foreignVolatileName), b, key)
		return f, err
	}
}

// readLimited reads a file, or a disk. In a directory, which is its TPM's user's, it is
// to follow no link to what that user may not read, and it waits at no pipe.
func readLimited(path string, flags int) ([]byte, error) {
	b, err := disk.ReadFile(path, maxForeign, flags)
	return b, noFile(path, err)
}

// noFile says what is wrong with a path that is not one of a file.
func noFile(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%s: %w: it is a symbolic link", path, errForeign)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%s: %w: it is no file", path, errForeign)
	}
	return err
}

// decodeNamed is decodeForeign with the file's name in the error.
func decodeNamed(path string, b []byte, key *Key) ([]byte, error) {
	state, err := decodeForeign(b, foreignOpener{file: key})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return state, nil
}

// The single file of backend file:// is little-endian: a mark, its version, the
// size of its header, and for each of the files in it an offset, a length and the
// room there is.
const (
	linearMagic  = 0x737774706d6c696e
	linearFiles  = 15
	linearHeader = 12 + 12*linearFiles
)

// isLinearFile reports whether a file is one of backend file://.
func isLinearFile(path string) bool {
	b, err := readLimited(path, syscall.O_NOFOLLOW)
	return err == nil && isLinear(b)
}

func isLinear(b []byte) bool {
	return len(b) >= linearHeader && binary.LittleEndian.Uint64(b) == linearMagic
}

func decodeLinear(path string, b []byte, key *Key) (f Foreign, err error) {
	le := binary.LittleEndian
	if b[8] != 1 || le.Uint16(b[10:]) != linearHeader {
		return f, fmt.Errorf("%s: %w", path, damaged("it is of a version that is not known"))
	}
	for i, to := range []*[]byte{&f.Permanent, &f.Volatile} {
		entry := b[12+12*i:]
		at, n := uint64(le.Uint32(entry)), uint64(le.Uint32(entry[4:]))
		switch {
		case at == 0 && i == 0:
			return f, fmt.Errorf("%s: %w", path, damaged("there is no permanent state in it"))
		case at == 0:
			continue
		case at < linearHeader || at+n > uint64(len(b)):
			return f, fmt.Errorf("%s: %w", path, damaged("it is cut"))
		}
		if *to, err = decodeNamed(path, b[at:at+n], key); err != nil {
			return f, err
		}
	}
	return f, nil
}

// convert makes states of ours; volatile is nil where there is none.
func (f *Foreign) convert(cfg tpm.Config) (permanent, volatile []byte, err error) {
	if permanent, err = tpm.ImportLibtpms(cfg, f.Permanent); err != nil {
		return nil, nil, err
	}
	if f.Volatile != nil {
		if volatile, err = tpm.ImportLibtpmsVolatile(cfg, permanent, f.Volatile); err != nil {
			return nil, nil, fmt.Errorf("the state of the running TPM (without it, it would start as after a power loss): %w", err)
		}
	}
	return permanent, volatile, nil
}

// Import makes the TPM of a swtpm the one in a directory whose lock the caller
// holds, encrypted where there is a key, and gives the path of its state. A state that
// is there already, of ours or
// of another TPM of swtpm, is an error and stays as it is. Where not all can be
// taken over, the error lists what, and nothing was written.
func Import(dir *store.Dir, key *Key, cfg tpm.Config, f Foreign) (path string, err error) {
	s := newStates(dir, key, cfg)
	defer s.close()
	if err := s.vacant(); err != nil {
		return "", err
	}
	if err := s.free(f.from); err != nil {
		return "", err
	}
	_, err = s.takeOver(cfg, f)
	return s.permanent.Path(), err
}

// free refuses a directory with a state of swtpm's that is not the file at from:
// ours beside it would hide that TPM.
func (s *states) free(from string) error {
	if s.dir.Single() {
		return nil
	}
	path := filepath.Join(s.dir.Path(), foreignName)
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if source, err := os.Stat(from); err == nil && os.SameFile(there, source) {
		return nil
	}
	return fmt.Errorf("%s is the state of another TPM of swtpm; it is left as it is: choose another directory", path)
}

// vacant refuses a directory where there is a TPM already.
func (s *states) vacant() error {
	switch _, _, err := s.permanent.File.Load(); {
	case err == nil:
		return fmt.Errorf("%s is the state of a TPM already; it is left as it is: choose another directory", s.permanent.Path())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// takeOver converts a state and keeps it. The volatile one comes first: without
// the permanent one it is nothing, and the next time is like the first. Where there
// is no next time, errLone tells of it.
func (s *states) takeOver(cfg tpm.Config, f Foreign) ([]byte, error) {
	permanent, volatile, err := f.convert(cfg)
	if err != nil {
		return nil, err
	}
	if volatile == nil {
		err = s.volatile.Remove()
	} else {
		err = s.volatile.put(volatile)
	}
	if err != nil {
		return nil, err
	}
	if err := s.save(permanent); err != nil {
		return nil, errors.Join(err, s.volatile.Remove())
	}
	return permanent, nil
}

// foreign reads the state that swtpm left in the directory; fs.ErrNotExist where
// it left none.
func (s *states) foreign() (Foreign, error) {
	return readForeignDir(s.dir.Path(), func(name string) ([]byte, error) {
		b, err := s.dir.Read(name, maxForeign)
		return b, noFile(filepath.Join(s.dir.Path(), name), err)
	}, s.key)
}

// foreignProfile is the profile of a TPM of swtpm's, or null where there is none.
func (s *states) foreignProfile() (*tpm.Profile, error) {
	f, err := s.foreign()
	defer f.Wipe()
	if errors.Is(err, fs.ErrNotExist) {
		return tpm.RestoreProfile(nil)
	}
	if err != nil {
		return nil, err
	}
	return tpm.LibtpmsProfile(f.Permanent)
}

// foreignStates lists the states that swtpm has left.
func (s *states) foreignStates() ([]StateInfo, error) {
	list := []StateInfo{}
	if s.dir.Single() {
		return list, nil
	}
	for _, f := range []struct{ name, file string }{{"permall", foreignName}, {"volatile", foreignVolatileName}} {
		info, err := os.Lstat(filepath.Join(s.dir.Path(), f.file))
		switch {
		case err == nil:
			list = append(list, StateInfo{f.name, int(info.Size())})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return list, nil
}

// Export gives the file that swtpm starts the TPM in a directory from, whose lock
// the caller holds and whose key is here; with another key it is encrypted. With drop set, what the guest has
// saved by TPM2_Shutdown(STATE) is left out. What cannot go is in the error, and
// then there is no file.
func Export(dir *store.Dir, here *Key, cfg tpm.Config, key *Key, drop bool) ([]byte, error) {
	s := newStates(dir, here, cfg)
	defer s.close()
	b, err := s.load()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	switch _, _, err := s.volatile.File.Load(); {
	case err == nil:
		return nil, fmt.Errorf("%s says that the TPM is suspended, and a running state cannot go: resume it and shut it down first", s.volatile.Path())
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	state, err := tpm.ExportLibtpms(cfg, b, drop)
	if err != nil {
		return nil, err
	}
	defer clear(state)
	return encodeForeign(state, key, cfg.Entropy)
}
