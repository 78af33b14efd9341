# make demo   boot a real VM on our TPM, appraise it, release its secret
# make test   every test, with what it needs installed first
# make test-libvirt   libvirt's life cycle on our swtpm, as root; SWTPM=debian for Debian's; half an hour
# make test-deb   the packages' tests on a Debian of their own, from its archive
# make bench  our swtpm beside Debian's, in one run
# make bench-verifier   appraisal beside the bare signature, and beside others
# make differential   N commands on ours and on Debian's swtpm, from SEED
# make conformance    the tests of canonical/go-tpm2 on ours and on Debian's
# make crash  crash the simulated disk after crashes too, at every operation
# make fuzz   every fuzz target, FUZZTIME each (5m)
# make forgeries   every bit of every kind of evidence flipped; make test flips one of a byte
# make test-vm  AppArmor, SELinux, Landlock and /dev/vtpmx on Debian 12 in a virtual
#             machine: 25 minutes where there is no kvm; root, 3 GB (PARTS=apparmor or selinux)
# make lint   gofmt, go vet, staticcheck
# make build  the binaries in bin/
# make deb    the Debian packages in bin/

GO ?= go
export GOTOOLCHAIN ?= local
MIN_GO := 1.26

# Where git does not trust the folder (another user's, under sudo), the Go tool
# cannot stamp the revision, and must not try.
ifneq ($(shell git status >/dev/null 2>&1 && echo trusted),trusted)
export GOFLAGS += -buildvcs=false
endif
FUZZTIME ?= 5m
TEST_PACKAGES := swtpm swtpm-tools tpm2-tools libtss2-tcti-swtpm0 libtss2-tcti-mssim0 \
	qemu-system-x86 qemu-utils ovmf busybox-static openssl xxd cpio \
	tpm2-abrmd libtss2-tcti-tabrmd0 dbus-daemon tss2 tpm2-openssl \
	libtpm2-pkcs11-1 libtpm2-pkcs11-tools opensc softhsm2 clevis-tpm2 clevis-luks cryptsetup-bin systemd \
	apparmor checkpolicy buildah lintian man-db

.PHONY: all build deb demo test test-vm bench bench-verifier differential conformance fuzz forgeries test-deb test-libvirt crash lint clean go-version
all: build

go-version:
	@command -v $(GO) >/dev/null || { echo "Ashlar needs Go $(MIN_GO) or newer, and there is no '$(GO)' on PATH: see https://go.dev/dl." >&2; exit 1; }
	@v=$$($(GO) env GOVERSION | sed 's/^go//; s/[^0-9.].*//'); \
	[ "$$(printf '%s\n%s\n' $(MIN_GO) "$$v" | sort -V | head -n 1)" = "$(MIN_GO)" ] || \
	{ echo "Ashlar needs Go $(MIN_GO) or newer, and this is $$v: see https://go.dev/dl." >&2; exit 1; }

build: go-version
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...
	ln -sf swtpm bin/swtpm_ioctl
	ln -sf swtpm bin/swtpm_bios
	for name in swtpm_cert swtpm_localca; do ln -sf swtpm_setup bin/$$name; done

deb: go-version
	GO="$(GO)" packaging/deb/build bin

demo: build
	bin/ashlar demo $(if $(YES),--yes) $(if $(JSON),--json-file $(JSON))

test: go-version
	@packaging/need $(TEST_PACKAGES) || true
	$(MAKE) lint
	$(GO) test -v -timeout 20m ./... 2>&1 | packaging/testlog
	CGO_ENABLED=0 $(GO) test ./internal/confine # as packaged: with cgo no process can be confined
	@if command -v gcc >/dev/null; then \
		CGO_ENABLED=1 $(GO) test -race -run '^TestDefectHurtsNoOther' ./tpm ./swtpm; \
	else echo "not run for lack of gcc: TPMs side by side under the race detector"; fi

LIBVIRT_PACKAGES := libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils ovmf busybox-static \
	swtpm swtpm-tools bindfs iproute2
RUN ?= .
test-libvirt: build
	@packaging/need $(LIBVIRT_PACKAGES)
	$(GO) test -v -count=1 -timeout 120m $(if $(filter-out 0,$(shell id -u)),-exec 'sudo -E') -run '$(RUN)' \
		./cmd/ashlar/internal/libvirt -libvirt $(abspath bin) $(if $(filter debian,$(SWTPM)),-libvirt.debian)

# A path without a mount below it: what makes the Debian may mount there.
DEB_SUITE ?= bookworm
test-deb: go-version
	@packaging/need mmdebstrap lintian
	dir=$$(mktemp -d) && trap 'rm -rf --one-file-system "$$dir"' EXIT && \
	mmdebstrap --quiet --variant=apt --include=swtpm,swtpm-tools,man-db,adduser $(DEB_SUITE) "$$dir/root" && \
	ASHLAR_DEB_ROOT="$$dir/root" $(GO) test -v -count=1 ./packaging/deb

bench: build
	@packaging/need swtpm
	$(GO) test -run '^$$' -bench . -benchtime 1x ./cmd/swtpm ./cmd/swtpm_setup

bench-verifier: go-version
	$(GO) -C bench test -v -count=1 .
	GOMAXPROCS=1 $(GO) -C bench test -run '^$$' -bench . -benchtime 2s .
	GOMAXPROCS=1 $(GO) test -run '^$$' -bench . -benchtime 2s ./verifier/scheme/...

fuzz: go-version
	GO="$(GO)" FUZZTIME=$(FUZZTIME) packaging/fuzz

crash: go-version
	$(GO) test -v -count=1 -timeout 0 -run 'Crash|Fault|Anywhere' ./internal/store ./swtpm -crash.deep

N ?= 10000000
SEED ?= 1
JOBS ?= 2
REPORT ?= differential.txt
differential: go-version
	@packaging/need swtpm
	$(GO) test ./tpm -v -run '^TestDifferential$$' -timeout 0 -differential.seed $(SEED) -differential.n $(N) \
		-differential.jobs $(JOBS) -differential.report $(abspath $(REPORT))

conformance: go-version
	@packaging/need swtpm || true
	$(GO) -C conformance test -v -count=1 -timeout 20m .

forgeries: go-version
	ASHLAR_FORGERIES=all $(GO) test -v -run EveryBit -timeout 60m ./verifier/scheme/...

test-vm: go-version
	GO="$(GO)" packaging/vm/run $(PARTS)

lint: go-version
	@out=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); [ -z "$$out" ] || { echo "gofmt wants: $$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

clean:
	rm -rf bin differential.txt demo.html demo.json demo-out
