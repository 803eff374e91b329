//! Problems of the tools in an assistant's file: `mcp`, `functions` and `call_control`.

use super::catalogue;
use crate::problem::Suggestion;

catalogue! {
    /// A problem of a tool in an assistant's file.
    Tool {
        Name { name: String, key: &'static str } = Error "tool.name",
            "`{name}` cannot be a name in `{key}`",
            fix: "use letters, digits, - and _, at most 64 characters";
        NameBuiltIn { name: String } = Error "tool.name",
            "`{name}` is built in",
            fix: "give the function another name; `call_control` turns the built-in tool on";
        FillerTooLate { timeout: String } = Warning "tool.filler",
            "`filler_after` has no effect: it is not shorter than `timeout` ({timeout})",
            fix: "shorten it, or remove it";
        SecretLiteral { name: String } = Warning "secret.literal",
            "the secret `{name}` is written in the file",
            fix: "set it in the environment, and write \"${{NAME}}\" with the variable's name";
        SecretShape { what: &'static str } = Warning "secret.literal",
            "this looks like {what}: whoever reads this file has it, and a model may say what it reads",
            fix: "delete it, and replace the key where it was created; where a key is needed, write \"${{NAME}}\"";
        SecretInserted { what: &'static str } = Warning "secret.text",
            "a variable puts what looks like {what} into this text, and a model may say what it reads",
            fix: "remove the variable from the text";

        Url { key: String } = Error "url.invalid",
            "`{key}` is not the address of a server",
            fix: "write https:// or http:// and the host";
        UrlLogin = Error "url.invalid",
            "the address contains a user name or a password",
            fix: "log in with `headers`, or in `mcp` with `user` and `password`";
        UrlHost = Error "url.invalid",
            "the host of the address cannot come from a template",
            fix: "write the host and a / before the first {{{{";
        HeaderName { name: String } = Error "header.name",
            "`{name}` cannot be the name of a header",
            fix: "use letters, digits and -, such as X-Api-Key";
        HeaderReserved { name: String } = Error "header.name",
            "the server sets the header `{name}` itself",
            fix: "remove it";
        HeaderLineBreak { name: String } = Error "header.value",
            "the header `{name}` contains a line break",
            fix: "write it on one line";

        TooManyServers { most: usize } = Error "mcp.many",
            "there are more than {most} MCP servers",
            fix: "remove some: no model takes that many tools";
        ServerWithoutPlace { name: String } = Error "mcp.where",
            "the MCP server `{name}` has no `url` and no `command`",
            fix: "write `url` with its address, or `command` to start a program";
        UrlAndCommand = Error "mcp.where",
            "an MCP server has a `url` or a `command`, not both",
            fix: "remove one of the two";
        CommandNotList = Error "mcp.command",
            "`command` must be a list of the program and its arguments",
            fix: "write `command: [npx, -y, \"@example/server\"]`";
        ProviderNeedsPublicUrl = Error "mcp.via",
            "`via: provider` needs a public https:// address, because the model's host connects to it",
            fix: "write `via: runtime` for a private server";
        ProviderNeedsUrl = Error "mcp.via",
            "`via: provider` needs a `url`, because the model's host cannot start a program here",
            fix: "write `via: runtime`, or a `url`";
        ProviderUnsupported { provider: String } = Error "mcp.via",
            "`{provider}` cannot connect to MCP servers",
            fix: "write `via: runtime`; if it can after all, set `abilities: {{ hosted_mcp: true }}` for that provider in switchboard.yaml";
        FixedNeedsRuntime = Error "mcp.via",
            "`fixed` needs `via: runtime`, because the model's host calls the tool",
            fix: "write `via: runtime`, or remove `fixed`";
        Unused { key: &'static str, with: &'static str } = Warning "mcp.no_effect",
            "`{key}` has no effect with `{with}`",
            fix: "remove it";
        NotAllowed { tool: String } = Warning "mcp.not_allowed",
            "`{tool}` is not in `allow`, so the model never sees it",
            fix: "add it to `allow`, or remove it here";
        ApprovalNeedsAllow = Error "mcp.approval",
            "`approval: never` for one tool of a server with `approval: always` needs `allow`",
            fix: "list every tool in `allow`: the model's host needs their names";
        CredentialEmpty { key: &'static str } = Error "mcp.credentials",
            "`{key}` is empty",
            fix: "remove it";
        CredentialLineBreak { key: &'static str } = Error "mcp.credentials",
            "`{key}` contains a line break",
            fix: "write it on one line";
        TokenWithScheme { scheme: &'static str } = Error "token.scheme",
            "the token starts with `{scheme}`, but is sent behind such a word already",
            fix: "write the token alone, without `{scheme}`";
        CredentialsTwice = Error "mcp.credentials",
            "there is more than one way to log in",
            fix: "keep one: `token`, `user` and `password`, or a header `Authorization`";
        UserWithColon = Error "mcp.credentials",
            "a `user` cannot contain a colon",
            fix: "write the password in `password`";
        CredentialMissing { given: &'static str, missing: &'static str } = Error "mcp.credentials",
            "there is a `{given}` but no `{missing}`",
            fix: "write both, or a `token`";

        TooManyFunctions { most: usize } = Error "function.many",
            "there are more than {most} functions",
            fix: "remove some: no model takes that many tools";
        TooManyTemplates { most: usize } = Error "function.many",
            "the requests of this file contain more than {most} templates",
            fix: "remove some";
        DescriptionMissing { name: String } = Error "function.description",
            "the function `{name}` has no `description`",
            fix: "tell the model in a sentence what it does and when to use it";
        DestinationMissing { name: String } = Error "function.where",
            "the function `{name}` needs either `mcp` or `http`",
            fix: "write `mcp: {{ server: …, tool: … }}` or `http: {{ url: … }}`";
        DestinationIncomplete { key: &'static str, missing: &'static str } = Error "function.where",
            "`{key}` has no `{missing}`";
        ParametersType = Error "function.parameters",
            "`parameters` must be a JSON Schema of `type: object`",
            fix: "write `parameters: {{ type: object, properties: {{ title: {{ type: string }} }} }}`";
        ParameterSchema { name: String, found: &'static str } = Error "function.parameters",
            "`{name}` must be a JSON Schema, not {found}",
            fix: "write `{name}: {{ type: string }}`";
        RequiredUnknown { name: String, suggestion: Suggestion } = Error "function.parameters",
            "`required` lists `{name}`, which is not in `properties`",
            fix: "{suggestion}";
        SchemaType { word: String, suggestion: Suggestion } = Error "schema.type",
            "JSON Schema has no type `{word}`",
            fix: "{suggestion}";
        SchemaTypeNotText { found: &'static str } = Error "schema.type",
            "`type` in a JSON Schema must be a word, not {found}",
            fix: "write `type: string`; the word \"null\" needs quotes";
        SchemaInvalid { why: String } = Error "schema.invalid",
            "this is not a JSON Schema: {why}",
            fix: "correct it; https://json-schema.org/understanding-json-schema explains every keyword";
        SchemaReference = Error "schema.invalid",
            "a `$ref` in this JSON Schema leads nowhere",
            fix: "write the schema in `$defs` of the same schema, and refer to it as \"#/$defs/NAME\"";
        ServerUnknown { name: String, suggestion: Suggestion } = Error "function.server",
            "there is no MCP server `{name}` in `mcp`",
            fix: "{suggestion}";
        FunctionNeedsRuntime = Error "function.server",
            "a function cannot use a server with `via: provider`",
            fix: "write `via: runtime` for the server, or remove the function";
        GetWithBody = Error "function.body",
            "a `GET` request has no `body`",
            fix: "write `method: POST`, or put the values in the `url`";
        AnswerPath = Error "function.answer",
            "`answer` must be a path of names and indices",
            fix: "separate them with dots, such as tasks.0.title";
        RequestFails { error: String } = Error "function.request",
            "with sample arguments the function fails, and the model reads \"{error}\"",
            fix: "check the templates of the request";

        TransferWithoutNumber { name: String } = Error "transfer.number",
            "`{name}` has no `number`",
            fix: "write `number: \"+1555…\"`";
        MessageWithoutTo = Error "message.where",
            "`take_message` does not say where messages go",
            fix: "write `to: {{ email: … }}`; the other ways are `sms`, `webhook` and `file`";
        EmailInvalid { value: String } = Error "message.email",
            "`{value}` is not an e-mail address",
            fix: "write one address, such as owner@example.com";
        FileName { value: String } = Error "message.file",
            "`{value}` cannot be a file for messages",
            fix: "write a name of letters, digits, - and _ that ends in .jsonl, without a folder, such as messages.jsonl: the file is created in STATE_DIR";
        WebhookWithoutUrl = Error "message.where",
            "`webhook` has no `url`",
            fix: "write the address that gets the requests";
        WebhookWithoutSecret = Error "message.secret",
            "`webhook` has no `secret`, so your server could not verify the requests",
            fix: "write `secret: \"${{MESSAGES_SECRET}}\"`";
        WebhookSecretInvalid = Error "message.secret",
            "`secret` must be `whsec_` and a key in base64",
            fix: "make one: echo \"whsec_$(openssl rand -base64 32)\"";
        WebhookSecretUnmarked = Warning "message.secret",
            "`secret` does not start with `whsec_`",
            effect: "most receivers follow Standard Webhooks and would reject the requests",
            fix: "make one: echo \"whsec_$(openssl rand -base64 32)\"";
        WebhookSecretShort { least: usize } = Warning "message.secret",
            "`secret` is too short: Standard Webhooks asks for at least {least} bytes",
            fix: "make one: echo \"whsec_$(openssl rand -base64 32)\"";
        NotifyWithoutTo = Error "notify.where",
            "`notify` does not say where notifications go",
            fix: "write `to: {{ email: … }}`; the other ways are `sms`, `webhook` and `file`";
        NotifyNever = Error "notify.when",
            "`when` is empty, so there is never a notification",
            fix: "write `when: always`, or remove `notify`";
        OccasionDuplicate { word: String } = Error "notify.when",
            "`{word}` is listed twice",
            fix: "keep one of the two";
        OccasionCovered { word: String } = Warning "notify.when",
            "`{word}` has no effect beside `always`",
            fix: "remove it, or remove `always`";
        OccasionNever { word: String, key: &'static str } = Warning "notify.when",
            "`{word}` never happens, because the file has no `{key}`",
            fix: "write `{key}`, or remove `{word}`";
        FormEmpty = Warning "after_call.empty",
            "`after_call` asks for nothing, so it has no effect",
            fix: "write `summary: true`, or `fields`";
        FormSummaryTwice = Error "after_call.summary",
            "`summary` is also the name of a field",
            fix: "give the field another name, or write `summary: false`";
        FormUnused { provider: String } = Warning "after_call.no_effect",
            "`after_call` has no effect: `{provider}` cannot fill in a form after a call",
            fix: "remove it; if it can after all, set `abilities: {{ forms: true }}` for that provider in switchboard.yaml";
        FieldDuplicate { name: String } = Error "message.fields",
            "`{name}` is listed twice",
            fix: "keep one of the two";
        FieldSchema { name: String, found: &'static str } = Error "message.fields",
            "`{name}` in `fields` must be a JSON Schema, not {found}",
            fix: "write `{name}: {{ type: string }}`, or a list of names";
    }
}
