# make            builds atomwrite; ARCH=aarch64 for another machine
# make install    installs what was built; PREFIX (/usr/local) and DESTDIR as usual
# make deb        makes a Debian package of it, in target/; for ARCH, too
# make rpm        makes an RPM package, in the same way
# make arch       makes an Arch Linux package
# make dist       makes a tarball with an install script
# make check-package    tries all of them out, as root; packaging/README.md says how
# make test       installs what the tests need (Debian packages), and runs them all
# make lint       the other checks that a commit must pass
# make torture    tries to break the promise, as root, for half an hour; TORTURE=--short for eleven minutes, and as any
#                 user TORTURE='--short failure death'
# make machines   tests it on NFS, SMB and other filesystems, and cuts the power, in virtual machines, as root;
#                 MACHINES=--short for ten minutes
# make bench      measures side by side with other programs; BENCH=quick only tries it, BENCH=draw draws again
# make recording  records the README's terminal anew

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

# x86_64, aarch64 or armv7. What is built for another machine is not mixed up with this one's.
HOST := $(shell uname -m)
ARCH ?= $(HOST)
ABI := gnu$(if $(filter armv7,$(ARCH)),eabihf)
TRIPLE := $(ARCH)-unknown-linux-$(ABI)

# The directory in which cargo builds, unless the environment names another.
CARGO_TARGET_DIR ?= target
BINARY = $(CARGO_TARGET_DIR)/$(if $(filter $(HOST),$(ARCH)),,$(ARCH)/)atomwrite

# One static binary: a small write is mostly start-up, and the loader would be half of that. It needs the C library's
# static archive, as Debian's libc6-dev has it; `make STATIC=` links as plain cargo does.
STATIC ?= -C target-feature=+crt-static -C relocation-model=static

# Panic messages name the crates' files; two machines keep them in different places.
REMAP = --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo

# Where $XDG_DATA_DIRS is not set, fish looks below its own prefix only; then /usr/share or /etc/fish/completions it is.
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d
PLACES = DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' FISH_COMPLETIONS='$(FISH_COMPLETIONS)'

SCRIPTS = .ci/* tests/*.sh packaging/*.sh packaging/arch/PKGBUILD packaging/check/*.sh torture/machines/guest/*

.PHONY: build
ifeq ($(ARCH),$(HOST))
build:
	host=$$(rustc -vV | sed -n 's/^host: //p') && \
	RUSTFLAGS="$(STATIC) $(REMAP) $$RUSTFLAGS" $(CARGO) build --release --locked --target "$$host" && \
	install '$(CARGO_TARGET_DIR)/'"$$host"'/release/atomwrite' '$(BINARY)'
else
# With the target that rustup has installed or, where it has none, with Debian's compiler.
build:
	if [ -d "$$(rustc --print sysroot)/lib/rustlib/$(TRIPLE)/lib" ]; then \
	    cargo='$(CARGO)' built='$(CARGO_TARGET_DIR)'; \
	else \
	    cargo=packaging/cross.sh built='$(CARGO_TARGET_DIR)/cross/build'; \
	fi && \
	RUSTFLAGS="$(STATIC) $(REMAP) $$RUSTFLAGS" $$cargo build --release --locked --target '$(TRIPLE)' \
	    --config "target.$(TRIPLE).linker='$(ARCH:armv7=arm)-linux-$(ABI)-gcc'" && \
	install -D "$$built/$(TRIPLE)/release/atomwrite" '$(BINARY)'
endif

.PHONY: test
test:
	tests/setup.sh
	$(CARGO) test --locked

.PHONY: lint
lint:
	tests/setup.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTFLAGS='--cfg atomwrite_posix' CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)/posix' \
	    $(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	mandoc -T lint man/atomwrite.1
	shellcheck $(SCRIPTS)

# torture/README.md says what each part does, and how to choose.
.PHONY: torture
torture: build
	tests/setup.sh torture
	TORTURE_PROGRAM='$(BINARY)' $(CARGO) run --locked -q -p atomwrite-torture -- $(TORTURE)

# As root. torture/machines/README.md says what is tried, and how to choose.
.PHONY: machines
machines: build
	tests/setup.sh machines
	MACHINES_PROGRAM='$(BINARY)' $(CARGO) run --locked -q -p atomwrite-machines -- $(MACHINES)

# As root also many files, btrfs and xfs. benches/README.md says what is measured, and how to choose.
.PHONY: bench
bench: build
	tests/setup.sh bench
	BENCH_PROGRAM='$(BINARY)' $(CARGO) bench --locked --profile dev --bench peers -- $(WORK)

# Types docs/recording/scenario into a terminal, and draws what the terminal shows.
.PHONY: recording
recording: build
	tests/setup.sh recording
	RECORDING_PROGRAM='$(BINARY)' docs/recording/record.py

.PHONY: deb
deb: deb-needs build
	packaging/deb.sh '$(BINARY)' '$(TRIPLE)' '$(CARGO_TARGET_DIR)'

.PHONY: rpm
rpm: rpm-needs build
	packaging/rpm.sh '$(BINARY)' '$(TRIPLE)' '$(CARGO_TARGET_DIR)'

.PHONY: arch
arch: arch-needs build
	packaging/arch.sh '$(BINARY)' '$(TRIPLE)' '$(CARGO_TARGET_DIR)'

.PHONY: dist
dist: dist-needs build
	packaging/dist.sh '$(BINARY)' '$(TRIPLE)' '$(CARGO_TARGET_DIR)'

.PHONY: deb-needs
deb-needs:
	@packaging/needs.sh xz:xz-utils dpkg-deb:dpkg
	@packaging/cargo-deb.sh '$(CARGO_TARGET_DIR)' >/dev/null

.PHONY: rpm-needs
rpm-needs:
	@packaging/needs.sh rpmbuild:rpm gzip:gzip

.PHONY: arch-needs
arch-needs:
	@packaging/needs.sh makepkg:makepkg fakeroot:fakeroot bsdtar:libarchive-tools zstd:zstd

.PHONY: dist-needs
dist-needs:
	@packaging/needs.sh tar:tar gzip:gzip

# What is missing is reported before the build, not after it.
build: $(patsubst %,%-needs,$(filter deb rpm arch dist,$(MAKECMDGOALS)))

.PHONY: check-package
check-package:
	tests/setup.sh package
	$(MAKE) deb rpm arch dist ARCH=x86_64
	$(MAKE) deb rpm arch dist ARCH=aarch64
	$(MAKE) deb dist ARCH=armv7
	packaging/check/deb.sh
	packaging/check/rpm.sh
	packaging/check/arch.sh
	packaging/check/dist.sh
	packaging/check/emulated.sh aarch64
	packaging/check/emulated.sh armv7
	packaging/check/reproducible.sh x86_64

# Does not build: often root installs, who may have no cargo and should leave no files in the tree.
.PHONY: install
install:
	@test -x '$(BINARY)' || { \
	    echo "make install: nothing is built in $(CARGO_TARGET_DIR); run 'make' first" >&2; exit 1; }
	$(PLACES) BINARY='$(BINARY)' packaging/install.sh

.PHONY: uninstall
uninstall:
	$(PLACES) packaging/install.sh --uninstall

.PHONY: clean
clean:
	$(CARGO) clean
