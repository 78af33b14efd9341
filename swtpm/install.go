package swtpm

import (
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// Install puts the state of a TPM that has no power into a directory whose lock
// the caller holds, or into one file, encrypted where there is a key, in the place of
// any TPM that is there, of this program or of swtpm, and gives its path. It is for who
// was asked to overwrite: a state that is damaged, or encrypted under another key, goes
// too, and a backup. Until the new state is durable, the permanent state from before is
// the one that counts; after an error it still is.
func Install(dir *store.Dir, key *Key, cfg tpm.Config, permanent []byte) (path string, err error) {
	s := newStates(dir, key, cfg)
	defer s.close()
	if err := s.replace(permanent); err != nil {
		return "", err
	}
	if err := dir.Erase(permanentName+".damaged", foreignVolatileName, foreignName); err != nil {
		return "", fmt.Errorf("the new TPM is there, but not all of the one before is gone: %w", err)
	}
	return s.permanent.Path(), nil
}

// replace puts a permanent state in the place of any, damaged or not. Neither a running
// state nor a backup of before must meet it.
func (s *states) replace(permanent []byte) error {
	if err := s.volatile.Remove(); err != nil {
		return err
	}
	if err := s.dir.Erase(permanentName + ".bak"); err != nil {
		return err
	}
	if _, _, err := s.permanent.File.Load(); errors.Is(err, store.ErrDamaged) {
		if err := s.permanent.Remove(); err != nil {
			return err
		}
	}
	return s.permanent.put(permanent)
}
