//! Problems of settings: the environment, `.env` and `switchboard.yaml`.

use super::catalogue;
use crate::problem::Suggestion;

catalogue! {
    /// A problem of a setting, or of a provider in `switchboard.yaml`.
    Setting {
        NotAMap { found: &'static str } = Error "setting.type",
            "the settings must be a map such as `port: 5050`, but this is {found}";
        Unknown { name: String, suggestion: Suggestion } = Error "setting.unknown",
            "there is no setting `{name}`",
            fix: "{suggestion}";
        Duplicate { name: String } = Error "setting.double",
            "`{name}` is set twice",
            fix: "remove one of the two";
        Type { name: String, expected: &'static str, found: &'static str } = Error "setting.type",
            "`{name}` must be {expected}, but this is {found}";
        Value { name: &'static str, expected: String, shown: String } = Error "setting.value",
            "{name} must be {expected}; `{shown}` is not",
            effect: "`switchboard serve` does not start",
            fix: "change it, or unset it to use the default";
        Address { name: String, why: String } = Error "setting.value",
            "{name} {why}",
            effect: "`switchboard serve` does not start";
        SharedKey { pair: usize } = Error "setting.value",
            "TWILIO_SHARED_KEYS must be `id=secret` pairs separated by commas; pair {pair} is not";
        PeerUrlWithoutMachine = Error "setting.value",
            "PEER_URL must contain `{{machine}}`, the placeholder for a machine's name";
        PeerUrlWithoutApp = Error "setting.value",
            "PEER_URL contains `{{app}}`, but FLY_APP_NAME is not set",
            fix: "write the app's name";
        PeerUrl = Error "setting.value",
            "PEER_URL must be a URL such as `http://{{machine}}.vm.{{app}}.internal:5050`, without a user, `?` or `#`";
        SamePort { port: u16 } = Error "setting.value",
            "METRICS_PORT and PORT are both {port}",
            effect: "`switchboard serve` does not start",
            fix: "set METRICS_PORT to another port; or unset it and set METRICS_TOKEN to serve /metrics on the main port";
        LogFilter { error: String } = Error "setting.value",
            "RUST_LOG is not a valid filter: {error}",
            effect: "`switchboard serve` does not start",
            fix: "write a level, such as RUST_LOG=info, or add modules: RUST_LOG=info,switchboard::session=debug";

        PublicUrlHttp = Warning "setting.http",
            "PUBLIC_URL starts with http://, so Twilio rejects the stream (31922)",
            effect: "callers hear `on_failure` instead of the assistant",
            fix: "use https://, also behind a proxy";
        PublicUrlUnreachable { name: String, why: String } = Warning "setting.out_of_reach",
            "{name} {why}",
            effect: "Twilio cannot reach it (11205)",
            fix: "set it to an https address that the internet can reach; for development run `switchboard serve --tunnel`";
        HostIpv4 = Warning "setting.ipv4",
            "HOST is an IPv4 address, but Fly's private network is IPv6",
            effect: "no other machine can reach this one, so calls whose webhooks reach another machine fail",
            fix: "unset HOST, or set it to `::`";
        TokenUnused = Warning "setting.unused",
            "ASSISTANTS_TOKEN is set, but ASSISTANTS_URL is not, so nothing is fetched",
            fix: "set ASSISTANTS_URL, or unset ASSISTANTS_TOKEN";
        ClearText { name: String, scheme: String, safe: &'static str, what: &'static str } = Warning "setting.clear_text",
            "{name} starts with {scheme}://, so {what} are sent in clear text",
            fix: "use {safe}://, unless the whole network path is private";
        LogsNothing = Warning "setting.log",
            "RUST_LOG names neither a level nor a module of this program, so it is ignored",
            fix: "write error, warn, info, debug or trace, such as RUST_LOG=info";
        StateDir { error: String } = Warning "setting.state",
            "STATE_DIR cannot be written to: {error}",
            effect: "records of calls, messages from callers and prepared lines are kept in memory and lost with the process",
            fix: "set STATE_DIR to a folder that the user who runs the server can write to";
        DatabaseIsFolder = Warning "setting.database",
            "DATABASE_URL names a folder, not a file",
            effect: "records of calls are not kept",
            fix: "add the name of a file, such as sqlite://state/switchboard.db";
        DatabaseFolder { folder: String } = Warning "setting.database",
            "DATABASE_URL names a file in `{folder}`, which does not exist",
            effect: "records of calls are not kept until it does",
            fix: "create the folder, or correct the path: sqlite:// and a path from here, or sqlite:/// and one from the root";
        DatabaseNotWritable { folder: String, error: String } = Warning "setting.database",
            "DATABASE_URL names a file in `{folder}`, which cannot be written to: {error}",
            effect: "records of calls are not kept",
            fix: "give the user who runs the server the right to write there, or name another folder";
        RecordsEndWithMachine = Warning "setting.records_end",
            "the records of calls are on the disk of a Fly machine, which ends with the machine",
            effect: "every deploy loses them",
            fix: "run `fly postgres attach` and set DATABASE_URL; or mount a volume at STATE_DIR, with one machine and `strategy = \"rolling\"`: see docs/deploy.md";

        MissingKey = Error "setting.missing",
            "OPENAI_API_KEY is not set",
            effect: "`switchboard serve` does not start",
            fix: "set OPENAI_API_KEY=sk-… in `.env`; to try without a key, run `switchboard rehearse`";
        MissingToken = Error "setting.missing",
            "TWILIO_AUTH_TOKEN is not set",
            effect: "`switchboard serve` does not start: it could not verify that requests come from Twilio",
            fix: "copy the auth token from the start page of Twilio's console into `.env`; to try without Twilio, run `switchboard rehearse`";
        MissingPublicUrl = Error "setting.missing",
            "PUBLIC_URL is not set",
            effect: "`switchboard serve` does not start: it could not tell Twilio where to open streams",
            fix: "set PUBLIC_URL to the https address that Twilio calls, such as https://phone.example.com; or run `switchboard serve --tunnel`";
        MissingAccount = Error "setting.missing",
            "TWILIO_ACCOUNT_SID is not set",
            effect: "Twilio does not list the numbers of the account",
            fix: "copy it from the start page of Twilio's console into `.env`; it starts with AC";
        MissingCredentials = Error "setting.missing",
            "neither TWILIO_AUTH_TOKEN nor TWILIO_API_KEY and TWILIO_API_SECRET are set",
            effect: "Twilio does not list the numbers of the account",
            fix: "copy the auth token from the start page of Twilio's console into `.env`, or create an API key there";

        Placeholder { name: String, fix: &'static str } = Error "setting.placeholder",
            "{name} is still a placeholder",
            effect: "`switchboard serve` does not start",
            fix: "{fix}";
        UnusedPlaceholder { name: String, fix: &'static str } = Warning "setting.placeholder",
            "{name} is still a placeholder",
            fix: "{fix}";
        Quoted { name: String } = Warning "setting.secret",
            "{name} has quotes around it, which are sent as a part of it",
            fix: "remove them; `docker run --env-file` keeps the quotes of its file";
        SchemeTwice { name: String, scheme: &'static str } = Error "setting.secret",
            "{name} starts with `{scheme}`, but the word before the token is sent anyway",
            fix: "remove `{scheme}` and the space after it";
        Whitespace { name: String, fix: &'static str } = Warning "setting.secret",
            "{name} contains a space or a line break",
            fix: "{fix}";
        NotAscii { name: String, fix: &'static str } = Warning "setting.secret",
            "{name} contains a character that is not ASCII",
            fix: "{fix}";
        TokenIsSid { name: String } = Error "setting.secret",
            "{name} is a SID, not an auth token",
            effect: "every request from Twilio is rejected (11200)",
            fix: "copy the auth token, which is shown below the account SID";
        TokenIsApiSecret { name: String } = Warning "setting.secret",
            "{name} is the secret of the API key, which does not sign webhooks",
            effect: "every request from Twilio is rejected (11200)",
            fix: "copy the auth token from the start page of Twilio's console";
        TokenShape { name: String, length: usize } = Warning "setting.secret",
            "{name} does not look like an auth token: it has {length} characters; a token has 32 hex digits in lower case",
            effect: "every request from Twilio is rejected (11200)",
            fix: "copy it again from the start page of Twilio's console, without spaces and quotes";
        SidShape { name: &'static str, prefix: &'static str } = Warning "setting.secret",
            "{name} must be `{prefix}` and 32 hex digits in lower case",
            effect: "text messages fail, and the numbers at Twilio cannot be listed (20003)",
            fix: "copy it again from Twilio's console";
        HalfKeyPair { set: &'static str, missing: &'static str } = Warning "setting.secret",
            "{set} is set, but {missing} is not, so the auth token is used",
            fix: "set both; Twilio shows a key's secret once, when the key is created";
        KeyShape = Warning "setting.secret",
            "OPENAI_API_KEY does not start with `sk-`, as OpenAI's keys do",
            effect: "calls end with `model.refused`",
            fix: "create a key at https://platform.openai.com/api-keys and copy all of it, without quotes";
        ShortToken { name: &'static str } = Warning "setting.secret",
            "{name} is so short that it can be guessed",
            fix: "set it to the output of `openssl rand -hex 24`";
        OpenEnvFile = Warning "setting.permissions",
            "other users of this machine can read this file, which contains secrets",
            fix: "run `chmod 600 .env`, or `switchboard doctor --fix`";
        Certificates { error: String } = Error "setting.certificates",
            "{error}",
            effect: "no server can be reached by TLS, so every call ends with `model.unreachable`",
            fix: "set SSL_CERT_FILE to a PEM bundle, or unset it to use the certificates of the system";

        FromUnused = Warning "setting.unused",
            "SMTP_FROM is set, but SMTP_URL is not, so nothing is sent by e-mail",
            fix: "set SMTP_URL, or unset SMTP_FROM";
        MailServer { error: String } = Error "setting.value",
            "{error}",
            effect: "`switchboard serve` does not start";
        AlertsWithoutTo = Error "alerts.to",
            "`alerts` does not say where they go",
            fix: "write for example `to: {{ email: owner@example.com }}`";
        AlertsWhen { shown: String, suggestion: Suggestion } = Error "alerts.when",
            "there is no alert `{shown}`",
            fix: "{suggestion}";
        Dollars { name: &'static str, least: f64, most: f64 } = Error "limits.dollars",
            "`{name}` must be an amount in dollars, from {least} to {most}",
            fix: "write it like `{name}: 20`";

        Price { name: &'static str, most: f64 } = Error "setting.price",
            "`{name}` must be a price in dollars, from 0 to {most}",
            fix: "write dollars for a million tokens, or for a minute, such as `{name}: 0.4`";
        PriceDate = Error "setting.price",
            "`date` must be a date such as 2026-11-30",
            fix: "write the day on which you read the prices";

        ProviderBuiltIn = Error "provider.builtin",
            "`openai` is built in and cannot be defined again",
            fix: "set OPENAI_REALTIME_URL and OPENAI_API_KEY, or choose another name";
        ProviderName { name: String } = Error "provider.name",
            "`{name}` is not a valid name for a provider",
            fix: "use a to z, 0 to 9 and -, at most 64 characters";
        ProviderWithoutUrl { name: String } = Error "provider.url",
            "the provider `{name}` has no `url`",
            fix: "add its address, such as `url: wss://example.com/v1/realtime`";
        ProviderUrl { why: String } = Error "provider.url",
            "`url` {why}",
            fix: "write it like wss://example.com/v1/realtime";
        ProviderKey = Error "provider.key",
            "`key` contains a space or a character that is not ASCII";
        ProviderAuth = Error "provider.auth",
            "`auth` must be `bearer` or the name of a header",
            fix: "write `auth: bearer`, or for example `auth: api-key`";
        ProviderModel = Error "provider.model",
            "a model has no `name`",
            fix: "write for example `models: [{{ name: reception, reasoning: true }}]`";
        ProviderSession { shown: String } = Error "provider.session",
            "`session` must be from 1m to 24h; `{shown}` is not",
            fix: "write it like `30m` or `2h`";
        ProviderRange { name: &'static str, least: f64, most: f64 } = Error "provider.range",
            "`{name}` must be a list of the lowest and the highest value",
            fix: "write it like `{name}: [{least}, {most}]`, which are the limits";
        ProviderWord { name: &'static str, shown: String, suggestion: Suggestion } = Error "provider.word",
            "`{shown}` is not a valid value of `{name}`",
            fix: "{suggestion}";
        ProviderKeyUnknown { name: String, parent: String, suggestion: Suggestion } = Error "key.unknown",
            "there is no key `{name}` in `{parent}`",
            fix: "{suggestion}";
    }
}
