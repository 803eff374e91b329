# Everyday tasks. `make help` lists them.

CARGO ?= cargo
FLY ?= $(shell command -v fly || command -v flyctl || echo fly)
# The app on Fly, and the one that `launch-mcp` creates next to it.
APP := $(or $(FLY_APP),$(shell sed -n "s/^app *= *[\"']\([^\"']*\)[\"'].*/\1/p" fly.toml))
MCP_APP ?= $(APP)-todoist
# The port that `tunnel-quick` forwards to.
PORT ?= 5050
# cargo-nextest, if it is installed, or cargo's own test runner.
RUN_TESTS = $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run --no-fail-fast" || echo "test --no-fail-fast")
# The file that `npm ci` writes last.
MCP_SERVERS := tests/mcp/node_modules/.package-lock.json
TWILIO_RUNTIME := twilio/node_modules/.package-lock.json
BROWSER_TESTS := tests/browser/node_modules/.package-lock.json
OPENAI_TYPES := tests/openai/.venv/installed
S3_SERVER := tests/s3/.venv/installed
MAIL_SERVER := tests/smtp/.venv/installed

GET_CARGO := install Rust from https://rustup.rs
GET_NODE := install Node 22 or later from https://nodejs.org (npm and npx come with it)
GET_PYTHON := install Python 3.9 or later with venv (on Debian: apt-get install python3-venv)
GET_POSTGRES := the tests start a server of their own (on Debian: apt-get install postgresql)
GET_CHROMIUM := the console is tested in it (on Debian: apt-get install chromium; elsewhere, set CHROMIUM to its path)
GET_GIT := install it with the package manager of this system
GET_FLY := install it from https://fly.io/docs/flyctl/install and run `fly auth login`
GET_TWILIO := run `npm install -g twilio-cli`, then `twilio login`
GET_CLOUDFLARED := install it from https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/downloads

# $(call need,TOOL,HOW TO GET IT): stops with a message if the tool is missing. A third argument names the target that was
# asked for, if it is another one.
need = @command -v $(firstword $(1)) >/dev/null 2>&1 || { echo 'make $(or $(3),$@) needs $(firstword $(1)), which is not installed: $(2)' >&2; exit 1; }
# Stops with a message if fly.toml has no name, or still the example's.
need_app = @test -n '$(APP)' || ! grep -q "^app *= *[^\"' ]" fly.toml 2>/dev/null || { echo 'make $@: the app in fly.toml needs straight quotes: app = "NAME"' >&2; exit 1; }; \
	test -n '$(APP)' && test '$(APP)' != switchboard-example || { echo 'make $@: fly.toml does not name an app of yours. Run `fly apps create NAME` and write NAME into fly.toml' >&2; exit 1; }
# Shows the progress of a build, before something that runs the program quietly.
build = @$(CARGO) build
# $(call env,NAME): the value in the environment or .env, as the program reads it.
env = "$$($(CARGO) run --quiet -- secrets $(1))"

.PHONY: help demo dev test check bench soak chaos deploy launch-mcp inspect-mcp logs logs-mcp status secrets tunnel \
	tunnel-quick deploy-function numbers doctor

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## rehearse a call: a simulated caller, the real server, a simulated model
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) run -- rehearse

dev: ## serve, with the settings of .env
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) run -- serve

tunnel: ## serve at a temporary public address (cloudflared), to try it with a telephone
	$(call need,$(CARGO),$(GET_CARGO))
	$(call need,cloudflared,$(GET_CLOUDFLARED))
	$(CARGO) run -- serve --tunnel

tunnel-quick: ## only the public address, for a server that is already running: PORT=5050
	$(call need,cloudflared,$(GET_CLOUDFLARED))
	cloudflared tunnel --no-autoupdate --url http://localhost:$(PORT)

doctor: ## report what is missing or wrong, and how to fix it: ARGS=--fix
	$(call need,$(CARGO),$(GET_CARGO))
	@$(CARGO) run -- doctor $(ARGS)

numbers: ## list the account's numbers with the assistants that answer them
	$(call need,$(CARGO),$(GET_CARGO))
	@$(CARGO) run -- numbers list $(ARGS)

deploy-function: ## deploy the Functions of twilio/ to Twilio, with the settings of twilio/.env
	@test -f twilio/.env || { echo 'make $@ reads twilio/.env, which does not exist: copy twilio/.env.example to it and fill it in' >&2; exit 1; }
	$(call need,node,$(GET_NODE))
	@node twilio/settings.js twilio/.env
	$(call need,twilio,$(GET_TWILIO))
	@twilio plugins 2>/dev/null | grep -q plugin-serverless || { echo 'make $@ needs a plugin of the Twilio CLI: run `twilio plugins:install @twilio-labs/plugin-serverless`' >&2; exit 1; }
	cd twilio && twilio serverless:deploy --env .env --override-existing-project
	@echo
	@echo 'Set TWILIO_FUNCTIONS_URL to the address above, without /allowlist-function, such as'
	@echo '  TWILIO_FUNCTIONS_URL=https://switchboard-1234-dev.twil.io'
	@echo 'Then `switchboard numbers sync --apply` points your numbers at it: calls come in at /allowlist-function,'
	@echo 'and at /fallback-function if the server does not answer.'

secrets: ## copy the secrets of .env to Fly; they take effect with the next deploy
	$(call need,$(FLY),$(GET_FLY))
	$(call need,$(CARGO),$(GET_CARGO))
	$(need_app)
	$(build)
	@echo 'These secrets go to the app $(APP); settings of this machine stay here:'
	@$(CARGO) run --quiet -- secrets --names | sed 's/^/  /'
	@values=$$($(CARGO) run --quiet -- secrets) && printf '%s\n' "$$values" | $(FLY) secrets import --stage --app '$(APP)'
	@$(FLY) secrets list --app '$(APP)' | $(CARGO) run --quiet -- secrets --compare

deploy: ## check the folder and deploy to Fly
	$(call need,$(CARGO),$(GET_CARGO))
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(CARGO) run -- check
	$(FLY) deploy --app '$(APP)'

status: ## show the machines on Fly
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) status --app '$(APP)'

logs: ## follow the log of the machines on Fly
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) logs --app '$(APP)'

launch-mcp: ## run Todoist's MCP server as an app on Fly, and add it to Claude's configuration
	$(call need,$(FLY),$(GET_FLY))
	$(call need,$(CARGO),$(GET_CARGO))
	$(need_app)
	$(build)
	@key=$(call env,TODOIST_API_KEY); user=$(call env,TODOIST_MCP_USER); password=$(call env,TODOIST_MCP_PASSWORD); \
	test -n "$$key" || { echo 'make $@ needs TODOIST_API_KEY in .env: Todoist, Settings, Integrations, Developer' >&2; exit 1; }; \
	if test -n "$$password"; then echo 'fly does not copy the password from .env to the configuration of Claude: add --password there, or unset TODOIST_MCP_PASSWORD to be asked for it.'; \
	else echo 'TODOIST_MCP_PASSWORD is not set, so fly asks for a password now. Put the same one into .env.'; fi; \
	$(FLY) mcp launch "npx -y @doist/todoist-mcp" --server todoist --name '$(MCP_APP)' --user "$${user:-todoist}" \
		$${password:+--password "$$password"} --vm-memory 256 --auto-stop suspend --claude --secret "TODOIST_API_KEY=$$key"
	@echo 'Put this into .env, and run `make secrets`: TODOIST_MCP_URL=https://$(MCP_APP).fly.dev'

inspect-mcp: ## open that server in the MCP inspector, in a browser
	$(call need,$(FLY),$(GET_FLY))
	$(call need,npx,$(GET_NODE))
	$(call need,$(CARGO),$(GET_CARGO))
	$(build)
	@url=$(call env,TODOIST_MCP_URL); user=$(call env,TODOIST_MCP_USER); password=$(call env,TODOIST_MCP_PASSWORD); \
	test -n "$$url" || { echo 'make $@ needs TODOIST_MCP_URL in .env: `make launch-mcp` shows it' >&2; exit 1; }; \
	npx -y "@modelcontextprotocol/inspector@$$(node -p '$(INSPECTOR)')" \
		$(FLY) mcp proxy --url "$$url" --user "$${user:-todoist}" --password "$$password"
# The newest version for this Node: 2.12.0 needs 22.19, and 0.16.0 and later need 22.7.5.
INSPECTOR = const [a, b] = process.versions.node.split(".").map(Number); a > 22 || (a == 22 && b >= 19) ? "2.12.0" : a == 22 && b >= 8 ? "1.0.3" : "0.15.0"

logs-mcp: ## follow the log of that server
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) logs --app '$(MCP_APP)'

check: ## check format, lints, docs and layers
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@# It reads the sources, and needs nothing built.
	rustc --edition 2024 --test tests/layers.rs --out-dir target && target/layers --quiet

# Checked before anything that takes minutes.
tools-for-test:
	$(call need,$(CARGO),$(GET_CARGO),test)
	$(call need,npm,$(GET_NODE),test)
	$(call need,git,$(GET_GIT),test)
	$(call need,python3,$(GET_PYTHON),test)
	@# Debian keeps it out of PATH.
	@PATH="$$PATH:$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tr '\n' ':')" command -v initdb >/dev/null 2>&1 || { echo 'make test needs PostgreSQL, which is not installed: $(GET_POSTGRES)' >&2; exit 1; }
	@command -v "$${CHROMIUM:-chromium}" >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || { echo 'make test needs Chromium, which is not installed: $(GET_CHROMIUM)' >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo 'make test needs the modules venv and ensurepip of Python, which are not installed: $(GET_PYTHON)' >&2; exit 1; }

test: tools-for-test check $(MCP_SERVERS) $(TWILIO_RUNTIME) $(BROWSER_TESTS) $(OPENAI_TYPES) $(S3_SERVER) $(MAIL_SERVER) ## run everything that must pass before a commit
	$(CARGO) $(RUN_TESTS) --locked --workspace
	npm test --prefix twilio
	$(CARGO) build --locked
	npm test --prefix tests/browser

# The real MCP servers of tests/mcp, Twilio's own runtime and what drives the browser, in the locked versions.
$(MCP_SERVERS) $(TWILIO_RUNTIME) $(BROWSER_TESTS): %/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

# OpenAI's own package, for its types of the Realtime API; moto, a server that speaks S3; and a mail server.
$(OPENAI_TYPES) $(S3_SERVER) $(MAIL_SERVER): %/.venv/installed: %/requirements.txt
	python3 -m venv $*/.venv
	$*/.venv/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: ## measure a frame in each direction, a hundred calls compared with a bare TCP splice, a store of a million calls, and what interrupts
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) bench --locked --bench frames
	$(CARGO) bench --locked --bench load
	$(CARGO) bench --locked --bench store
	$(CARGO) bench --locked --bench ear

chaos: ## make a call for each fault of a provider or of Twilio, and measure what the caller hears: ARGS="reset answer"
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) bench --locked --bench chaos -- $(ARGS)

soak: ## run the long tests: 100,000 random calls, a long deploy, long standstills, and 300 calls for five minutes
	$(call need,$(CARGO),$(GET_CARGO))
	PROPTEST_CASES=100000 $(CARGO) test --locked --release --lib call::properties
	$(CARGO) test --locked --release --test machines -- --ignored
	$(CARGO) bench --locked --bench load -- --calls 300 --seconds 300 --only switchboard
