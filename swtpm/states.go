package swtpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// Names of the state files.
const (
	permanentName = "tpm2-00.ashlar"
	volatileName  = "tpm2-00.ashlar-volatile"
)

// states are the files behind a TPM.
type states struct {
	dir       *store.Dir
	key       *Key // nil where they are in clear
	permanent stateFile
	volatile  stateFile
	version   store.Version // of permanent, as last loaded or saved
	tookOver  string        // the file of swtpm that start has made the TPM of
}

func newStates(dir *store.Dir, key *Key, cfg tpm.Config) states {
	return states{
		dir: dir, key: key,
		permanent: stateFile{dir.BackedFile(permanentName), sealedPermanent, key, cfg.Entropy},
		volatile:  stateFile{dir.File(volatileName), sealedVolatile, key, cfg.Entropy},
	}
}

// OpenFile opens the file at path, or the disk, as one that holds all of a TPM's state.
func OpenFile(path string, opt store.Options) (*store.Dir, error) {
	return store.OpenSingle(path, opt, permanentName, volatileName)
}

// errForeignFile says that the one file for the state is one of swtpm's.
var errForeignFile = errors.New("it is the state of a TPM of swtpm, which is taken over into a directory: by ashlar tpm import, given this file")

// start makes an engine from the files, and reports whether it goes on from a
// volatile state. Where there are none, it takes over what swtpm has left, or else
// makes a new TPM.
func (s *states) start(cfg tpm.Config, profile *tpm.Profile) (e *tpm.Engine, resumed bool, err error) {
	permanent, err := s.load()
	if errors.Is(err, fs.ErrNotExist) && !s.dir.Locked() { // as a migration's target
		if err := s.dir.Lock(0); err != nil {
			return nil, false, err
		}
		permanent, err = s.load() // somebody may have made one
	}
	kept := s.permanent.Path()
	if errors.Is(err, fs.ErrNotExist) {
		var f Foreign
		kept = filepath.Join(s.dir.Path(), foreignName)
		f, err = s.foreign()
		defer f.Wipe()
		if err == nil && profile == nil {
			if permanent, err = s.takeOver(cfg, f); err != nil {
				return nil, false, fmt.Errorf("%s: %w", kept, err)
			}
			s.tookOver = kept
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		permanent, err = s.manufacture(cfg, tpm.Options{Profile: profile})
	case err == nil && profile != nil:
		err = fmt.Errorf("%s is the state of a TPM already, which keeps the profile that it was made with: "+
			"choose none, or another directory for a new TPM", kept)
	}
	if err != nil {
		return nil, false, err
	}
	volatile, _, err := s.volatile.Load()
	switch {
	case err == nil:
		if e, err = tpm.Resume(cfg, permanent, volatile); err != nil {
			return nil, false, fmt.Errorf("state file %s: %w", s.volatile.Path(), err)
		}
		return e, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	}
	if e, err = tpm.New(cfg, permanent); err != nil {
		return nil, false, fmt.Errorf("state file %s: %w", s.permanent.Path(), err)
	}
	return e, false, nil
}

func (s *states) load() (b []byte, err error) {
	b, s.version, err = s.permanent.Load()
	if errors.Is(err, store.ErrDamaged) && s.dir.Single() && isLinearFile(s.dir.Path()) {
		err = fmt.Errorf("state file %s: %w", s.dir.Path(), errForeignFile)
	}
	return b, err
}

// errLone says that a volatile state is there without its permanent one, as after a
// take-over that was cut off: a new TPM could not go on from it.
var errLone = errors.New("it is the running state of a TPM that is not here: put that TPM's " + permanentName +
	" beside it, or take the TPM over again where a take-over was cut off; remove this file only to have a new TPM here")

// manufacture makes the state of a new TPM and keeps it.
func (s *states) manufacture(cfg tpm.Config, opt tpm.Options) ([]byte, error) {
	switch _, _, err := s.volatile.File.Load(); {
	case err == nil:
		return nil, fmt.Errorf("state file %s: %w", s.volatile.Path(), errLone)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	b, err := tpm.Manufacture(cfg, opt)
	if err != nil {
		return nil, err
	}
	return b, s.save(b)
}

// Profile is the profile of the TPM in a directory, or null where there is none. The
// key is nil for one in clear.
func Profile(dir *store.Dir, key *Key) (*tpm.Profile, error) {
	s := newStates(dir, key, tpm.Config{})
	defer s.close()
	b, err := s.load()
	if errors.Is(err, fs.ErrNotExist) {
		return s.foreignProfile()
	}
	if err != nil {
		return nil, err
	}
	defer clear(b)
	p, err := tpm.ProfileOf(b)
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w", s.permanent.Path(), err)
	}
	return p, nil
}

// Manufacture makes a new TPM in a directory whose lock the caller holds, encrypted
// where there is a key, and gives the path of its state. A state that is there
// already, of this program or of swtpm, is an error and stays as it is.
func Manufacture(dir *store.Dir, key *Key, cfg tpm.Config, opt tpm.Options) (path string, err error) {
	s := newStates(dir, key, cfg)
	defer s.close()
	if err := s.vacant(); err != nil {
		return "", err
	}
	foreign := filepath.Join(dir.Path(), foreignName)
	if _, err := os.Lstat(foreign); !dir.Single() && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is the state of a TPM of swtpm; it is left as it is: take it over, or choose another directory", foreign)
	}
	_, err = s.manufacture(cfg, opt)
	return s.permanent.Path(), err
}

// save makes a permanent state durable.
func (s *states) save(b []byte) error {
	v, err := s.permanent.Swap(s.version, b)
	if err == nil {
		s.version = v
	}
	return err
}

func (s *states) close() {
	s.permanent.Close()
	s.volatile.Close()
}

// StateInfo tells of one saved state.
type StateInfo struct {
	Name string `json:"name"` // "permall" or "volatile"
	Size int    `json:"size"` // in bytes, as it is kept
}

// States lists the saved states in a directory under the names that swtpm
// gives them; where there are none of ours, those that swtpm has left.
func States(dir *store.Dir) ([]StateInfo, error) {
	s := newStates(dir, nil, tpm.Config{})
	defer s.close()
	list := []StateInfo{}
	for _, f := range []struct {
		name string
		file *store.File
	}{{"permall", s.permanent.File}, {"volatile", s.volatile.File}} {
		b, _, err := f.file.Load()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, StateInfo{f.name, len(b)})
	}
	if len(list) == 0 {
		return s.foreignStates()
	}
	return list, nil
}
