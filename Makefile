# A thin layer over the CMake presets: `make help` lists what it does. The work is in CMakeLists.txt and scripts/.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
DESTDIR ?=
ARGS ?=
# SETUP=no leaves out the look for missing packages.
SETUP ?= yes

RELEASE := build/release
PROGRAM := $(RELEASE)/zamba
setup = @if [ "$(SETUP)" != no ]; then sh scripts/setup.sh $(1) --quiet; fi

.DEFAULT_GOAL := build
.PHONY: build help run test check asan-ubsan tsan bench train-default page fuzz format lint install uninstall clean

build: ## build the program and the libraries: build/release/zamba (the default)
	$(call setup,build)
	@sh scripts/build.sh release --jobs $(JOBS) zamba_program zamba zamba_static zamba_manual

# Without ARGS nothing is read from standard input, which in a script may be a pipe that nobody closes.
run: build ## build, then run the default model; ARGS="..." are the program's arguments after `run`
	@$(PROGRAM) run $(ARGS) $(if $(strip $(ARGS)),,</dev/null)

test: ## build everything and run the test suite
	$(call setup,test)
	@sh scripts/suite.sh release --jobs $(JOBS)

asan-ubsan: ## the test suite under the address and undefined-behaviour sanitizers
	$(call setup,test)
	@sh scripts/suite.sh asan-ubsan --jobs $(JOBS)

tsan: ## the tests of threaded code under the thread sanitizer
	$(call setup,test)
	@sh scripts/suite.sh tsan --jobs $(JOBS) -L threads

lint: ## house rules that a script can check, and the format
	$(call setup,ci)
	@sh scripts/build.sh release --jobs $(JOBS) zamba zamba_static
	@python3 scripts/lint.py --build $(RELEASE)
	@sh scripts/format.sh --check

check: ## test, asan-ubsan and lint
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory asan-ubsan
	@$(MAKE) --no-print-directory lint

bench: ## zamba beside llama.cpp and transformers: the table of docs/SPEED.md (hours; see bench/rivals.py --help for ARGS)
	$(call setup,build)
	@python3 bench/rivals.py $(ARGS)

train-default: build ## make the default model anew from DATA=folder (hours; goes on where it was stopped): models/README.md
	@sh scripts/train_default.sh "$(DATA)"

page: ## the page, built anew from web/ (Node 20); what is built is committed, the program needs no Node
	@cd web && npm install --no-save --no-audit --no-fund && npm run build

fuzz: ## a minute of fuzzing for every parser (needs clang); SECONDS=n for another time each
	$(call setup,ci)
	@sh scripts/fuzz.sh $(or $(SECONDS),60)

format: ## clang-format over every C file
	$(call setup,ci)
	@sh scripts/format.sh

install: build ## install to PREFIX (/usr/local), below DESTDIR if given
	@DESTDIR="$(DESTDIR)" cmake --install $(RELEASE) --prefix "$(PREFIX)"
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi

uninstall: ## remove what the last `make install` wrote
	@sh scripts/uninstall.sh $(RELEASE)/install_manifest.txt "$(DESTDIR)"

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo 'Variables: PREFIX, DESTDIR, JOBS, ARGS="...", SETUP=no (do not look for missing packages).'
