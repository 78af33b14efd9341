package guest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// kernelMeta is the Debian package that depends on the newest kernel for virtual
// machines. That kernel has all the guest needs built in (TPM drivers, IMA, serial
// ports), so the initramfs carries no modules.
const kernelMeta = "linux-image-cloud-amd64"

// kernelMax limits the size of a kernel image taken from a package.
const kernelMax = 64 << 20

var kernelPackage = regexp.MustCompile(`linux-image-[0-9][0-9a-z.+-]*-cloud-amd64`)

// CacheDir gives the directory in which kernel packages are kept between runs:
// $XDG_CACHE_HOME/ashlar, or ~/.cache/ashlar.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep the guest's kernel package: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(dir, "ashlar"), nil
}

// Kernel is a kernel image taken from a Debian package that was never installed.
type Kernel struct {
	Package string // file name of the package, with its version
	Image   string // path of the unpacked vmlinuz
}

// FetchKernel downloads Debian's newest kernel package for virtual machines to the
// directory cache, unless it is there, and unpacks the kernel image from it. apt
// checks the package against the archive's signature. Without network the newest
// package that an earlier run left is taken.
func FetchKernel(ctx context.Context, cache string) (Kernel, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Kernel{}, err
	}
	downloadErr := downloadKernel(ctx, cache)
	deb, err := newestKernelPackage(cache)
	if err != nil {
		return Kernel{}, err
	}
	if deb == "" {
		return Kernel{}, fmt.Errorf("no kernel package for the guest: %w", downloadErr)
	}
	image := strings.TrimSuffix(deb, ".deb") + ".vmlinuz"
	if info, err := os.Stat(image); err == nil && info.Size() > 0 {
		return Kernel{filepath.Base(deb), image}, nil
	}
	if err := unpackKernel(ctx, deb, image); err != nil {
		return Kernel{}, err
	}
	return Kernel{filepath.Base(deb), image}, nil
}

// downloadKernel lets apt download the package into the cache, if it is not there.
func downloadKernel(ctx context.Context, cache string) error {
	name, err := kernelPackageName(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	// Downloading as root apt would drop to a user that cannot write here.
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name)
	cmd.Dir = cache
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", name, err, lastLine(out))
	}
	return nil
}

// kernelPackageName asks apt which kernel the meta package stands for.
func kernelPackageName(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("apt-cache"); err != nil {
		return "", errors.New("it comes from Debian's archive, and this machine has no apt")
	}
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", kernelMeta).Output()
	name := kernelPackage.Find(out)
	if err != nil || name == nil {
		return "", fmt.Errorf("apt does not know the package %s: run apt-get update", kernelMeta)
	}
	return string(name), nil
}

// newestKernelPackage gives the package in cache that was written last, or "".
func newestKernelPackage(cache string) (string, error) {
	found, err := filepath.Glob(filepath.Join(cache, "linux-image-*_amd64.deb"))
	if err != nil {
		return "", err
	}
	newest, at := "", time.Time{}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
	}
	return newest, nil
}

// unpackKernel writes the package's ./boot/vmlinuz-* to image.
func unpackKernel(ctx context.Context, deb, image string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the image comes early in the archive; the rest is not read
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	data, err := kernelFromTar(pipe)
	cancel()
	cmd.Wait() //nolint:errcheck // ended on purpose; what counts is what was read
	if err != nil {
		return fmt.Errorf("%s: %w; remove it and try again", deb, err)
	}
	// The name must stand only for a complete file.
	partial := image + ".partial"
	if err := os.WriteFile(partial, data, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, image)
}

func kernelFromTar(r io.Reader) ([]byte, error) {
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if err != nil {
			return nil, fmt.Errorf("no kernel image in the package: %w", err)
		}
		if !strings.HasPrefix(header.Name, "./boot/vmlinuz-") {
			continue
		}
		if header.Size > kernelMax {
			return nil, fmt.Errorf("the kernel image has %d bytes, more than %d", header.Size, kernelMax)
		}
		return io.ReadAll(archive)
	}
}

func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1])
}
