# What there is to do here. `make help` lists it.

CARGO ?= cargo
# Each test in a process of its own where cargo-nextest is installed; cargo's own runner serves as well.
RUN_TESTS := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run --no-fail-fast" || echo "test --no-fail-fast")
# What `npm ci` writes last.
MCP_SERVERS := tests/mcp/node_modules/.package-lock.json
TWILIO_RUNTIME := twilio/node_modules/.package-lock.json

.PHONY: help demo dev test check bench soak

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: ## rehearse a call: a simulated caller, the real server, a simulated model
	$(CARGO) run --quiet -- rehearse

dev: ## serve, with what .env says
	$(CARGO) run -- serve

check: ## format, lints, docs, and the floors of the house
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(CARGO) $(RUN_TESTS) --locked --test floors

test: check $(MCP_SERVERS) $(TWILIO_RUNTIME) ## all that must be green before a commit
	$(CARGO) $(RUN_TESTS) --locked
	npm test --prefix twilio

# The real MCP servers of tests/mcp and Twilio's own runtime, as the lock files have them.
$(MCP_SERVERS) $(TWILIO_RUNTIME): %/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

bench: ## how fast: a frame each way, then calls by the hundred beside a bare TCP splice
	$(CARGO) bench --locked --bench frames
	$(CARGO) bench --locked --bench load

soak: ## what runs longer: a hundred thousand random calls, and 300 calls for five minutes
	PROPTEST_CASES=100000 $(CARGO) test --locked --release --lib call::properties
	$(CARGO) bench --locked --bench load -- --calls 300 --seconds 300 --only switchboard
