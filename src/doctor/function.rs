//! The Functions in front of a number, asked as Twilio asks them: signed, and for a caller without a number, whom only a
//! list with `*` lets through. They only answer with TwiML, so asking is safe.

use futures_util::future::join_all;

use super::answer::{describe, header};
use super::{Findings, Net};
use crate::link::network::{Answer, Fault, ask};
use crate::problem;
use crate::problem::Problem;
use crate::problem::catalogue::Function as Found;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::wire::twilio::signature::sign;

const ALLOWLIST: &str = "allowlist";
const FALLBACK: &str = "fallback";

/// Asks both Functions, if there is an address.
pub async fn probe(settings: &Settings, net: &Net) -> Findings {
    let Some(functions) = settings.twilio_functions_url.as_deref() else { return Findings::default() };
    let tokens = &settings.twilio_auth_tokens;
    let url = |which: &str| format!("{functions}/{which}-function");
    let (allowlist, fallback) =
        tokio::join!(accepted(net, tokens, url(ALLOWLIST)), accepted(net, tokens, url(FALLBACK)));
    let webhook = settings.public_url.as_deref().map(|url| format!("{url}/incoming-call"));
    let found = [
        allowlist.map_or_else(|fault| unreachable(ALLOWLIST, fault), |answer| of_allowlist(&answer, webhook)),
        fallback.map_or_else(|fault| unreachable(FALLBACK, fault), |answer| of_fallback(&answer)),
    ];
    found.into_iter().map(Problem::new).collect::<Vec<_>>().into()
}

/// Asks with each token until one is accepted: while the token is rotated, Twilio uses the old one for a while.
async fn accepted(net: &Net, tokens: &[Secret], url: String) -> Result<Answer, Fault> {
    let first = ask_signed(net, tokens.first(), &url).await;
    if !first.as_ref().is_ok_and(is_rejection) {
        return first;
    }
    let others = join_all(tokens.iter().skip(1).map(|token| ask_signed(net, Some(token), &url))).await;
    others.into_iter().flatten().find(|answer| !is_rejection(answer)).map_or(first, Ok)
}

/// Whether Twilio rejects the signature.
fn is_rejection(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 401 | 403)
}

async fn ask_signed(net: &Net, token: Option<&Secret>, url: &str) -> Result<Answer, Fault> {
    let form = [("CallSid".to_owned(), "CA00000000000000000000000000000000".to_owned())];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
    let mut request =
        net.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
    if let Some(token) = token {
        request = request.header("x-twilio-signature", sign(token, url, &form));
    }
    ask(request).await
}

fn of_allowlist(answer: &Answer, webhook: Option<String>) -> Found {
    let Some(verbs) = twiml(answer) else { return not_ours(ALLOWLIST, answer) };
    let redirect = verbs.iter().find(|(verb, _)| verb == "Redirect").map(|(_, text)| text.trim());
    match redirect {
        Some(to) if Some(to) == webhook.as_deref() => Found::Allowlist,
        Some(to) => {
            let to = problem::shown(to.split(['?', '#']).next().unwrap_or_default());
            Found::Elsewhere { to, should: webhook.unwrap_or("PUBLIC_URL and /incoming-call".to_owned()) }
        }
        None if verbs.iter().any(|(verb, _)| matches!(verb.as_str(), "Reject" | "Say" | "Hangup")) => {
            Found::AllowlistRejects
        }
        None => not_ours(ALLOWLIST, answer),
    }
}

fn of_fallback(answer: &Answer) -> Found {
    match twiml(answer)
        .is_some_and(|verbs| verbs.iter().any(|(verb, _)| matches!(verb.as_str(), "Say" | "Dial" | "Play")))
    {
        true => Found::Fallback,
        false => not_ours(FALLBACK, answer),
    }
}

/// The verbs of a TwiML answer, with their texts.
fn twiml(answer: &Answer) -> Option<Vec<(String, String)>> {
    let is_xml = answer.status == 200 && header(answer, "content-type").contains("xml");
    let text = std::str::from_utf8(&answer.body).ok().filter(|_| is_xml)?;
    let document = roxmltree::Document::parse(text).ok()?;
    let root = document.root_element();
    let verbs = root.children().filter(roxmltree::Node::is_element);
    let verbs =
        verbs.map(|verb| (verb.tag_name().name().to_owned(), verb.text().unwrap_or_default().to_owned()));
    (root.tag_name().name() == "Response").then(|| verbs.collect())
}

fn not_ours(which: &'static str, answer: &Answer) -> Found {
    match is_rejection(answer) {
        true => Found::Signature { which },
        false => Found::NotOurs { which, answer: describe(answer) },
    }
}

fn unreachable(which: &'static str, fault: Fault) -> Found {
    Found::Unreachable { which, fault: fault.to_string(), help: fault.help() }
}
