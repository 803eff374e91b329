# What there is to do here. `make help` lists it.

CARGO ?= cargo
FLY ?= $(shell command -v fly || command -v flyctl || echo fly)
# The app on Fly, and the one that `launch-mcp` makes beside it.
APP := $(or $(FLY_APP),$(shell sed -n "s/^app *= *[\"']\([^\"']*\)[\"'].*/\1/p" fly.toml))
MCP_APP ?= $(APP)-todoist
# Where `tunnel-quick` leads.
PORT ?= 5050
# Each test in a process of its own where cargo-nextest is installed; cargo's own runner serves as well.
RUN_TESTS = $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo "nextest run --no-fail-fast" || echo "test --no-fail-fast")
# What `npm ci` writes last.
MCP_SERVERS := tests/mcp/node_modules/.package-lock.json
TWILIO_RUNTIME := twilio/node_modules/.package-lock.json

GET_CARGO := install Rust from https://rustup.rs
GET_NODE := install Node 22 or later from https://nodejs.org (npm and npx come with it)
GET_GIT := the package manager of this system has it
GET_FLY := install it from https://fly.io/docs/flyctl/install and run `fly auth login`
GET_TWILIO := run `npm install -g twilio-cli`, then `twilio login`
GET_CLOUDFLARED := install it from https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/downloads

# $(call need,TOOL,HOW TO GET IT): ends the target with a sentence where the tool is absent. A third says the name of the
# target that was asked for, where that is another.
need = @command -v $(firstword $(1)) >/dev/null 2>&1 || { echo 'make $(or $(3),$@) needs $(firstword $(1)), which is not installed: $(2)' >&2; exit 1; }
# Ends the target with a sentence where fly.toml has no name, or still the example's.
need_app = @test -n '$(APP)' || ! grep -q "^app *= *[^\"' ]" fly.toml 2>/dev/null || { echo 'make $@: fly.toml names the app without straight quotes. Write it so: app = "NAME"' >&2; exit 1; }; \
	test -n '$(APP)' && test '$(APP)' != switchboard-example || { echo 'make $@: fly.toml names no app of yours. Run `fly apps create NAME`, and write NAME into fly.toml' >&2; exit 1; }
# $(call env,NAME): what the environment says, or else .env, as the program reads it.
env = "$$($(CARGO) run --quiet -- secrets $(1))"

.PHONY: help demo dev test check bench soak deploy launch-mcp inspect-mcp logs logs-mcp status secrets tunnel \
	tunnel-quick deploy-function numbers doctor

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "%-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## rehearse a call: a simulated caller, the real server, a simulated model
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) run --quiet -- rehearse

dev: ## serve, with what .env says
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) run -- serve

tunnel: ## serve at a public address that cloudflared gives, for trying it with a telephone
	$(call need,$(CARGO),$(GET_CARGO))
	$(call need,cloudflared,$(GET_CLOUDFLARED))
	$(CARGO) run -- serve --tunnel

tunnel-quick: ## only the public address, for a server that runs already: PORT=5050
	$(call need,cloudflared,$(GET_CLOUDFLARED))
	cloudflared tunnel --no-autoupdate --url http://localhost:$(PORT)

doctor: ## what is missing or wrong, and how to mend it: ARGS=--fix
	$(call need,$(CARGO),$(GET_CARGO))
	@$(CARGO) run --quiet -- doctor $(ARGS)

numbers: ## the account's numbers beside the folder's assistants
	$(call need,$(CARGO),$(GET_CARGO))
	@$(CARGO) run --quiet -- numbers list $(ARGS)

deploy-function: ## the Functions of twilio/ to Twilio, with what twilio/.env says
	@test -f twilio/.env || { echo 'make $@ reads twilio/.env, which is not there: copy twilio/.env.example to it, and fill it in' >&2; exit 1; }
	$(call need,node,$(GET_NODE))
	@node twilio/settings.js twilio/.env
	$(call need,twilio,$(GET_TWILIO))
	@twilio plugins 2>/dev/null | grep -q plugin-serverless || { echo 'make $@ needs a plugin of the Twilio CLI: run `twilio plugins:install @twilio-labs/plugin-serverless`' >&2; exit 1; }
	cd twilio && twilio serverless:deploy --env .env --override-existing-project
	@echo
	@echo 'Set TWILIO_FUNCTIONS_URL to the address above, without /allowlist-function, such as'
	@echo '  TWILIO_FUNCTIONS_URL=https://switchboard-1234-dev.twil.io'
	@echo 'Then `switchboard numbers sync --apply` points your numbers at it: a call comes in at /allowlist-function,'
	@echo 'and at /fallback-function when the server does not answer.'

secrets: ## the values of .env into Fly's secrets; in force with the next deploy
	$(call need,$(FLY),$(GET_FLY))
	$(call need,$(CARGO),$(GET_CARGO))
	$(need_app)
	@values=$$($(CARGO) run --quiet -- secrets) || exit 1; \
	echo 'These go to the secrets of $(APP); what belongs to this machine stays here:'; \
	names=$$(printf '%s\n' "$$values" | awk -F = '$(NAMES)'); \
	printf '%s\n' "$$names"; \
	printf '%s\n' "$$values" | $(FLY) secrets import --stage --app '$(APP)' || exit 1; \
	$(FLY) secrets list --app '$(APP)' | NAMES=$$names awk '$(LEFT)'
# A value of several lines stands between three quotes.
NAMES = within { within = !/"""$$/; next } { print "  " $$1; within = /^[^=]*="""/ }
# The first word of each line is a name, whatever lines and signs fly draws around it. It is in force, though .env has
# lost it.
LEFT = BEGIN { split(ENVIRON["NAMES"], set); for (i in set) ours[set[i]] } \
	{ gsub(/[^A-Za-z0-9_]+/, " "); listed = 1 } \
	$$1 ~ /^[A-Z_][A-Z0-9_]*$$/ && $$1 != "NAME" && !($$1 in ours) { left = left " " $$1; there[$$1] } \
	END { count = split("OPENAI_API_KEY TWILIO_AUTH_TOKEN", needed, " "); for (i = 1; i <= count; i++) \
	if (listed && !(needed[i] in ours) && !(needed[i] in there)) \
	print needed[i] " is set neither in .env nor at Fly" (i == 1 ? ", and OpenAI needs it." : ", and the server needs it."); \
	if (left) print "Also set at Fly, and not among these:" left ". Where that is not wanted:\n" \
	"  $(FLY) secrets unset --stage --app $(APP)" left }

deploy: ## check the folder, then deploy to Fly
	$(call need,$(CARGO),$(GET_CARGO))
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(CARGO) run --quiet -- check
	$(FLY) deploy --app '$(APP)'

status: ## the machines on Fly
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) status --app '$(APP)'

logs: ## what they say
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) logs --app '$(APP)'

launch-mcp: ## Todoist's MCP server as an app on Fly, and in Claude's configuration
	$(call need,$(FLY),$(GET_FLY))
	$(call need,$(CARGO),$(GET_CARGO))
	$(need_app)
	@key=$(call env,TODOIST_API_KEY); user=$(call env,TODOIST_MCP_USER); password=$(call env,TODOIST_MCP_PASSWORD); \
	test -n "$$key" || { echo 'make $@ needs TODOIST_API_KEY in .env: Todoist, Settings, Integrations, Developer' >&2; exit 1; }; \
	if test -n "$$password"; then echo 'fly writes no password of .env into the configuration of Claude: add --password there by hand, or empty TODOIST_MCP_PASSWORD to be asked for it.'; \
	else echo 'TODOIST_MCP_PASSWORD is not set, so fly asks for a password now. Put the same into .env.'; fi; \
	$(FLY) mcp launch "npx -y @doist/todoist-mcp" --server todoist --name '$(MCP_APP)' --user "$${user:-todoist}" \
		$${password:+--password "$$password"} --vm-memory 256 --auto-stop suspend --claude --secret "TODOIST_API_KEY=$$key"
	@echo 'Put this into .env, and run `make secrets`: TODOIST_MCP_URL=https://$(MCP_APP).fly.dev'

inspect-mcp: ## look at that server in a browser, in the inspector of MCP
	$(call need,$(FLY),$(GET_FLY))
	$(call need,npx,$(GET_NODE))
	$(call need,$(CARGO),$(GET_CARGO))
	@url=$(call env,TODOIST_MCP_URL); user=$(call env,TODOIST_MCP_USER); password=$(call env,TODOIST_MCP_PASSWORD); \
	test -n "$$url" || { echo 'make $@ needs TODOIST_MCP_URL in .env: `make launch-mcp` shows it' >&2; exit 1; }; \
	npx -y "@modelcontextprotocol/inspector@$$(node -p '$(INSPECTOR)')" \
		$(FLY) mcp proxy --url "$$url" --user "$${user:-todoist}" --password "$$password"
# The newest that runs on this Node: 2.12.0 wants 22.19, and those from 0.16.0 on want 22.7.5.
INSPECTOR = const [a, b] = process.versions.node.split(".").map(Number); a > 22 || (a == 22 && b >= 19) ? "2.12.0" : a == 22 && b >= 8 ? "1.0.3" : "0.15.0"

logs-mcp: ## what that server says
	$(call need,$(FLY),$(GET_FLY))
	$(need_app)
	$(FLY) logs --app '$(MCP_APP)'

check: ## format, lints, docs, and the layers
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	$(CARGO) $(RUN_TESTS) --locked --test layers

# Said before what takes minutes.
tools-for-test:
	$(call need,$(CARGO),$(GET_CARGO),test)
	$(call need,npm,$(GET_NODE),test)
	$(call need,git,$(GET_GIT),test)

test: tools-for-test check $(MCP_SERVERS) $(TWILIO_RUNTIME) ## all that must be green before a commit
	$(CARGO) $(RUN_TESTS) --locked --workspace
	npm test --prefix twilio

# The real MCP servers of tests/mcp and Twilio's own runtime, as the lock files have them.
$(MCP_SERVERS) $(TWILIO_RUNTIME): %/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

bench: ## how fast: a frame each way, then calls by the hundred beside a bare TCP splice
	$(call need,$(CARGO),$(GET_CARGO))
	$(CARGO) bench --locked --bench frames
	$(CARGO) bench --locked --bench load

soak: ## what runs longer: a hundred thousand random calls, a long deploy, and 300 calls for five minutes
	$(call need,$(CARGO),$(GET_CARGO))
	PROPTEST_CASES=100000 $(CARGO) test --locked --release --lib call::properties
	$(CARGO) test --locked --release --test machines -- --ignored
	$(CARGO) bench --locked --bench load -- --calls 300 --seconds 300 --only switchboard
