# SPDX-License-Identifier: Apache-2.0
# Weft: one Makefile, out of tree. `make help` lists the targets.
# Sources are found by wildcard: a new file needs no line here.

SAN     ?=
DEBUG   ?=
V       ?=
WERROR  ?= 1
CC      ?= cc
CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PREFIX  ?= /usr/local
DESTDIR ?=
PYTHON  ?= /usr/bin/python3

# One folder a variant, so that variants never mix objects.
variant := $(if $(filter asan fuzz,$(SAN)),$(SAN),$(if $(filter tsan,$(SAN)),tsan,$(if $(DEBUG),debug,plain)))
B       := build/$(variant)
GEN     := build/gen
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

VERSION := $(shell cat VERSION)

warn     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wformat=2 -Werror=format-security \
            -Wno-unused-parameter -Wno-missing-field-initializers $(if $(WERROR),-Werror)
opt_plain := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
opt_debug := -O0
opt_asan  := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
opt_fuzz  := $(opt_asan) -fsanitize=fuzzer-no-link
opt_tsan  := -O1 -fsanitize=thread -fno-omit-frame-pointer
# Control flow: landing pads for indirect jumps, where the processor knows them (gcc 12 and clang 14 take these flags both).
cf_x86_64  := -fcf-protection=full
cf_aarch64 := -mbranch-protection=standard
harden   := -fstack-protector-strong -fstack-clash-protection $(cf_$(shell uname -m)) -fno-strict-aliasing -fno-strict-overflow \
            -fno-delete-null-pointer-checks -fPIE
all_cflags = -std=c11 -D_GNU_SOURCE -DWEFT_VERSION='"$(VERSION)"' -g $(opt_$(variant)) $(harden) $(warn) -I. -I$(GEN) $(CFLAGS)
all_ldflags := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed $(filter -fsanitize=%,$(opt_$(variant))) $(LDFLAGS)

# What each program may link; `make lint` checks the built programs against it.
libs_base    := -lssl -lcrypto -lnghttp2 -lev -lprotobuf-c -ljansson
libs_proxy   := $(libs_base) -lpthread
libs_control := $(libs_base) -lsqlite3 -lyaml -lpthread
libs_bpf     := -lbpf -lelf -lz -ljansson

protos   := $(wildcard lib/proto/*.proto)
pb_src   := $(protos:%.proto=$(GEN)/%.pb-c.c)
pb_hdr   := $(protos:%.proto=$(GEN)/%.pb-c.h)

src_lib     := $(wildcard lib/*.c lib/http/*.c)
src_certs   := $(wildcard certs/*.c)
# A file named main_*.c holds a program's main() and stays out of the libraries, so that tests link what ships.
src_proxy   := $(filter-out proxy/main_%.c,$(wildcard proxy/*.c proxy/*/*.c))
src_control := $(filter-out control/main_%.c,$(wildcard control/*.c control/*/*.c))
src_capture := $(filter-out bpf/main_%.c,$(filter-out %.bpf.c,$(wildcard bpf/*.c)))
src_bpf     := $(wildcard bpf/*.bpf.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
obj_pb := $(patsubst $(GEN)/%.c,$(B)/gen/%.o,$(pb_src))

mains    := $(wildcard proxy/main_*.c control/main_*.c bpf/main_*.c)
programs :=
programs += $(if $(and $(wildcard proxy/main_proxy.c),$(wildcard proxy/link*.c),$(wildcard lib/grpc.c),$(wildcard lib/http/server.c)),$(B)/bin/weft-proxy)
programs += $(if $(wildcard control/main_weftd.c),$(B)/bin/weftd)
programs += $(if $(wildcard control/main_weft.c),$(B)/bin/weft)
programs += $(if $(wildcard bpf/main_capture.c),$(B)/bin/weft-capture)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all help deps test unit integ lint format docs e2e-api e2e-h2spec e2e-grpc-go e2e-tsan e2e-scale e2e-origins e2e-kernel idle stall demo bench floods chaos soak fuzz fuzz-replay install uninstall clean compile_commands.json

all: $(programs) ## build the four programs into build/plain/bin (SAN=asan, SAN=tsan, DEBUG=1: other variants)

help: ## this list
	@grep -hE '^[a-z0-9_.-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 24

# --- flags stamp: everything is rebuilt when the command line changes ---
stamp := $(B)/flags
$(shell mkdir -p $(B); printf '%s\n' '$(subst ','\'',$(CC) $(all_cflags) $(all_ldflags))' | cmp -s - $(stamp) || \
        printf '%s\n' '$(subst ','\'',$(CC) $(all_cflags) $(all_ldflags))' > $(stamp))

# --- protobuf ---
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: %.proto
	$(call say,PROTOC,$<)
	$(Q)mkdir -p $(GEN) && protoc-c --proto_path=. --c_out=$(GEN) $<

# --- objects ---
$(B)/obj/%.o: %.c $(stamp) | $(pb_hdr)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(all_cflags) -MMD -MP -c -o $@ $<

# A suite's only exported function is named by the generated table.
$(B)/obj/tests/%.o: all_cflags += -Wno-missing-prototypes

$(B)/gen/%.o: $(GEN)/%.c $(stamp)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(filter-out -Werror,$(all_cflags)) -MMD -MP -c -o $@ $<

define archive
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)
endef

$(B)/libweft.a: $(call obj,$(src_lib) $(src_certs)) $(obj_pb)
	$(archive)
$(B)/libproxy.a: $(call obj,$(src_proxy))
	$(archive)
$(B)/libcontrol.a: $(call obj,$(src_control))
	$(archive)

# --- eBPF: each program file an object, linked into one, skeleton for the loader ---
$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(stamp)
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D) && $(CLANG) -O2 -g -target bpf -D__TARGET_ARCH_x86 -Wall -Werror -I. \
	    -idirafter /usr/include/$(shell $(CC) -print-multiarch) $(BPFFLAGS) -MMD -MP -c -o $@ $<
$(B)/bpf/weft.o: $(patsubst bpf/%.bpf.c,$(B)/bpf/%.bpf.o,$(src_bpf))
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $^
$(B)/bpf/weft.skel.h: $(B)/bpf/weft.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name weft_bpf > $@
$(B)/obj/bpf/%.o: bpf/%.c $(stamp) $(B)/bpf/weft.skel.h
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(all_cflags) -I$(B) -MMD -MP -c -o $@ $<

# --- programs ---
define link
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(all_ldflags) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1)
endef

$(B)/bin/weft-proxy: $(call obj,proxy/main_proxy.c) $(B)/libproxy.a $(B)/libweft.a
	$(call link,$(libs_proxy))
$(B)/bin/weftd: $(call obj,control/main_weftd.c) $(B)/libcontrol.a $(B)/libweft.a
	$(call link,$(libs_control))
$(B)/bin/weft: $(call obj,control/main_weft.c) $(B)/libcontrol.a $(B)/libweft.a
	$(call link,$(libs_control))
$(B)/bin/weft-capture: $(call obj,bpf/main_capture.c $(src_capture)) $(B)/libweft.a
	$(call link,$(libs_bpf) -lssl -lcrypto -lev)

# --- unit tests: one Check runner; a suite is one file (tests/unit/*/X_test.c) ---
src_unit := $(wildcard tests/unit/*.c tests/unit/*/*.c)
suites   := $(patsubst %_test,%,$(basename $(notdir $(filter %_test.c,$(src_unit)))))
$(shell mkdir -p $(GEN); printf 'SUITE(%s)\n' $(suites) | grep -v '()' | cmp -s - $(GEN)/suites.tbl.h || \
        printf 'SUITE(%s)\n' $(suites) | grep -v '()' > $(GEN)/suites.tbl.h)
$(B)/bin/unit: $(call obj,$(src_unit)) $(B)/libproxy.a $(B)/libcontrol.a $(B)/libweft.a
	$(call link,$(libs_control) -lcheck -lsubunit -lrt -lm)

unit: ## unit tests (SAN=asan is what `make test` runs)
	$(Q)$(MAKE) --no-print-directory SAN=$(or $(SAN),asan) build/$(or $(SAN),asan)/bin/unit
	$(Q)build/$(or $(SAN),asan)/bin/unit $(SUITE)

# --- fuzz: tests/fuzz/X.c is one LLVMFuzzerTestOneInput, tests/fuzz/corpus/X/ its seeds, X.dict (if any) the words of its format;
# --- tests/fuzz/world/ is what several of them share ---
fuzzers := $(filter-out replay,$(basename $(notdir $(wildcard tests/fuzz/*.c))))
$(B)/bin/fuzz-%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(B)/libproxy.a $(B)/libcontrol.a $(B)/libweft.a
	$(call link,$(libs_control))
$(B)/bin/fuzzer-%: $(B)/obj/tests/fuzz/%.o $(B)/libproxy.a $(B)/libcontrol.a $(B)/libweft.a
	$(call link,$(libs_control) -fsanitize=fuzzer)
http1_readers := http1 hop emit
$(foreach f,$(http1_readers),$(B)/bin/fuzz-$f $(B)/bin/fuzzer-$f): $(B)/obj/tests/unit/lib/http1_read.o
stores := api issue
$(foreach f,$(stores),$(B)/bin/fuzz-$f $(B)/bin/fuzzer-$f): $(B)/obj/tests/fuzz/world/store_world.o
codecs := h1 h2
$(foreach f,$(codecs),$(B)/bin/fuzz-$f $(B)/bin/fuzzer-$f): $(B)/obj/tests/fuzz/world/codec_world.o
$(B)/bin/fuzz-push $(B)/bin/fuzzer-push: $(B)/obj/tests/unit/proxy/feed.o

fuzz-replay: ## every fuzz target over its seeds, with the sanitizers but without a fuzzer
	$(Q)$(MAKE) --no-print-directory SAN=asan $(fuzzers:%=build/asan/bin/fuzz-%)
	$(Q)for f in $(fuzzers); do build/asan/bin/fuzz-$$f tests/fuzz/corpus/$$f || exit 1; done

# What is found comes to build/fuzz/X; clang's warnings are not gcc's, so none is an error here.
fuzz: ## fuzz with clang's libFuzzer (Debian: libclang-rt-dev): FUZZ=name (default: all, one after the other), FUZZ_TIME=30 seconds each
	$(Q)echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return 0; }' | $(CLANG) -x c -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null || \
	    { echo "make fuzz: $(CLANG) has no libFuzzer to link; install Debian's libclang-rt-dev, or say CLANG=another-clang" >&2; exit 1; }
	$(Q)$(MAKE) --no-print-directory CC=$(CLANG) SAN=fuzz WERROR= $(foreach f,$(or $(FUZZ),$(fuzzers)),build/fuzz/bin/fuzzer-$f)
	$(Q)for f in $(or $(FUZZ),$(fuzzers)); do mkdir -p build/fuzz/$$f; \
	    dict=; test ! -f tests/fuzz/$$f.dict || dict=-dict=tests/fuzz/$$f.dict; \
	    build/fuzz/bin/fuzzer-$$f $$dict -max_total_time=$(or $(FUZZ_TIME),30) -artifact_prefix=build/fuzz/$$f/ build/fuzz/$$f tests/fuzz/corpus/$$f || exit 1; done

# --- what `make test` is made of ---
deps: ## install the Debian packages that building and testing need (root)
	$(Q)missing=$$(for p in $$(grep -v '^#' packaging/deps.txt); do dpkg-query -W -f '$${Status}\n' $$p 2>/dev/null | grep -q '^install ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi

lint: all ## layers and circles, headers alone, linked libraries, format
	$(Q)sh tests/lint/layers.sh
	$(Q)CC="$(CC)" sh tests/lint/headers.sh
	$(Q)sh tests/lint/links.sh $(B)/bin
	$(Q)sh tests/lint/format.sh

# Everything on the sanitizer build, then what is a claim about the plain one (memory, time, hardening).
pytest := $(PYTHON) -m pytest -q -rs --durations=10 $(or $(TESTS),tests/integ)
integ: all build/plain/bin/swarm build/plain/bin/handshake ## integration tests: network namespaces, real eBPF, real TLS, real clients (root; TESTS=FILE: some)
	$(Q)$(MAKE) --no-print-directory SAN=asan all build/asan/bin/swarm
	$(Q)WEFT_BUILD=build/asan $(pytest)
	$(Q)WEFT_BUILD=build/plain WEFT_TESTS=plain $(pytest)

# In steps, so that the packages are there before anything asks for them.
test: ## everything that continuous integration runs (root): packages, builds, unit, fuzz corpora, lint, integration
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) SAN=asan all build/asan/bin/unit
	$(Q)$(MAKE) --no-print-directory unit
	$(Q)$(MAKE) --no-print-directory fuzz-replay
	$(Q)$(MAKE) --no-print-directory lint
	$(Q)$(MAKE) --no-print-directory integ

idle: all ## 8,000 idle connections of each sidecar, memory after 100,000 handshakes (root; several minutes)
	$(Q)WEFT_IDLE=8000 WEFT_HANDSHAKES=100000 WEFT_BUILD=build/plain $(PYTHON) -m pytest -q tests/integ/test_idle_memory.py -k "opaque or full_handshakes"

stall: all ## a reader that stops for 60 s; the memory limit with four worker threads (root)
	$(Q)WEFT_STALL_S=60 WEFT_BUILD=build/plain $(PYTHON) -m pytest -q tests/integ/test_memory.py -k stops_for_long
	$(Q)WEFT_THREADS=4 WEFT_BUILD=build/plain $(PYTHON) -m pytest -q tests/integ/test_memory.py

demo: ## two hosts on this machine, a mesh between them, and the proof of what it does (root; KEEP=1 leaves it running)
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)KEEP=$(KEEP) $(PYTHON) tests/demo/demo.py

bench: ## CPU and latency against bare relays; QUICK=1 within 50 s; PARTS=h1-16k,bulk-up, CONNS=32: these alone; result in build/bench.json (root)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all build/plain/bin/relay
	$(Q)QUICK=$(QUICK) PARTS=$(PARTS) CONNS=$(CONNS) $(PYTHON) tests/bench/bench.py

chaos: all ## 20 hot upgrades, faults under load, MINUTES=5 one by one, then as long all at once, certificates renewed every 2 s; SEED=N repeats (root)
	$(Q)WEFT_UPGRADES=20 WEFT_BUILD=build/plain $(PYTHON) -m pytest -q -rP tests/integ/test_hot_upgrade.py -k upgrades_under_load
	$(Q)$(PYTHON) tests/chaos/chaos.py --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))
	$(Q)$(PYTHON) tests/chaos/chaos.py --minutes $(or $(MINUTES),5) --at-once --lifetime 4 $(if $(SEED),--seed $(SEED))

KILLS := worker_killed,own_worker_killed,sidecar_killed,capture_killed,weftd_killed
soak: all ## 100,000 requests to a fickle server, 200 kills of each kind, chaos for MINUTES=90; interrupted, it goes on where it was (root)
	$(Q)test -s build/soak.kills || $(PYTHON) tests/chaos/keepalive.py
	$(Q)$(PYTHON) tests/chaos/chaos.py --each 200 --only $(KILLS) --state build/soak.kills $(if $(SEED),--seed $(SEED))
	$(Q)$(PYTHON) tests/chaos/chaos.py --minutes $(or $(MINUTES),90) --state build/soak.state $(if $(SEED),--seed $(SEED))

floods: ## each kind of HTTP/2 flood for 60 s (or SECONDS=n) beside a client of 1,000 requests a second (root; about 75 minutes)
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)WEFT_BUILD=build/plain WEFT_FLOOD_SECONDS=$(or $(SECONDS),60) $(PYTHON) -m pytest -q -rP tests/integ/test_floods_victim.py

# From the Go module proxy; not part of `make test`, since that needs no network beyond Debian's packages.
H2SPEC ?= build/tools/h2spec
build/tools/h2spec:
	$(Q)mkdir -p $(@D)/src && cd $(@D)/src && { test -f go.mod || go mod init tools; } && \
	    go get github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible && go build -o ../h2spec github.com/summerwind/h2spec/cmd/h2spec

e2e-h2spec: all $(H2SPEC) ## h2spec (strict) against both listeners, h2c and mutual TLS, nghttpd behind; needs Go, or H2SPEC=program (root)
	$(Q)$(PYTHON) tests/e2e/h2spec.py $(H2SPEC)

build/tools/grpc_go: $(wildcard tests/e2e/grpc_go/*)
	$(Q)mkdir -p $(@D) && cd tests/e2e/grpc_go && go build -o $(CURDIR)/$@ .

e2e-grpc-go: all build/tools/grpc_go ## grpc-go at both ends of the mesh (root; needs Go and its module proxy)
	$(Q)$(PYTHON) tests/e2e/grpc_go.py build/tools/grpc_go

e2e-scale: all $(B)/bin/swarm ## weftd with 10,000 services x 10 endpoints and 1,000 proxies: the promised figures, in 2 min (root; PROXIES=, SERVICES=)
	$(Q)$(PYTHON) tests/e2e/scale.py $(or $(PROXIES),1000) $(or $(SERVICES),10000)

e2e-kernel: all ## test_capture.py and test_capture_life.py on Debian 12's kernel 6.1, the oldest promised, in a virtual machine: 25 min (root; qemu-system-x86, busybox-static, kmod)
	$(Q)$(PYTHON) tests/e2e/kernel.py $(TESTS)

e2e-origins: all ## nginx, haproxy, nghttpx, lighttpd, http.server and node: what they make of what a sidecar passes on (root)
	$(Q)$(PYTHON) tests/e2e/origins.py

# Every sidecar with four threads, under the thread sanitizer: it fails a test by speaking. Processes whose sanitizer needs threads of its own
# have one thread more than they were told.
TSAN_TESTS ?= tests/integ/test_threads.py tests/integ/test_mesh.py tests/integ/test_chaos.py tests/integ/test_identity.py tests/integ/test_h2.py
e2e-tsan: ## worker threads under the thread sanitizer: unit suites of what threads share, then traffic, pushes, rotation (root; TSAN_TESTS=FILES)
	$(Q)$(MAKE) --no-print-directory SAN=tsan all build/tsan/bin/unit
	$(Q)for s in mailbox loop view balance eject circuit clerk; do build/tsan/bin/unit $$s || exit 1; done
	$(Q)WEFT_BUILD=build/tsan WEFT_THREADS=4 $(PYTHON) -m pytest -q -rs $(TSAN_TESTS)

install: all ## install into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/doc/weft
	install -m 0755 $(B)/bin/weft $(B)/bin/weft-proxy $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(B)/bin/weftd $(B)/bin/weft-capture $(DESTDIR)$(PREFIX)/sbin
	install -m 0644 README.md LICENSE $(wildcard docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/weft

uninstall: ## remove what install put there
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,weft weft-proxy) $(addprefix $(DESTDIR)$(PREFIX)/sbin/,weftd weft-capture)
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/weft

compile_commands.json: ## for editors and clang tools
	$(Q){ echo '['; sep=; for f in $(src_lib) $(src_certs) $(src_proxy) $(src_control) $(src_capture) $(mains) $(src_unit); do \
	    printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' "$$sep" "$(CURDIR)" "$$f" '$(CC) $(filter-out -DWEFT_VERSION=%,$(all_cflags)) -DWEFT_VERSION=0 -c '"$$f"; sep=,; done; echo ']'; } > $@

# --- bench: programs of its own ---
$(B)/bin/swarm: $(B)/obj/tests/bench/swarm.o $(B)/obj/tests/bench/swarm_subscribe.o $(B)/libproxy.a $(B)/libweft.a
	$(call link,$(libs_proxy))
$(B)/bin/handshake: $(B)/obj/tests/bench/handshake.o $(B)/libweft.a
	$(call link,$(libs_base) -lpthread)
$(B)/bin/relay: $(B)/obj/tests/bench/relay.o $(B)/libweft.a
	$(call link,$(libs_base) -lpthread)

docs: $(B)/bin/weft ## docs/cli.md and docs/openapi.json, made of the rows of commands and calls
	$(Q)$(B)/bin/weft help markdown > docs/cli.md
	$(Q)$(PYTHON) tests/doc/openapi.py > docs/openapi.json

# schemathesis is in no Debian package: it comes from PyPI into a folder of its own, for this target only.
e2e-api: $(B)/bin/weftd $(B)/bin/weft ## weftd's API under schemathesis, by docs/openapi.json (needs PyPI)
	$(Q)test -x build/e2e/bin/schemathesis || { $(PYTHON) -m venv build/e2e && build/e2e/bin/pip install -q 'schemathesis>=4,<5'; }
	$(Q)PATH=build/e2e/bin:$$PATH $(PYTHON) tests/doc/fuzz_api.py $(B)/bin

format: ## rewrite the sources with clang-format
	git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '\.tbl\.h$$' | xargs clang-format -i

clean: ## remove build/
	rm -rf build compile_commands.json

-include $(shell find $(B) -name '*.d' 2>/dev/null)
