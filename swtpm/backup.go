package swtpm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// copyTries bounds how often a state is read that changes meanwhile.
const copyTries = 200

// source opens the states at path to read them, a directory or the one file, which may
// be in use.
func source(path string, key *Key, cfg tpm.Config) (states, error) {
	info, err := os.Stat(path)
	if err != nil {
		return states{}, err
	}
	open := store.OpenDir
	if !info.IsDir() {
		open = OpenFile
	}
	dir, err := open(path, store.Options{})
	if err != nil {
		return states{}, err
	}
	return newStates(dir, key, cfg), nil
}

// pair reads the permanent state and the volatile one that is beside it, nil where there
// is none, of one moment, as they are in the files.
func (s *states) pair() (permanent, volatile []byte, err error) {
	for range copyTries {
		var before, after store.Version
		permanent, before, err = s.permanent.File.Load()
		if err == nil {
			if volatile, _, err = s.volatile.File.Load(); errors.Is(err, fs.ErrNotExist) {
				volatile, err = nil, nil
			}
		}
		if err == nil {
			_, after, err = s.permanent.File.Load()
		}
		switch {
		case err == nil && before == after, errors.Is(err, fs.ErrNotExist):
			return permanent, volatile, err
		case err != nil && !errors.Is(err, store.ErrDamaged): // it may be written just now
			return nil, nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err == nil {
		err = fmt.Errorf("state file %s changes too often to be copied: stop the machine", s.permanent.Path())
	}
	return nil, nil, err
}

// Backup copies the TPM at path, a directory or the one file, into a directory whose
// lock the caller holds and where there is none, and gives the path of the copy. The TPM
// may run meanwhile: the copy is of one moment, and all that was acknowledged before is
// in it. What is encrypted stays so; no key is needed.
func Backup(path string, to *store.Dir) (copied string, err error) {
	from, err := source(path, nil, tpm.Config{})
	if err != nil {
		return "", err
	}
	defer from.close()
	s := newStates(to, nil, tpm.Config{})
	defer s.close()
	if err := s.vacant(); err != nil {
		return "", err
	}
	permanent, volatile, err := from.pair()
	if err != nil {
		return "", err
	}
	defer clear(permanent)
	defer clear(volatile)
	if err := s.volatile.Remove(); err != nil {
		return "", err
	}
	if volatile != nil {
		if err := s.volatile.put(volatile); err != nil {
			return "", err
		}
	}
	return s.permanent.Path(), s.save(permanent)
}

// Restore puts a copy of a TPM, a directory or one file at path, in the place of what is
// left of that TPM in a directory whose lock the caller holds, both under the key where
// there is one. From then on the TPM shows in all that it attests that it was put back,
// unless what is there is no newer; reverted says which. A TPM that is there and is
// another one stays as it is.
func Restore(path string, to *store.Dir, key *Key, cfg tpm.Config) (restored string, reverted bool, err error) {
	from, err := source(path, key, cfg)
	if err != nil {
		return "", false, err
	}
	defer from.close()
	next, err := from.load()
	if err != nil {
		return "", false, err
	}
	defer clear(next)
	running, _, err := from.volatile.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	defer clear(running)
	s := newStates(to, key, cfg)
	defer s.close()
	last, err := s.load()
	defer clear(last)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrDamaged) {
		last, err = nil, nil
	}
	if err == nil && last != nil {
		var same bool
		if same, err = tpm.SameTPM(cfg, last, next); err == nil && !same {
			err = fmt.Errorf("%s is another TPM; it is left as it is: choose another directory", s.permanent.Path())
		}
	}
	if err != nil {
		return "", false, err
	}
	state, reverted, err := tpm.Follow(cfg, last, next)
	if err == nil {
		err = s.replace(state)
		clear(state)
	}
	if err == nil && running != nil {
		err = s.volatile.put(running)
	}
	return s.permanent.Path(), reverted, err
}
