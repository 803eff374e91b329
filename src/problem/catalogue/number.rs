//! Problems of phone numbers at Twilio.

use super::catalogue;

catalogue! {
    /// A check of one number.
    Number {
        Right = Ok "number.ok",
            "it calls this server";
        Unchecked { is: String } = Ok "number.unchecked",
            "it calls {is}; what it should call is unknown without a PUBLIC_URL that Twilio can reach";
        NotOwned = Error "number.not_owned",
            "the account does not own it",
            cause: "callers hear that the number is not in service",
            fix: "buy it or move it to this account, or remove it from `numbers`; TWILIO_ACCOUNT_SID names the account";
        Example = Note "number.example",
            "this number is for examples, and nobody can own it",
            fix: "replace it with your own number, by the variable in `numbers`";
        NoVoice = Error "number.no_voice",
            "it has no voice capability",
            cause: "callers hear that the number is not in service",
            fix: "buy a number with the capability Voice in Twilio's console";
        Application = Error "number.application",
            "a TwiML application answers it, so Twilio ignores the voice URL",
            cause: "calls never reach this server",
            fix: "if this server should answer it, run `switchboard numbers sync --apply --take-back`";
        Trunk = Error "number.trunk",
            "a SIP trunk answers it, so Twilio ignores the voice URL",
            cause: "calls never reach this server",
            fix: "if this server should answer it, run `switchboard numbers sync --apply --take-back`";
        FunctionInFront = Warning "number.function_in_front",
            "an allowlist Function is in front of it, but TWILIO_FUNCTIONS_URL is not set, so its voice URL stays unchanged",
            fix: "set TWILIO_FUNCTIONS_URL to the part of its voice URL before /allowlist-function";
        OpenTunnel = Note "number.tunnel",
            "it calls a tunnel that is open, and is pointed back when the tunnel ends",
            fix: "end `switchboard serve --tunnel` first";
        Tunnel { is: String } = Error "number.tunnel",
            "it calls the tunnel {is}, which may have replaced the allowlist Function",
            cause: "calls fail if the tunnel is closed (11200)",
            fix: "run `switchboard serve --tunnel` in the folder of that tunnel, which points the number back; or set \
                  TWILIO_FUNCTIONS_URL; or run `switchboard numbers sync --apply --take-back`, which lets everybody call";
        GuardedTunnel { is: String } = Error "number.tunnel",
            "it calls the tunnel {is}, which replaced the allowlist Function",
            cause: "calls fail if the tunnel is closed (11200)",
            fix: "run `switchboard serve --tunnel`, which points the number back; or set TWILIO_FUNCTIONS_URL";
        VoiceUrl { is: String, should: String } = Error "number.voice_url",
            "its voice URL is {is}, not {should}",
            cause: "calls do not reach this server",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoVoiceUrl { should: String } = Error "number.voice_url",
            "it has no voice URL; it should be {should}",
            cause: "callers hear that the number is not set up",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoAssistant = Error "number.rings_nobody",
            "it calls this server, but no assistant answers it",
            cause: "callers hear that the number is not in use",
            fix: "add it to `numbers` of an assistant";
        Unanswered = Note "number.unanswered",
            "no assistant of this folder answers it",
            fix: "if one should, add the number to its `numbers`";
        Fallback { is: String, should: String } = Warning "number.fallback",
            "its fallback URL is {is}, not {should}",
            cause: "if the server is down, callers may hear an application error",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoFallback = Note "number.no_fallback",
            "it has no fallback URL",
            cause: "if the server is down, callers hear an application error",
            fix: "run `make deploy-function` and set TWILIO_FUNCTIONS_URL";
        StatusCallback { is: String, should: String } = Warning "number.status_callback",
            "its status callback is {is}, not {should}",
            cause: "if a stream is lost, the server learns late that the call has ended",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        ByGet = Note "number.by_get",
            "its voice URL is called with GET, which works too";
        NotSet { why: String } = Error "number.not_set",
            "it could not be set: {why}",
            fix: "fix that and run the command again; it changes only what is still wrong";
    }
}
