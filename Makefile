.PHONY: help setup demo test test-all check bench schema clean

help: ## what there is (this list)
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## libtorch, or links to yours, and the build; `scripts/setup --help` says more
	@scripts/setup --lean
	cargo build --workspace

demo: ## train a small BERT twice, progressive layer dropping off and on, and compare
	@scripts/setup --lean
	@echo "compiling, some ten minutes the first time on two cores; then two trainings, some ten minutes"
	cargo build --bin trainyard --bin demo
	cargo run --bin demo

# Under nextest each test is a process of its own: one thread each, or they get in each other's way.
test: ## all tests, with PyTorch to compare with
	@scripts/setup --full
	@echo "compiling and testing: half an hour the first time on two cores"
	cargo test --workspace --doc
	@if cargo nextest --version >/dev/null 2>&1; \
	then set -x; OMP_NUM_THREADS=1 cargo nextest run --workspace; \
	else set -x; cargo test --workspace --lib --bins --tests --no-fail-fast; fi

test-all: export TRAINYARD_TEST = all
test-all: test ## as test, with all rows of the table of resuming in place of every pair of values

check: ## formatting, clippy and the documentation, with warnings denied
	@scripts/setup --lean
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

bench: ## the benchmarks; ONLY=name,... runs some of them
	@scripts/setup --full
	cargo build --bins
	cargo run --bin bench -- $(if $(ONLY),--only $(ONLY))

schema: ## write schemas/trainyard.schema.json anew
	@scripts/setup --lean
	cargo run --bin trainyard -- schema > schemas/.new || { rm schemas/.new; exit 1; }
	mv schemas/.new schemas/trainyard.schema.json

clean: ## remove what was built and what set-up put here
	rm -rf target .libtorch .venv
