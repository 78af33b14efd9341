//go:build !linux

package main

import (
	"errors"
	"os"
)

func newProxy() (*os.File, error) {
	return nil, errors.New("--vtpm-proxy: only Linux has it")
}
