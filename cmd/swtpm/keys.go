package main

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// readKeys reads what --key and --migration-key name, nil where they are not given. It
// can be done once: a descriptor is closed then, and a file may be gone.
func readKeys(o *options) (file, migration *swtpm.Key, err error) {
	for _, key := range []struct {
		option, value string
		to            **swtpm.Key
	}{{"key", o.key, &file}, {"migration-key", o.migrationKey, &migration}} {
		if key.value == "" {
			continue
		}
		if *key.to, err = swtpm.ReadKey(key.value); err != nil {
			wipe(file, migration)
			return nil, nil, fmt.Errorf("--%s: %w", key.option, err)
		}
	}
	return file, migration, nil
}

func wipe(keys ...*swtpm.Key) {
	for _, k := range keys {
		k.Wipe()
	}
}
