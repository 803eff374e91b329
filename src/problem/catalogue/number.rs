//! Problems of phone numbers at Twilio.

use super::catalogue;

catalogue! {
    /// A check of one number.
    Number {
        Right = Ok "number.ok",
            "its calls go to this server";
        Unchecked { is: String } = Ok "number.unchecked",
            "its calls go to {is}; where they should go is unknown without a PUBLIC_URL that Twilio can reach";
        NotOwned = Error "number.not_owned",
            "the account does not own it",
            effect: "callers hear that the number is not in service",
            fix: "buy it, or remove it from `numbers`; if another account owns it, set TWILIO_ACCOUNT_SID to that account";
        Example = Note "number.example",
            "this number is reserved for examples, so nobody can own it",
            fix: "replace it with your own number: set the variable that `numbers` names";
        NoVoice = Error "number.no_voice",
            "it cannot receive voice calls",
            effect: "callers hear that the number is not in service",
            fix: "buy a number with the Voice capability in Twilio's console";
        Application = Error "number.application",
            "a TwiML application answers it, so Twilio ignores the voice URL",
            effect: "calls never reach this server",
            fix: "if this server should answer it, run `switchboard numbers sync --apply --take-back`";
        Trunk = Error "number.trunk",
            "a SIP trunk answers it, so Twilio ignores the voice URL",
            effect: "calls never reach this server",
            fix: "if this server should answer it, run `switchboard numbers sync --apply --take-back`";
        FunctionInFront = Warning "number.function_in_front",
            "an allowlist Function is in front of it, but TWILIO_FUNCTIONS_URL is not set, so its voice URL stays unchanged",
            fix: "set TWILIO_FUNCTIONS_URL to the part of its voice URL before /allowlist-function";
        OpenTunnel = Note "number.tunnel",
            "its calls go to an open tunnel, and it is restored when the tunnel ends",
            fix: "end `switchboard serve --tunnel` first";
        Tunnel { is: String } = Error "number.tunnel",
            "its calls go to the tunnel {is}, which may have replaced the allowlist Function",
            effect: "calls fail if the tunnel is closed (11200)",
            fix: "run `switchboard serve --tunnel` in the folder of that tunnel, which restores the number; or set \
                  TWILIO_FUNCTIONS_URL; or run `switchboard numbers sync --apply --take-back`, which lets everybody call";
        GuardedTunnel { is: String } = Error "number.tunnel",
            "its calls go to the tunnel {is}, which replaced the allowlist Function",
            effect: "calls fail if the tunnel is closed (11200)",
            fix: "run `switchboard serve --tunnel`, which restores the number; or set TWILIO_FUNCTIONS_URL";
        VoiceUrl { is: String, should: String } = Error "number.voice_url",
            "its voice URL should be {should}, but is {is}",
            effect: "calls do not reach this server",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoVoiceUrl { should: String } = Error "number.voice_url",
            "its voice URL should be {should}, but is not set",
            effect: "callers hear that the number is not set up",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoAssistant = Error "number.rings_nobody",
            "its calls go to this server, but no assistant answers it",
            effect: "callers hear that the number is not in use",
            fix: "add it to `numbers` of an assistant";
        Unanswered = Note "number.unanswered",
            "no assistant of this folder answers it",
            fix: "if one should, add the number to its `numbers`";
        Fallback { is: String, should: String } = Warning "number.fallback",
            "its fallback URL should be {should}, but is {is}",
            effect: "if the server is down, callers may hear an application error",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        NoFallback = Note "number.no_fallback",
            "it has no fallback URL",
            effect: "if the server is down, callers hear an application error",
            fix: "run `make deploy-function` and set TWILIO_FUNCTIONS_URL";
        StatusCallback { is: String, should: String } = Warning "number.status_callback",
            "its status callback should be {should}, but is {is}",
            effect: "if a stream is lost, the server learns late that the call has ended",
            fix: "run `switchboard numbers sync --apply`, with --all if only `*` answers the number";
        ByGet = Note "number.by_get",
            "its voice URL is called with GET, which works too";
        NotSet { why: String } = Error "number.not_set",
            "it could not be set: {why}",
            fix: "fix that and run the command again; it changes only what is still wrong";
    }
}
