//! What `switchboard doctor` can find, other than problems of settings, files and numbers.

use std::fmt;

use super::catalogue;

/// Who or what answered in place of the server, as far as an HTTP answer shows. Prints as what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// 401, 403, 407, 429, or a firewall's page.
    Blocked,
    /// 404, 405, 501.
    NotPassedOn,
    /// 408, 411, 413, 415.
    BodyLost,
    /// 5xx.
    Broken,
    /// 3xx.
    Redirect,
    /// A page for browsers.
    WebPage,
    /// 426.
    UpgradeLost,
    /// The agent of an ngrok tunnel is not running.
    Ngrok,
    /// Cloudflare does not reach the server.
    CloudflareDown,
    /// Cloudflare wants a browser.
    CloudflareChallenge,
    /// Fly's proxy has no machine to send to.
    FlyDown,
    Other,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "let requests through the firewall without a login: the server checks their signatures",
            Self::NotPassedOn => "check the path of the address, and configure the proxy to forward every path and method",
            Self::BodyLost => "configure the proxy to forward request bodies of up to 64 KiB unchanged",
            Self::Broken => "check that the server is running and the proxy reaches its port; see the log of the proxy",
            Self::Redirect => "if the redirect leads to this server, set PUBLIC_URL to its target",
            Self::WebPage => "check the address: a tunnel's notice, a login or a parked domain may answer there",
            Self::UpgradeLost => {
                "configure the proxy to forward WebSocket upgrades. nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                 proxy_set_header Connection \"upgrade\";`; Apache: `mod_proxy_wstunnel`"
            }
            Self::Ngrok => "start the tunnel's agent, and set PUBLIC_URL to the address it prints",
            Self::CloudflareDown => "start cloudflared and `switchboard serve`, or run `switchboard serve --tunnel`",
            Self::CloudflareChallenge => "add a Cloudflare WAF rule that skips the checks for these paths",
            Self::FlyDown => "no machine answers: run `fly status` and `fly logs`",
            Self::Other => "check the address, and configure the proxy to forward requests unchanged",
        })
    }
}

catalogue! {
    /// A check of the folder of assistants.
    Folder {
        Passes { dir: String, assistants: String } = Ok "folder.check",
            "{dir} passes, with {assistants}";
        Rejected { dir: String, errors: String } = Error "folder.check",
            "{dir} does not pass: {errors}",
            effect: "`switchboard serve` does not start with it; a running server rejects the edit",
            fix: "run `switchboard check`, which shows every problem";
        FallbackRejected { dir: String, errors: String } = Warning "folder.fallback",
            "{dir}, the fallback for ASSISTANTS_URL, does not pass: {errors}",
            effect: "nothing answers if the server starts while ASSISTANTS_URL cannot be fetched",
            fix: "run `switchboard check`, which shows every problem";
        Warnings { dir: String, warnings: String } = Warning "folder.warnings",
            "{dir} passes, with {warnings}",
            fix: "run `switchboard check`, which shows them";
        NoNumbers = Warning "folder.numbers",
            "no assistant answers a number",
            effect: "callers hear that the number is not in use",
            fix: "add a number to `numbers` of an assistant, or set the variable there in `.env`";
        Fetched = Ok "folder.fetch",
            "the folder of ASSISTANTS_URL was fetched";
        NotFetched { error: String } = Error "folder.fetch",
            "the remote folder was not fetched: {error}",
            effect: "edits do not reach the server; if it starts, it uses the local folder",
            fix: "check ASSISTANTS_URL and ASSISTANTS_TOKEN";
    }
}

catalogue! {
    /// A check of a provider, by beginning a session of a model.
    Provider {
        Session { model: String } = Ok "provider.session",
            "{model} starts a session";
        Slow { model: String, seconds: f64 } = Warning "provider.slow",
            "{model} takes {seconds:.1} s to start a session",
            effect: "callers hear silence first; if it takes longer, calls end with `model.unreachable`",
            fix: "check this machine's network, and the provider's status page";
        KeyMissing { provider: String } = Error "provider.key_missing",
            "the provider `{provider}` needs a key, but has none",
            effect: "`switchboard serve` does not start",
            fix: "set OPENAI_API_KEY, or the variable that `key` of the provider in switchboard.yaml names";
        Key { model: String } = Error "provider.key",
            "the provider of {model} rejects the key",
            effect: "every call ends with `model.refused`",
            fix: "create a key (OpenAI: https://platform.openai.com/api-keys) and set it; on Fly: `fly secrets set OPENAI_API_KEY=…`";
        Region { model: String } = Error "provider.region",
            "the provider of {model} does not serve this country or address",
            effect: "every call ends with `model.refused`",
            fix: "run the server in a region that the provider serves";
        Credit { model: String } = Error "provider.credit",
            "the account has no credit left for {model}",
            effect: "every call ends with `model.refused`",
            fix: "add credit or raise the limit (OpenAI: https://platform.openai.com/settings/organization/billing)";
        AccountClosed { model: String } = Error "provider.account",
            "the account for {model} is closed",
            effect: "every call ends with `model.refused`",
            fix: "use the key of an open account";
        Model { model: String } = Error "provider.model",
            "{model} does not exist, or the key may not use it",
            effect: "every call ends with `model.refused`",
            fix: "set `model` to one that the key's project may use; with Azure, the name of the deployment";
        NotFound { model: String } = Error "provider.model",
            "the server for {model} answers 404: it does not know the address or the model",
            effect: "every call ends with `model.refused`",
            fix: "check the path in OPENAI_REALTIME_URL or in `url` of the provider, and `model`; with Azure, that is the name of the deployment";
        BetaApi { model: String } = Error "provider.dialect",
            "the provider of {model} no longer supports the beta API",
            effect: "every call ends with `model.refused`",
            fix: "remove `dialect: beta` from the provider in switchboard.yaml";
        RateLimit { model: String } = Warning "provider.rate_limit",
            "the provider of {model} limits the rate of requests",
            effect: "calls that start now may end with `model.unreachable`",
            fix: "try again in a minute; check the limits of the account";
        ServerError { model: String } = Warning "provider.server_error",
            "the provider of {model} reports a server error",
            effect: "calls that start now may end with `model.unreachable`",
            fix: "try again in a minute, and check the provider's status page";
        Error { model: String, code: String } = Error "provider.error",
            "the provider of {model} refuses to start a session ({code})",
            effect: "every call ends with `model.unreachable`",
            fix: "look up the code in the provider's documentation; check address, model and `dialect`";
        Closed { model: String, code: String } = Error "provider.closed",
            "the provider of {model} closes the connection before a session starts ({code})",
            effect: "calls end with `model.unreachable`",
            fix: "check the address and the provider's status page";
        Invalid { model: String } = Error "provider.invalid",
            "the server for {model} does not speak the Realtime API",
            effect: "every call ends with `model.unreachable`",
            fix: "check that the address is that of a Realtime endpoint, and `dialect` in switchboard.yaml";
        Late { model: String } = Error "provider.late",
            "the provider of {model} does not start a session in time",
            effect: "every call ends with `model.unreachable`",
            fix: "check the address, this machine's network and the provider's status page";
        Answered { model: String, answer: String } = Error "provider.answer",
            "the server for {model} refuses the WebSocket: {answer}",
            effect: "every call ends with `model.refused` or `model.unreachable`",
            fix: "check the address and what the key may do";
        Page { model: String, answer: String } = Error "provider.answer",
            "a web page answers in place of the server for {model}: {answer}",
            effect: "every call ends with `model.refused` or `model.unreachable`",
            fix: "check the address, and what stands in front of it: a proxy, a firewall or a login";
        Unreachable { model: String, fault: String, help: &'static str } = Error "provider.reach",
            "{model} cannot be reached: {fault}",
            effect: "every call ends with `model.unreachable`",
            fix: "{help}; the address is OPENAI_REALTIME_URL, or `url` of the provider in switchboard.yaml";
        Unknown { model: String, help: String } = Warning "provider.model_unknown",
            "{model} is not among the known models of its provider",
            effect: "if the provider does not know it either, calls end with `model.refused`",
            fix: "check `model`: {help}";
        ShutDown { model: String, day: String, next: String } = Error "provider.shutdown",
            "`{model}` was shut down on {day}, according to the provider's announcement",
            effect: "every call ends with `model.refused`",
            fix: "set `model: {next}` (or the same under `transcription`), and rehearse it";
        ShutsDown { model: String, day: String, days: i64, next: String } = Warning "provider.shutdown",
            "`{model}` is shut down on {day}, in {days} days",
            effect: "from that day on, every call ends with `model.refused`",
            fix: "set `model: {next}` (or the same under `transcription`), and rehearse it";
        ShutsDownLater { model: String, day: String, next: String } = Note "provider.shutdown",
            "`{model}` is shut down on {day}",
            fix: "switch to `{next}` before that day";
    }
}

catalogue! {
    /// A check of the account at Twilio.
    Twilio {
        Account = Ok "twilio.account",
            "Twilio accepts the credentials, and the account is active";
        ApiKey = Ok "twilio.account",
            "Twilio accepts the API key; a standard key cannot show the state of the account";
        NoCredentials = Warning "twilio.credentials_missing",
            "there are no credentials for Twilio's REST API",
            effect: "the numbers cannot be checked or set, and no text message can be sent",
            fix: "set TWILIO_ACCOUNT_SID, which starts with AC, and TWILIO_AUTH_TOKEN or an API key";
        Suspended = Error "twilio.suspended",
            "the account is suspended",
            effect: "no calls come in, and nothing goes out",
            fix: "settle the open issue in Twilio's console: https://console.twilio.com";
        Closed = Error "twilio.closed",
            "the account is closed",
            effect: "no calls come in, and nothing goes out",
            fix: "set TWILIO_ACCOUNT_SID and its credentials to those of an open account";
        UnknownStatus = Warning "twilio.status",
            "the account has a status that is unknown here",
            fix: "check the account in Twilio's console: https://console.twilio.com";
        Trial = Warning "twilio.trial",
            "this is a trial account: callers hear a notice first, and only verified numbers can be called or texted",
            effect: "texts to unverified numbers fail (21608), and so do calls above the trial's limit (10004)",
            fix: "upgrade the account, or verify the numbers you test with";
        Refused { error: String, help: &'static str } = Error "twilio.credentials",
            "Twilio rejects the request: {error}",
            effect: "numbers cannot be set, and no text message is sent (20003); calls still work",
            fix: "{help}";
        Unreachable { error: String, help: &'static str } = Error "twilio.reach",
            "Twilio's numbers and texts cannot be used: {error}",
            effect: "numbers cannot be set, and no text message is sent; calls still work",
            fix: "{help}";
        NotListed { error: String, help: &'static str } = Error "number.list",
            "the account's numbers cannot be listed: {error}",
            fix: "{help}";
        NotCompared = Warning "number.list",
            "the account's numbers are not compared, because the folder in force does not pass or was not fetched",
            fix: "fix the folder first, and run `switchboard doctor` again";
        TunnelLeft = Warning "number.tunnel",
            "`tunnel.json` of a killed tunnel is left: the calls of a number may still go to its address",
            effect: "calls to that number fail (11200 or 11205)",
            fix: "run `switchboard serve --tunnel` once, which restores the number; or do that in Twilio's console and \
                  remove `tunnel.json`";
        TunnelOpen = Note "number.tunnel",
            "a tunnel is open; its number is restored when the tunnel ends";
    }
}

catalogue! {
    /// A check of the Functions of `twilio/`.
    Function {
        Allowlist = Ok "function.allowlist",
            "the allowlist Function answers and sends callers to this server";
        AllowlistRejects = Ok "function.allowlist",
            "the allowlist Function answers and rejects a caller without a number";
        Elsewhere { to: String, should: String } = Error "function.target",
            "the allowlist Function sends callers to {to}",
            effect: "calls do not reach this server (11200)",
            fix: "set WEBHOOK_URL in twilio/.env to {should}, and run `make deploy-function`";
        Fallback = Ok "function.fallback",
            "the fallback Function answers";
        NotOurs { which: &'static str, answer: String } = Error "function.answer",
            "the {which} Function gives an unexpected answer: {answer}",
            effect: "callers hear an application error (11200 or 12100)",
            fix: "run `make deploy-function`, and set TWILIO_FUNCTIONS_URL to the address it prints";
        Signature { which: &'static str } = Error "function.signature",
            "the {which} Function rejects our signature",
            effect: "none for real calls if TWILIO_AUTH_TOKEN here belongs to another account",
            fix: "set TWILIO_AUTH_TOKEN to the token of the account in which the Functions are deployed";
        Unreachable { which: &'static str, fault: String, help: &'static str } = Error "function.reach",
            "the {which} Function cannot be reached: {fault}",
            effect: "callers hear an application error (11200)",
            fix: "{help}; the address is TWILIO_FUNCTIONS_URL";
    }
}

catalogue! {
    /// A check of the server at PUBLIC_URL.
    Public {
        Ready { url: String } = Ok "public.server",
            "Switchboard answers at {url} and takes calls";
        Draining = Warning "public.draining",
            "the running server is draining and takes no new calls",
            effect: "new callers are sent to another machine, or hear the fallback",
            fix: "wait for the deploy to finish; if there is none, start `switchboard serve` again";
        RejectedEdit = Warning "public.rejected_edit",
            "the running server has rejected an edit that has errors",
            effect: "callers reach the assistants from before the edit",
            fix: "run `switchboard check` where the server runs; its log shows each error";
        OtherFolder { there: u64, here: usize } = Warning "public.folder",
            "the running server has {there} assistants, but the folder here has {here}",
            fix: "deploy the folder, or check that PUBLIC_URL is this server";
        Hidden { path: &'static str, answer: String } = Warning "public.hidden",
            "Switchboard answers, but {path} does not: {answer}",
            fix: "configure the proxy to forward {path}";
        Unreachable { url: String, fault: String, help: &'static str, webhook: &'static str, stream: &'static str } = Error "public.reach",
            "PUBLIC_URL {url} cannot be reached: {fault}",
            effect: "calls fail: {webhook} for webhooks, {stream} for streams",
            fix: "start `switchboard serve` there, or correct PUBLIC_URL; {help}";
        NotOurs { url: String, answer: String, obstacle: Obstacle } = Error "public.server",
            "something other than Switchboard answers at {url}: {answer}",
            effect: "calls fail (11200 or 12100)",
            fix: "{obstacle}";
        Slow { what: &'static str, seconds: f64 } = Warning "public.slow",
            "{what} takes {seconds:.1} s",
            effect: "callers hear silence for that long; Twilio gives up after 15 s on a webhook and 5 s on a stream",
            fix: "check the load of the machine and the proxy; on Fly set `auto_stop_machines = \"off\"`";
        Signature = Ok "public.signature",
            "a signed request arrives and is accepted";
        SignatureLost = Error "public.signature_lost",
            "the signature does not reach the running server",
            effect: "every webhook fails (11200)",
            fix: "configure the proxy to forward the header `X-Twilio-Signature`";
        SecondToken { entry: usize } = Error "public.token",
            "the running server knows entry {entry} of TWILIO_AUTH_TOKEN, but not the first",
            effect: "every webhook fails (11200)",
            fix: "start it with the TWILIO_AUTH_TOKEN that is set here; on Fly: `fly secrets set TWILIO_AUTH_TOKEN=…`";
        OtherScheme { scheme: String } = Error "public.url",
            "the running server's PUBLIC_URL starts with {scheme}://",
            effect: "every webhook fails (11200)",
            fix: "start it with the PUBLIC_URL that is set here";
        Distrusted = Error "public.signature_rejected",
            "the running server rejects a signed request: its TWILIO_AUTH_TOKEN or PUBLIC_URL differs from here",
            effect: "every webhook fails (11200)",
            fix: "compare both with what the server runs with; on Fly: `fly secrets set TWILIO_AUTH_TOKEN=…`";
        WebhookObstacle { answer: String, obstacle: Obstacle } = Error "public.webhook",
            "a signed webhook does not get through: {answer}",
            effect: "calls fail (11200)",
            fix: "{obstacle}";
        WebhookFault { fault: String, help: &'static str } = Error "public.webhook",
            "a signed webhook gets no answer: {fault}",
            effect: "calls fail (11200)",
            fix: "{help}";
        Stream = Ok "public.stream",
            "a WebSocket upgrade arrives, and is rejected without a ticket, as it should be";
        OpenStream = Error "public.stream_open",
            "PUBLIC_URL opens a stream without a ticket, so it is not Switchboard",
            effect: "no call is ever heard",
            fix: "configure the proxy to forward /media-stream/ to `switchboard serve`, or correct PUBLIC_URL";
        StreamObstacle { answer: String, obstacle: Obstacle } = Error "public.upgrade",
            "a WebSocket upgrade does not get through: {answer}",
            effect: "no call is ever heard (31920)",
            fix: "{obstacle}";
        StreamFault { fault: String, help: &'static str, stream: &'static str } = Error "public.upgrade",
            "a WebSocket upgrade gets no answer: {fault}",
            effect: "no call is ever heard ({stream})",
            fix: "{help}";
    }
}

catalogue! {
    /// A check of the MCP servers and the tools of the assistants.
    Mcp {
        Listed { server: String, tools: String } = Ok "tool.server",
            "the MCP server `{server}` has {tools}";
        NotListed { server: String, why: String } = Error "tool.server",
            "the tools of the MCP server `{server}` cannot be listed: {why}",
            effect: "calls continue without its tools",
            fix: "try it alone: `npx @modelcontextprotocol/inspector --cli URL --method tools/list`, or run its `command` in a terminal";
        Taken { server: String } = Warning "tool.wrapped",
            "the MCP server `{server}` accepts one client at a time, and has one",
            effect: "if that is not the running server, its tools are off; a second machine never gets them",
            fix: "run it as `command:`, or deploy it as a streamable HTTP server";
        Wrapped { server: String } = Warning "tool.wrapped",
            "the MCP server `{server}` was made by `fly mcp launch` and accepts one client at a time",
            effect: "with two machines, or during a deploy, one of them has no tools (409)",
            fix: "run it as `command:`, or deploy it as a streamable HTTP server";
        WrappedHosted { server: String } = Error "tool.wrapped",
            "the MCP server `{server}` was made by `fly mcp launch`, which the provider's host cannot use",
            effect: "its tools are off in every call",
            fix: "set `via: runtime`, or deploy it as a streamable HTTP server";
        Missing { server: String, tool: String, help: String } = Warning "tool.missing",
            "the MCP server `{server}` has no tool `{tool}`, which `allow` lists",
            fix: "{help}";
        Off { assistant: String, tool: String, why: String } = Warning "tool.off",
            "`{tool}` of `{assistant}` is off: {why}",
            effect: "the model cannot use it",
            fix: "check its entry in the file; `switchboard show {assistant}` lists what is available";
        SwitchedOff { assistant: String, tool: String, why: String } = Ok "tool.off",
            "`{tool}` of `{assistant}` is off: {why}";
    }
}

catalogue! {
    /// A check of clocks.
    Clock {
        Agrees { others: String } = Ok "clock.skew",
            "this machine's clock agrees with {others}";
        Ours { by: String } = Warning "clock.skew",
            "this machine's clock is {by}, compared with the other servers",
            effect: "tickets, signed messages and certificates look expired",
            fix: "synchronize the clock: `sudo timedatectl set-ntp true`";
        Differs { server: String, by: String } = Warning "clock.skew",
            "compared with {server}, this machine's clock is {by}",
            effect: "if this machine's clock is wrong, tickets and certificates look expired",
            fix: "check with `timedatectl` that this machine's clock is synchronized; otherwise the server's is wrong";
    }
}

catalogue! {
    /// A check of `fly.toml`.
    Fly {
        Good { seconds: u64 } = Ok "fly.deploy",
            "fly.toml gives calls the {seconds} s of DRAIN_SECONDS and keeps machines running";
        NotToml { line: usize } = Error "fly.file",
            "line {line} is not valid TOML",
            fix: "correct the line; `fly config validate` checks the file";
        AppExample { app: String } = Error "fly.app",
            "`app` is still `{app}`, the name of the example",
            effect: "`fly deploy` fails, or calls reach somebody else's app",
            fix: "run `fly apps create NAME`, and write `app = \"NAME\"`";
        AppUnset = Warning "fly.app",
            "`app` is not your own yet",
            effect: "none while you try it here; `fly deploy` fails",
            fix: "run `fly apps create NAME`, and write `app = \"NAME\"`";
        KillSignal { signal: String } = Error "fly.stop",
            "kill_signal is `{signal}`, which the server ignores",
            effect: "every deploy cuts calls off (31921)",
            fix: "write `kill_signal = \"SIGTERM\"` at the top";
        NoKillSignal = Warning "fly.stop",
            "kill_signal is not set",
            effect: "none with Fly's default SIGINT, which the server handles",
            fix: "write `kill_signal = \"SIGTERM\"` at the top";
        KillTimeout { needed: u64, is: u64, fits: u64 } = Error "fly.stop",
            "draining takes up to {needed} s, but Fly kills the server after {is} s",
            effect: "calls are cut off without a goodbye (31921)",
            fix: "write `kill_timeout = 300` at the top, the maximum, and DRAIN_SECONDS of at most {fits} under [env]";
        KillTimeoutInvalid = Error "fly.stop",
            "kill_timeout is not a duration such as 300 or \"5m\"",
            fix: "write `kill_timeout = 300` at the top";
        KillTimeoutLong { is: u64 } = Warning "fly.stop",
            "kill_timeout is {is} s, but Fly allows at most 300",
            fix: "write `kill_timeout = 300` at the top";
        Immediate = Error "fly.strategy",
            "the deploy strategy `immediate` replaces all machines at once",
            effect: "meanwhile nobody answers (11200)",
            fix: "write `strategy = \"bluegreen\"` under [deploy]";
        Strategy { is: String } = Warning "fly.strategy",
            "with the deploy strategy `{is}`, Fly may send calls to a machine that is about to end",
            effect: "during a deploy, some callers hear the fallback (11200)",
            fix: "write `strategy = \"bluegreen\"` under [deploy]";
        Volume = Error "fly.volume",
            "Fly rejects this deploy strategy for machines with a volume",
            effect: "`fly deploy` fails",
            fix: "remove [mounts], or write `strategy = \"rolling\"`";
        WaitTimeout { wait: u64, kill: u64 } = Warning "fly.wait",
            "wait_timeout is {wait} s, not longer than the {kill} s of kill_timeout",
            effect: "`fly deploy` stops waiting and destroys machines that have calls",
            fix: "write `wait_timeout = \"10m\"` under [deploy]";
        NoService { port: u16 } = Error "fly.service",
            "there is no [http_service], so Fly sends no requests",
            effect: "calls fail (11205)",
            fix: "write [http_service] with `internal_port = {port}`";
        Port { is: String, port: u16 } = Error "fly.port",
            "internal_port is {is}, but the server listens on {port}",
            effect: "Fly's proxy does not reach the server (502, 11200)",
            fix: "write `internal_port = {port}`, or set PORT under [env]";
        AutoStop { is: String } = Error "fly.auto_stop",
            "auto_stop_machines is `{is}`, so Fly stops machines during calls",
            effect: "calls are cut off (31921)",
            fix: "write `auto_stop_machines = \"off\"`";
        Limit { limit: u64, needed: usize } = Warning "fly.limit",
            "the proxy's hard_limit of {limit} can be used up by calls and other connections",
            effect: "above it, webhooks fail (11200), and callers hear the fallback instead of `busy`",
            fix: "set `hard_limit` above {needed}";
        NoCheck = Error "fly.check",
            "Fly does not check /readyz",
            effect: "`fly deploy` fails, or calls reach machines that are not ready (11200)",
            fix: "write `path = \"/readyz\"` under [[http_service.checks]]";
        HealthCheck = Warning "fly.check",
            "Fly checks /healthz, which is ok even while the server drains",
            effect: "calls are sent to a machine that is about to end",
            fix: "write `path = \"/readyz\"` under [[http_service.checks]]";
        MetricsPort { port: u64, is: String } = Warning "fly.metrics",
            "[metrics] has port {port}, but METRICS_PORT is {is}",
            effect: "Fly's dashboards stay empty",
            fix: "write `METRICS_PORT = \"{port}\"` under [env]";
    }
}

catalogue! {
    /// About the check itself, and what `--fix` did.
    Doctor {
        SettingsOk = Ok "settings.ok",
            "all settings are valid";
        Late { what: String, seconds: u64 } = Error "doctor.late",
            "the check of {what} did not finish within {seconds} s",
            fix: "run `switchboard doctor` again";
        EnvFileClosed = Ok "doctor.fix",
            "only its owner and its group can read `.env` now";
        EnvFileOpen { error: String } = Error "doctor.fix",
            "the permissions of `.env` cannot be changed: {error}",
            fix: "run `chmod 600 .env` as its owner";
        NumberSet { change: String } = Ok "doctor.fix",
            "set at Twilio: {change}";
        NumberNotSet { change: String, why: String, help: &'static str } = Error "doctor.fix",
            "not set at Twilio: {change}: {why}",
            fix: "{help}";
        NumbersLeft { because: &'static str } = Warning "doctor.fix",
            "the numbers are left as they are, because of `{because}`",
            fix: "fix that first, and run `switchboard doctor --fix` again";
    }
}
