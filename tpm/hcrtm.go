package tpm

type hashSequence struct{}
