# A thin front to CMake and CTest; 'make help' lists what there is.
BUILD  ?= build
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
CMAKE_FLAGS ?=

CTEST = ctest --output-on-failure

.DEFAULT_GOAL := all
.PHONY: all deps-check demo test test-slow python wheel python-test node node-test node-package asan tsan racecheck bench install dist format form tidy options-docs clean help

all: deps-check ## build build/cohort (and the libraries beside it)
	@test -f $(BUILD)/CMakeCache.txt || cmake -B $(BUILD) -DCOHORT_TESTS=OFF $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j$(JOBS)

deps-check:
	@scripts/install-deps --check

demo: ## install what is missing, build, and watch a tiny model learn (a few minutes)
	scripts/install-deps build
	+$(MAKE) --no-print-directory all
	scripts/demo

test: ## install what is missing, build with warnings as errors, run every test that is not slow
	scripts/install-deps test
	cmake -B $(BUILD) -DCOHORT_TESTS=ON -DCOHORT_WERROR=ON $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j$(JOBS)
	$(CTEST) --test-dir $(BUILD) -LE '^(slow|cuda|cuda-demo)$$' -j$(JOBS)

test-slow: ## the tests labelled slow, one after the other
	scripts/install-deps test
	cmake -B $(BUILD) -DCOHORT_TESTS=ON -DCOHORT_WERROR=ON $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j$(JOBS)
	$(CTEST) --test-dir $(BUILD) -L slow

# Leaks are looked for; an undefined operation ends the program, so that the test fails.
asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan
	scripts/install-deps test
	cmake -B build-asan -DCOHORT_TESTS=ON -DCOHORT_SANITIZE=address,undefined $(CMAKE_FLAGS)
	cmake --build build-asan -j$(JOBS)
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(CTEST) --test-dir build-asan -LE 'slow|house' -j$(JOBS)

# Only tests that start threads are worth the wait.
tsan: ## the threaded tests under ThreadSanitizer, in build-tsan
	scripts/install-deps test
	cmake -B build-tsan -DCOHORT_TESTS=ON -DCOHORT_SANITIZE=thread $(CMAKE_FLAGS)
	cmake --build build-tsan -j$(JOBS)
	$(CTEST) --test-dir build-tsan -L 'unit|kernels|invariance|grad' -LE slow

# No GPU is needed: the kernels run on the CPU (tests/cuda_emulation).
racecheck: ## the CUDA kernels' tests with every access watched for races, in build-race
	scripts/install-deps test
	cmake -B build-race -DCOHORT_TESTS=ON -DCOHORT_RACECHECK=ON $(CMAKE_FLAGS)
	cmake --build build-race -j$(JOBS)
	$(CTEST) --test-dir build-race -L cuda-emulated --timeout 3000 -j$(JOBS)

python: all ## put the Python package together in BUILD/python (PYTHONPATH=build/python)
	python3 bindings/python/stage.py $(BUILD)/libcohort.so $(BUILD)/python

python-test: ## its tests alone, with what they need
	scripts/install-deps test
	cmake -B $(BUILD) -DCOHORT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j$(JOBS) --target cohort_cli cohort_shared
	$(CTEST) --test-dir $(BUILD) -R '^test_(python|same_bytes)$$'

wheel: all ## the Python package as a wheel in BUILD/wheel (with auditwheel of PyPI)
	scripts/make-wheel $(BUILD)

node: all ## put the Node package together in BUILD/node/node_modules/cohort (NODE_PATH=build/node/node_modules)
	node bindings/node/stage.js $(BUILD)/node-addon/cohort.node $(BUILD)/node/node_modules/cohort

node-test: ## its tests alone, with what they need
	scripts/install-deps test
	cmake -B $(BUILD) -DCOHORT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build $(BUILD) -j$(JOBS) --target cohort_cli cohort_shared cohort_node
	$(CTEST) --test-dir $(BUILD) -R '^test_(node|same_bytes)$$'

node-package: all ## the Node package as a tarball for npm in BUILD/npm
	scripts/make-node-package $(BUILD)

bench: all ## measure speed beside this machine's limits (build/cohort bench)
	$(BUILD)/cohort bench

install: all ## install program, libraries, header, pkg-config and CMake files, documents under PREFIX
	cmake --install $(BUILD) --prefix $(PREFIX)

SOURCES = $(shell find src cli include tests bench bindings examples -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' | sort)
format: ## clang-format every source file in place (version 14: others format otherwise)
	$$(command -v clang-format-14 || echo clang-format) -i $(SOURCES)

form: all ## check the format (clang-format), the scripts (shellcheck) and the code (clang-tidy): two minutes
	BUILD=$(BUILD) scripts/check-form

tidy: all ## clang-tidy alone
	BUILD=$(BUILD) scripts/check-form tidy

dist: ## a release tarball of what is committed, which builds and tests alone: cohort-VERSION.tar.gz
	scripts/make-dist

options-docs: all ## write docs/OPTIONS.md from the option table
	$(BUILD)/cohort --options-docs > docs/OPTIONS.md

clean: ## remove the build folders
	rm -rf build build-asan build-tsan build-race build-clang build-nvcc build-cuda build-aarch64

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
