# Two commands matter: `make demo` runs Thalweg, `make test` tests it. Both install what is missing.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/thalweg/target
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: demo test check release bench

demo: ## A shop, its views and Delta tables in ./demo-data: http://127.0.0.1:8080, Flight SQL on 127.0.0.1:50051
	@scripts/setup.sh
	cargo build --workspace --bins
	@$(CARGO_TARGET_DIR)/debug/thalweg demo

check: ## Format, clippy, unit tests
	@scripts/setup.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins

test: ## Everything: what CI runs
	@scripts/setup.sh tests
	scripts/test.sh

release: ## The binary that users get, optimized as a whole: $(CARGO_TARGET_DIR)/release/thalweg
	@scripts/setup.sh
	cargo build --release -p thalweg

bench: release ## Its events per second from the generator; a file, a topic and latency by hand, see docs/ARCHITECTURE.md
	$(CARGO_TARGET_DIR)/release/thalweg bench
