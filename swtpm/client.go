package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// clientPatience is the time that a Client waits for an answer, as swtpm_ioctl
// does: the TPM may be busy with a key.
const clientPatience = 20 * time.Second

// Client is the other end of a control channel, of this package's or of swtpm's.
type Client struct {
	conn net.Conn
}

// NewClient makes a client of a connection, which stays the caller's to close.
func NewClient(conn net.Conn) *Client { return &Client{conn} }

// RefusedError is a control command's answer that is not OK.
type RefusedError struct {
	Command string // as swtpm's header calls it, such as "PTM_INIT"
	Result  Result
}

// Error words it as swtpm_ioctl does, for those who parse that.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("TPM result from %s: 0x%x", e.Command, uint32(e.Result))
}

// LostError says that a control command could not be sent, or had no answer.
type LostError struct {
	Command string
	Err     error
}

// Error words it as swtpm_ioctl does.
func (e *LostError) Error() string {
	return fmt.Sprintf("Could not execute %s: %v", e.Command, e.Err)
}

// Unwrap gives the cause.
func (e *LostError) Unwrap() error { return e.Err }

// clientNames are the commands' names in swtpm's header.
var clientNames = map[uint32]string{
	cmdGetCapability: "PTM_GET_CAPABILITY", cmdInit: "PTM_INIT", cmdShutdown: "PTM_SHUTDOWN",
	cmdGetEstablished: "PTM_GET_TPMESTABLISHED", cmdSetLocality: "PTM_SET_LOCALITY",
	cmdHashStart: "PTM_HASH_START", cmdHashData: "PTM_HASH_DATA", cmdHashEnd: "PTM_HASH_END",
	cmdCancel: "PTM_CANCEL_TPM_CMD", cmdStoreVolatile: "PTM_STORE_VOLATILE",
	cmdResetEstablished: "PTM_RESET_TPMESTABLISHED", cmdGetStateBlob: "PTM_GET_STATEBLOB",
	cmdSetStateBlob: "PTM_SET_STATEBLOB", cmdStop: "PTM_STOP", cmdGetConfig: "PTM_GET_CONFIG",
	cmdSetBufferSize: "PTM_SET_BUFFERSIZE", cmdGetInfo: "PTM_GET_INFO", cmdLockStorage: "PTM_LOCK_STORAGE",
}

// ask sends one command and gives n bytes that follow the result.
func (c *Client) ask(cmd uint32, request []byte, n int) ([]byte, error) {
	msg := append(binary.BigEndian.AppendUint32(nil, cmd), request...)
	if _, err := c.conn.Write(msg); err != nil {
		return nil, &LostError{clientNames[cmd], err}
	}
	return c.answer(cmd, n, clientPatience)
}

func (c *Client) answer(cmd uint32, n int, patience time.Duration) ([]byte, error) {
	b := make([]byte, 4+n)
	err := c.conn.SetReadDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = io.ReadFull(c.conn, b[:4])
	}
	if err == nil && word(b) != uint32(OK) {
		return nil, &RefusedError{clientNames[cmd], Result(word(b))}
	}
	if err == nil {
		_, err = io.ReadFull(c.conn, b[4:])
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the TPM ended the connection")
	}
	if err != nil {
		return nil, &LostError{clientNames[cmd], err}
	}
	return b[4:], nil
}

func (c *Client) do(cmd uint32, request ...byte) error {
	_, err := c.ask(cmd, request, 0)
	return err
}

func (c *Client) word(cmd uint32) (uint32, error) {
	b, err := c.ask(cmd, nil, 4)
	if err != nil {
		return 0, err
	}
	return word(b), nil
}

// Capabilities gives the word that says which commands there are; see
// [Capabilities].
func (c *Client) Capabilities() (uint32, error) { return c.word(cmdGetCapability) }

// Init powers the TPM on, from its volatile state where there is one, which is
// deleted then if so asked.
func (c *Client) Init(deleteVolatile bool) error {
	var flags byte
	if deleteVolatile {
		flags = initDeleteVolatile
	}
	return c.do(cmdInit, 0, 0, 0, flags)
}

// Stop powers the TPM off.
func (c *Client) Stop() error { return c.do(cmdStop) }

// Shutdown powers the TPM off and ends its process.
func (c *Client) Shutdown() error { return c.do(cmdShutdown) }

// Established gives the TPM_ESTABLISHED bit.
func (c *Client) Established() (bool, error) {
	b, err := c.ask(cmdGetEstablished, nil, 4)
	return err == nil && b[0] != 0, err
}

// ResetEstablished clears the TPM_ESTABLISHED bit.
func (c *Client) ResetEstablished(locality uint8) error {
	return c.do(cmdResetEstablished, locality, 0, 0, 0)
}

// SetLocality sets the locality of the commands that follow on the data channel.
func (c *Client) SetLocality(locality uint8) error {
	return c.do(cmdSetLocality, locality, 0, 0, 0)
}

// Cancel asks the running command to end.
func (c *Client) Cancel() error { return c.do(cmdCancel) }

// StoreVolatile has the running state saved beside the permanent one.
func (c *Client) StoreVolatile() error { return c.do(cmdStoreVolatile) }

// Hash measures all of r as the platform does.
func (c *Client) Hash(r io.Reader) error {
	if err := c.do(cmdHashStart); err != nil {
		return err
	}
	buf := make([]byte, 4+4096)
	for {
		n, err := io.ReadFull(r, buf[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			if err := c.do(cmdHashData, buf[:4+n]...); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return c.do(cmdHashEnd)
		case err != nil:
			return err
		}
	}
}

// StateBlob gives a state of the running TPM, empty where there is no such one.
func (c *Client) StateBlob(t BlobType) ([]byte, error) {
	req := binary.BigEndian.AppendUint32(nil, stateDecrypted)
	req = binary.BigEndian.AppendUint32(req, uint32(t))
	b, err := c.ask(cmdGetStateBlob, append(req, 0, 0, 0, 0), 12)
	var refused *RefusedError
	if errors.As(err, &refused) {
		if refused.Result&Retry == 0 {
			return nil, err
		}
		_, err = io.ReadFull(c.conn, make([]byte, 12))
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	n := word(b[8:])
	if n > MaxBlob {
		return nil, &LostError{clientNames[cmdGetStateBlob], fmt.Errorf("a state of %d bytes: %w", n, errTooLong)}
	}
	blob := make([]byte, n)
	if _, err := io.ReadFull(c.conn, blob); err != nil {
		return nil, &LostError{clientNames[cmdGetStateBlob], err}
	}
	return blob, nil
}

// SetStateBlob gives a state to a TPM that is off, for the next Init.
func (c *Client) SetStateBlob(t BlobType, blob []byte) error {
	head := binary.BigEndian.AppendUint32(nil, cmdSetStateBlob)
	for _, w := range []uint32{0, uint32(t), uint32(len(blob))} {
		head = binary.BigEndian.AppendUint32(head, w)
	}
	// The head comes alone: swtpm 0.7 takes a message for all of it.
	for _, part := range [][]byte{head, blob} {
		if _, err := c.conn.Write(part); err != nil {
			return &LostError{clientNames[cmdSetStateBlob], err}
		}
	}
	_, err := c.answer(cmdSetStateBlob, 0, clientPatience)
	return err
}

// Config tells which keys are in use: 1 for the state, 2 for migration.
func (c *Client) Config() (uint32, error) { return c.word(cmdGetConfig) }

// BufferSize sets the size of the buffers in bytes, unless n is 0, and gives what
// is in force and its limits.
func (c *Client) BufferSize(n uint32) (size, least, most uint32, err error) {
	b, err := c.ask(cmdSetBufferSize, binary.BigEndian.AppendUint32(nil, n), 12)
	if err != nil {
		return 0, 0, 0, err
	}
	return word(b), word(b[4:]), word(b[8:]), nil
}

// Info gives what [Info] makes of the flags, as the TPM says it.
func (c *Client) Info(flags uint64) ([]byte, error) {
	var text []byte
	for {
		req := binary.BigEndian.AppendUint64(nil, flags)
		req = binary.BigEndian.AppendUint32(req, uint32(len(text)))
		b, err := c.ask(cmdGetInfo, append(req, 0, 0, 0, 0), 8)
		if err != nil {
			return nil, err
		}
		total, n := word(b), word(b[4:])
		if n == 0 || n > 4096 || total > MaxBlob {
			return nil, &LostError{clientNames[cmdGetInfo], errTooLong}
		}
		part := make([]byte, n)
		if _, err := io.ReadFull(c.conn, part); err != nil {
			return nil, &LostError{clientNames[cmdGetInfo], err}
		}
		if text = append(text, part...); len(text) >= int(total) {
			return text[:len(text)-1], nil // without the zero at its end
		}
	}
}

// LockStorage has the lock on the state taken, with as many tries more, 10 ms
// apart.
func (c *Client) LockStorage(retries uint32) error {
	msg := binary.BigEndian.AppendUint32(nil, cmdLockStorage)
	if _, err := c.conn.Write(binary.BigEndian.AppendUint32(msg, retries)); err != nil {
		return &LostError{clientNames[cmdLockStorage], err}
	}
	wait := time.Duration(min(retries, maxLockTries)) * lockPause
	_, err := c.answer(cmdLockStorage, 0, clientPatience+wait)
	return err
}
