package swtpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ashlar-cloud/ashlar/internal/seal"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// What is sealed. The numbers are part of the form.
const (
	sealedPermanent seal.Kind = 1
	sealedVolatile  seal.Kind = 2
	migrating       seal.Kind = 2 // more, under a migration key
)

var (
	// errNoKey says that a state is encrypted and no key was given.
	errNoKey = errors.New("it is encrypted: give the key or the passphrase that it is encrypted under (--key)")
	// errClear says that a key was given and a state is in clear: anybody may have put
	// it there, and what is secret in it has been on the disk. swtpm refuses it as well.
	errClear = errors.New("it is not encrypted, and a key was given: leave the key out, or encrypt it by 'ashlar tpm rekey'")
)

// stateFile is a state's file, encrypted where there is a key. Its File has what is
// on the disk.
type stateFile struct {
	*store.File
	kind   seal.Kind
	key    *Key // nil for a state in clear
	random io.Reader
}

// Load reads the state, which must be encrypted where there is a key, and only there.
func (f *stateFile) Load() ([]byte, store.Version, error) {
	b, v, err := f.File.Load()
	if err != nil {
		return nil, 0, err
	}
	if b, err = unseal(f.key, f.kind, b); err != nil {
		return nil, 0, fmt.Errorf("state file %s: %w", f.Path(), err)
	}
	return b, v, nil
}

func unseal(key *Key, kind seal.Kind, b []byte) ([]byte, error) {
	switch _, sealed := seal.Sealed(b); {
	case !sealed && key == nil:
		return b, nil
	case !sealed:
		return nil, errClear
	case key == nil:
		return nil, errNoKey
	}
	return key.seal.Open(kind, b)
}

// sealed is a state as it is written.
func (f *stateFile) sealed(state []byte) ([]byte, error) {
	if f.key == nil {
		return state, nil
	}
	return f.key.seal.Seal(f.random, f.kind, state)
}

// Swap is that of store.File.
func (f *stateFile) Swap(old store.Version, state []byte) (store.Version, error) {
	b, err := f.sealed(state)
	if err != nil {
		return 0, fmt.Errorf("state file %s: %w", f.Path(), err)
	}
	return f.File.Swap(old, b)
}

// put writes a state whatever is there now, as long as the file can be read.
func (f *stateFile) put(state []byte) error {
	now, v, err := f.File.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.replace(now, v, state)
}

// replace writes a state in the place of what File.Load has just given. Where a state
// in clear is followed by an encrypted one, nothing of it stays in the file.
func (f *stateFile) replace(now []byte, v store.Version, state []byte) error {
	if _, sealed := seal.Sealed(now); f.key == nil || sealed || v == 0 {
		_, err := f.Swap(v, state)
		return err
	}
	return f.renew(v, state)
}

// renew is that of store.File.
func (f *stateFile) renew(old store.Version, state []byte) error {
	b, err := f.sealed(state)
	if err != nil {
		return fmt.Errorf("state file %s: %w", f.Path(), err)
	}
	_, err = f.Renew(old, b)
	return err
}

// Rekey encrypts the TPM in a directory, whose lock the caller holds, under another
// key; either may be nil, for a state in clear. Nothing of the old state is left in the
// file, nor in a backup; a file system or a disk that writes elsewhere may keep copies. After an error
// the TPM is there as it was, or, where the disk failed at the very end, under the new
// key.
func Rekey(dir *store.Dir, cfg tpm.Config, from, to *Key) (path string, err error) {
	s := newStates(dir, from, cfg)
	defer s.close()
	b, err := s.load()
	if err != nil {
		return "", err
	}
	defer clear(b)
	if _, err := tpm.New(cfg, b); err != nil {
		return "", fmt.Errorf("state file %s: %w", s.permanent.Path(), err)
	}
	switch _, _, err := s.volatile.File.Load(); {
	case err == nil:
		return "", fmt.Errorf("%s says that the TPM is suspended: resume it and shut it down first", s.volatile.Path())
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	s.permanent.key = to
	s.permanent.KeepBackup()
	return s.permanent.Path(), s.permanent.renew(s.version, b)
}

// share lets a migration key that is the same as the key for files derive once what
// both need. It is nil where there is none.
func share(key, migration *Key) *Key {
	if key == nil || migration == nil || !key.seal.Same(migration.seal) {
		return migration
	}
	shared := *migration
	shared.seal = key.seal
	return &shared
}

// sealBlob makes of a state what GET_STATEBLOB gives: encrypted under the key for
// files where there is one and it was not asked for in clear, and that under the
// migration key where there is one.
func (h *Host) sealBlob(t BlobType, b []byte, decrypted bool) (_ []byte, encrypted bool, err error) {
	kind, random := seal.Kind(t), h.cfg.Engine.Entropy
	if encrypted = h.cfg.Key != nil && !decrypted; encrypted {
		if b, err = h.cfg.Key.seal.Seal(random, kind, b); err != nil {
			return nil, false, err
		}
	}
	if h.migration != nil {
		b, err = h.migration.seal.Seal(random, kind+migrating, b)
	}
	return b, encrypted, err
}

// openBlob gives the state in a blob, which is the caller's to wipe, and whether it is
// one of libtpms. encrypted says that it must be under the key for files. A blob in
// clear is taken although there are keys, as swtpm does, so that a TPM can move to where
// there are.
func (h *Host) openBlob(t BlobType, b []byte, encrypted bool) (state []byte, foreign bool, err error) {
	if isForeign(b) {
		if encrypted && h.cfg.Key == nil {
			return nil, true, errNoKey
		}
		state, err = decodeForeign(b, foreignOpener{file: h.cfg.Key, migration: h.migration, plain: !encrypted})
		return state, true, err
	}
	kind, wrapped := seal.Kind(t), false
	if k, ok := seal.Sealed(b); ok && k == kind+migrating {
		if h.migration == nil {
			return nil, false, errNoMigrationKey
		}
		if b, err = h.migration.seal.Open(k, b); err != nil {
			return nil, false, err
		}
		wrapped = true
	} else if h.migration != nil {
		h.log.Warn("the state that came in is not encrypted under the migration key", "type", uint32(t))
	}
	switch _, sealed := seal.Sealed(b); {
	case sealed:
		state, err = unseal(h.cfg.Key, kind, b)
	case encrypted:
		err = errClear
	case wrapped:
		return b, false, nil
	default:
		return bytes.Clone(b), false, nil
	}
	if wrapped {
		clear(b)
	}
	return state, false, err
}

// keyResult is the answer to a blob that did not open, or to one that did and makes no
// TPM.
func keyResult(err error) Result {
	switch {
	case errors.Is(err, errNoKey), errors.Is(err, errNoMigrationKey), errors.Is(err, errEncrypted):
		return KeyNotFound
	case errors.Is(err, seal.ErrKey), errors.Is(err, errWrongKey):
		return DecryptError
	case errors.Is(err, errKeyLength):
		return BadKeyProperty
	}
	return BadParameter
}
