package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/seal"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// tpm12Name is swtpm's state file of a TPM 1.2.
const tpm12Name = "tpm-00.permall"

// StateNames lists the names of the files that say that there is a TPM in a directory:
// of this program, of swtpm, and of a TPM 1.2.
func StateNames() []string {
	return []string{permanentName, volatileName, foreignName, foreignVolatileName, tpm12Name}
}

// Resident is the TPM in a directory, as far as can be told without its key.
type Resident struct {
	Ours      bool // of this program; a state of swtpm's beside it is the one that was taken over
	TPM12     bool // a TPM 1.2 of swtpm's
	Encrypted bool
	KeyBits   int  // of the key that swtpm has encrypted it under; 0 for ours
	Suspended bool // its running state is kept, too
	// Overtaken says that swtpm's file was written after ours, which counts: where
	// that was by swtpm, two of the same TPM have run.
	Overtaken bool
	Mode      fs.FileMode // permissions of its file
}

// Inspect tells what TPM is in a directory, which may run meanwhile, and writes nothing.
// Where there is none, fs.ErrNotExist is in the error's chain; any other error says why
// the TPM that is there could not be started.
func Inspect(path string) (r Resident, err error) {
	there := func(name string) fs.FileInfo {
		info, e := os.Stat(filepath.Join(path, name))
		if e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
			err = e
		}
		return info
	}
	ours, theirs := there(permanentName), there(foreignName)
	mine, running, old := there(volatileName), there(foreignVolatileName), there(tpm12Name)
	switch {
	case err != nil:
		return r, err
	case ours != nil:
		r = Resident{Ours: true, Mode: ours.Mode().Perm(), Suspended: mine != nil,
			Overtaken: theirs != nil && theirs.ModTime().After(ours.ModTime())}
		r.Encrypted, err = inspectOurs(path)
	case theirs != nil:
		r = Resident{Mode: theirs.Mode().Perm(), Suspended: running != nil}
		r.Encrypted, r.KeyBits, err = inspectForeign(filepath.Join(path, foreignName))
	case mine != nil:
		err = fmt.Errorf("state file %s: %w", filepath.Join(path, volatileName), errLone)
	case running != nil:
		err = fmt.Errorf("%s: it is the running state of a TPM whose %s is not here", filepath.Join(path, foreignVolatileName), foreignName)
	case old != nil:
		r = Resident{TPM12: true, Mode: old.Mode().Perm()}
	default:
		err = fmt.Errorf("%s: there is no TPM: %w", path, fs.ErrNotExist)
	}
	return r, err
}

func inspectOurs(path string) (encrypted bool, err error) {
	dir, err := store.OpenDir(path, store.Options{})
	if err != nil {
		return false, err
	}
	file := dir.File(permanentName)
	defer file.Close()
	b, _, err := file.Load()
	if err != nil {
		return false, err
	}
	defer clear(b)
	if _, encrypted = seal.Sealed(b); encrypted {
		return true, nil
	}
	if _, err := tpm.ProfileOf(b); err != nil {
		return false, fmt.Errorf("state file %s: %w", file.Path(), err)
	}
	return false, nil
}

func inspectForeign(path string) (encrypted bool, bits int, err error) {
	b, err := readLimited(path, syscall.O_NOFOLLOW)
	if err != nil {
		return false, 0, err
	}
	defer clear(b)
	if !isForeign(b) {
		return false, 0, fmt.Errorf("%s: %w", path, damaged("its header is not there"))
	}
	flags := binary.BigEndian.Uint16(b[4:])
	switch {
	case flags&flagEncrypted == 0:
		return false, 0, nil
	case flags&flagLongKey == 0:
		return true, 8 * shortKey, nil
	}
	return true, 8 * longKey, nil
}

// Examine is TakeOver without writing, of a TPM that may run meanwhile: it gives the
// name of the TPM's profile, or the error that TakeOver would.
func Examine(path string, key *Key, cfg tpm.Config) (profile string, err error) {
	f, err := ReadForeign(path, key)
	defer f.Wipe()
	if err != nil {
		return "", err
	}
	permanent, volatile, err := f.convert(cfg)
	defer clear(permanent)
	defer clear(volatile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.from, err)
	}
	p, err := tpm.ProfileOf(permanent)
	if err != nil {
		return "", err
	}
	return p.Name(), nil
}

// TakeOver makes the TPM of swtpm in a directory, whose lock the caller holds, one of
// this program, encrypted under the same key where there is one. The file of swtpm's is
// kept. Where not all can be taken over, the error lists what, and nothing was written.
func TakeOver(dir *store.Dir, key *Key, cfg tpm.Config) (path string, err error) {
	s := newStates(dir, key, cfg)
	defer s.close()
	if err := s.vacant(); err != nil {
		return "", err
	}
	f, err := s.foreign()
	defer f.Wipe()
	if err != nil {
		return "", err
	}
	b, err := s.takeOver(cfg, f)
	clear(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.from, err)
	}
	return s.permanent.Path(), nil
}

// GiveBack makes the TPM of this program in a directory, whose lock the caller holds,
// one of swtpm again, in a file of the given mode. What either has written before is put
// aside, as names with ".old"; what Export leaves out or refuses, this does.
func GiveBack(dir *store.Dir, key *Key, cfg tpm.Config, mode fs.FileMode, drop bool) (path string, err error) {
	path = filepath.Join(dir.Path(), foreignName)
	if dir.Single() {
		return "", fmt.Errorf("%s is one file: export it", dir.Path())
	}
	b, err := Export(dir, key, cfg, key, drop)
	if err != nil {
		return "", err
	}
	defer clear(b)
	return path, dir.Supplant(foreignName, mode, b, []string{foreignVolatileName}, []string{permanentName + ".bak", permanentName})
}
