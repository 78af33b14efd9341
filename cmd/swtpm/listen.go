package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// closeChannels closes all that is listened on, and so removes the sockets.
func closeChannels(s *swtpm.Server) {
	for _, l := range []net.Listener{s.Ctrl, s.Data, s.Sim, s.Platform} {
		if l != nil {
			l.Close()
		}
	}
}

// openCtrl opens the control channel.
func openCtrl(s *swtpm.Server, value string) error {
	p, err := parseParams("ctrl", value, "type", "path", "mode", "uid", "gid",
		"port", "bindaddr", "ifname", "fd", "clientfd", "terminate")
	if err != nil {
		return err
	}
	if s.EndWithCtrl, err = p.flag("terminate"); err != nil {
		return err
	}
	kind := p.str("type")
	switch {
	case kind != "unixio" && kind != "tcp":
		return fmt.Errorf("--ctrl needs type=unixio or type=tcp")
	case p.has("fd") && p.has("clientfd"):
		return fmt.Errorf("--ctrl takes fd or clientfd, not both")
	case p.has("clientfd") && kind == "tcp":
		return fmt.Errorf("--ctrl clientfd is for type=unixio")
	case p.has("clientfd"):
		s.CtrlConn, err = connFD(p, "clientfd")
	case p.has("fd"):
		s.Ctrl, err = listenFD(p, "fd")
	case kind == "unixio":
		s.Ctrl, err = listenUnix(p)
	default:
		s.Ctrl, err = listenTCP(p, 0)
	}
	return err
}

// openServer opens the data channel, or the simulator's two ports.
func openServer(s *swtpm.Server, value string) error {
	p, err := parseParams("server", value, "type", "path", "mode", "uid", "gid",
		"port", "bindaddr", "ifname", "fd", "disconnect")
	if err != nil {
		return err
	}
	if s.OneCommand, err = p.flag("disconnect"); err != nil {
		return err
	}
	switch kind := p.str("type"); {
	case p.has("fd") && (kind == "" || kind == "tcp" || kind == "unixio"):
		s.DataConn, err = connFD(p, "fd")
		s.EndWithData = true
	case kind == "tcp", kind == "":
		s.Data, err = listenTCP(p, 0)
	case kind == "unixio":
		s.Data, err = listenUnix(p)
	case kind == "mssim":
		if s.Sim, err = listenTCP(p, 0); err == nil {
			s.Platform, err = listenTCP(p, 1)
		}
	default:
		err = fmt.Errorf("--server type=%s is not tcp, unixio or mssim", kind)
	}
	return err
}

// listenTCP listens on port+offset of the loopback interface, or of the one
// given.
func listenTCP(p params, offset int) (net.Listener, error) {
	port, err := p.number("port", 65535-offset)
	if err != nil {
		return nil, err
	}
	if text := os.Getenv("TPM_PORT"); port < 0 && p.option == "server" && text != "" {
		p.values["port"] = text
		if port, err = p.number("port", 65535-offset); err != nil {
			return nil, err
		}
	}
	if port < 0 {
		return nil, fmt.Errorf("--%s type=tcp needs a port or a fd", p.option)
	}
	host, err := bindAddress(p)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+offset)))
	if err != nil {
		return nil, fmt.Errorf("--%s: port %d of %s cannot be listened on: %w", p.option, port+offset, host, reason(err))
	}
	return l, nil
}

// bindAddress reads the address to listen on. A link-local one is of an interface;
// for any other that does not count.
func bindAddress(p params) (string, error) {
	if !p.has("bindaddr") {
		return "127.0.0.1", nil
	}
	addr, err := netip.ParseAddr(p.str("bindaddr"))
	switch {
	case err != nil:
		return "", p.bad("bindaddr", "an IP address")
	case !addr.Is6() || !addr.IsLinkLocalUnicast():
		return addr.String(), nil
	case !p.has("ifname"):
		return "", fmt.Errorf("--%s: bindaddr=%s needs ifname=INTERFACE", p.option, addr)
	}
	if _, err := net.InterfaceByName(p.str("ifname")); err != nil {
		return "", p.bad("ifname", "a network interface")
	}
	return addr.WithZone(p.str("ifname")).String(), nil
}

// listenUnix listens on a path. A socket that a dead process left there goes;
// any other file stays, and is an error.
func listenUnix(p params) (net.Listener, error) {
	path := p.str("path")
	if path == "" {
		return nil, fmt.Errorf("--%s type=unixio needs a path or a fd", p.option)
	}
	mode, err := p.mode("mode", 0o770)
	if err != nil {
		return nil, err
	}
	uid, gid, err := owner(p)
	if err != nil {
		return nil, err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path)
	}
	old := syscall.Umask(0o777) // closed until its mode and owner are set
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("--%s: %s cannot be listened on: %w", p.option, path, reason(err))
	}
	if uid >= 0 || gid >= 0 {
		err = os.Lchown(path, uid, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("--%s: %w", p.option, err)
	}
	return l, nil
}

// owner reads uid and gid, by number or name; -1 leaves it.
func owner(p params) (uid, gid int, err error) {
	uid, gid = -1, -1
	if v := p.str("uid"); v != "" {
		if uid, err = strconv.Atoi(v); err != nil {
			u, err := user.Lookup(v)
			if err != nil {
				return 0, 0, p.bad("uid", "a user")
			}
			uid, _ = strconv.Atoi(u.Uid)
		}
	}
	if v := p.str("gid"); v != "" {
		if gid, err = strconv.Atoi(v); err != nil {
			g, err := user.LookupGroup(v)
			if err != nil {
				return 0, 0, p.bad("gid", "a group")
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}

// inherited gives an inherited descriptor as a file.
func inherited(p params, key string) (*os.File, error) {
	fd, err := p.number(key, 1<<20)
	if err != nil {
		return nil, err
	}
	if fd < 3 {
		return nil, p.bad(key, "a descriptor above those of standard input, output and error")
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd)), nil
}

func connFD(p params, key string) (net.Conn, error) {
	f, err := inherited(p, key)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, p.bad(key, "a connected stream socket")
	}
	return c, nil
}

func listenFD(p params, key string) (net.Listener, error) {
	f, err := inherited(p, key)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, p.bad(key, "a listening socket")
	}
	return l, nil
}

// reason leaves out what the message says already.
func reason(err error) error {
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}
