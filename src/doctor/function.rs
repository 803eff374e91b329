//! The Functions in front of a number, asked as Twilio asks them: signed, and by a caller without a number, whom no
//! list lets in but `*`. They answer with TwiML and do nothing else, so asking is safe.

use futures_util::future::join_all;

use super::net::{self, Answer, Fault, Net};
use super::report::Finding;
use crate::problem;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::wire::twilio::signature::sign;

/// What `make deploy-function` mends.
const DEPLOY: &str = "run `make deploy-function`, and set TWILIO_FUNCTIONS_URL to the address that it prints";
const FRONT: &str = "/allowlist-function";
const FALLBACK: &str = "/fallback-function";

/// Asks both, where there is an address.
pub async fn check(settings: &Settings, net: &Net) -> Vec<Finding> {
    let Some(functions) = settings.twilio_functions_url.as_deref() else { return Vec::new() };
    let tokens = &settings.twilio_auth_tokens;
    let (front, fallback) = tokio::join!(
        believed(net, tokens, format!("{functions}{FRONT}")),
        believed(net, tokens, format!("{functions}{FALLBACK}"))
    );
    let webhook = settings.public_url.as_deref().map(|url| format!("{url}/incoming-call"));
    vec![
        match front {
            Ok(answer) => of_front(&answer, functions, webhook.as_deref()),
            Err(fault) => of_fault("function.allowlist", "the Function in front", &fault),
        },
        match fallback {
            Ok(answer) => of_fallback(&answer, functions),
            Err(fault) => of_fault("function.fallback", "the fallback Function", &fault),
        },
    ]
}

/// Asks with each token, until one is believed: while the token is rotated, Twilio checks with the old one for a time.
async fn believed(net: &Net, tokens: &[Secret], url: String) -> Result<Answer, Fault> {
    let first = ask(net, tokens.first(), &url).await;
    if !first.as_ref().is_ok_and(is_refusal) {
        return first;
    }
    let others = join_all(tokens.iter().skip(1).map(|token| ask(net, Some(token), &url))).await;
    others.into_iter().flatten().find(|answer| !is_refusal(answer)).map_or(first, Ok)
}

/// Whether it is how Twilio answers whom it does not believe.
fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 401 | 403)
}

async fn ask(net: &Net, token: Option<&Secret>, url: &str) -> Result<Answer, Fault> {
    let form = [("CallSid".to_owned(), "CA00000000000000000000000000000000".to_owned())];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
    let mut request =
        net.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
    if let Some(token) = token {
        request = request.header("x-twilio-signature", sign(token, url, &form));
    }
    net.ask(request).await
}

fn of_front(answer: &Answer, functions: &str, webhook: Option<&str>) -> Finding {
    const CHECK: &str = "function.allowlist";
    let verbs = match twiml(answer) {
        Some(verbs) => verbs,
        None => return of_answer(CHECK, functions, "the Function in front", answer),
    };
    let redirect = verbs.iter().find(|(verb, _)| verb == "Redirect").map(|(_, text)| text.trim());
    match (redirect, webhook) {
        (Some(to), Some(webhook)) if to == webhook => {
            Finding::ok(CHECK, "the Function in front answers, lets every caller in, and sends them here")
        }
        (Some(to), _) => {
            let to = problem::shown(to.split(['?', '#']).next().unwrap_or_default());
            let finding =
                Finding::error(CHECK, format!("the Function in front sends callers to {to}, not here"));
            finding.causes("11200 where nothing answers there: callers hear the fallback URL").fix(
                match webhook {
                    Some(webhook) => format!(
                        "set WEBHOOK_URL of the Functions to {webhook}, and run `make deploy-function`"
                    ),
                    None => "set WEBHOOK_URL of the Functions to PUBLIC_URL and /incoming-call".to_owned(),
                },
            )
        }
        (None, _) if verbs.iter().any(|(verb, _)| matches!(verb.as_str(), "Reject" | "Say" | "Hangup")) => {
            Finding::ok(
                CHECK,
                "the Function in front answers, and refuses a caller without a number; whether ALLOWED_NUMBERS and \
                 WEBHOOK_URL are right, a call from a number on the list shows, and the Function's log",
            )
        }
        (None, _) => Finding::error(
            CHECK,
            format!(
                "the Function in front neither refuses a caller without a number nor sends it here ({})",
                answer.seen()
            ),
        )
        .causes("callers hear nothing, and the call ends")
        .fix(DEPLOY),
    }
}

fn of_fallback(answer: &Answer, functions: &str) -> Finding {
    const CHECK: &str = "function.fallback";
    match twiml(answer) {
        Some(verbs) if verbs.iter().any(|(verb, _)| matches!(verb.as_str(), "Say" | "Dial" | "Play")) => {
            Finding::ok(CHECK, "the Function that speaks when the server is down answers")
        }
        Some(_) => Finding::warning(CHECK, "the Function that speaks when the server is down says nothing")
            .causes("when the server is down (11200), callers hear nothing, and the call ends")
            .fix(DEPLOY),
        None => of_answer(CHECK, functions, "the fallback Function", answer),
    }
}

/// The verbs of an answer that is TwiML, with their texts.
fn twiml(answer: &Answer) -> Option<Vec<(String, String)>> {
    if answer.status != 200 || !answer.header("content-type").contains("xml") {
        return None;
    }
    let document = roxmltree::Document::parse(&answer.body).ok()?;
    let root = document.root_element();
    let verbs = root.children().filter(roxmltree::Node::is_element);
    let verbs =
        verbs.map(|verb| (verb.tag_name().name().to_owned(), verb.text().unwrap_or_default().to_owned()));
    (root.tag_name().name() == "Response").then(|| verbs.collect())
}

/// What comes of a Function that does not do its work.
fn failing(check: &str, code: &str) -> String {
    match check {
        "function.fallback" => {
            format!("when the server is down, callers hear an application error ({code}), and the call ends")
        }
        _ => format!("{code} on every call"),
    }
}

/// `functions`: the address that was asked.
fn of_answer(check: &'static str, functions: &str, who: &str, answer: &Answer) -> Finding {
    let (what, cause, fix) = match answer.status {
        404 => ("is not there", failing(check, "11200"), DEPLOY),
        _ if is_refusal(answer) => (
            "does not believe that Twilio asks: the signature is not by the token of its account",
            "none for real calls, if only the TWILIO_AUTH_TOKEN here is another account's".to_owned(),
            "set TWILIO_AUTH_TOKEN to the token of the account that the Functions are deployed in",
        ),
        300..=399 => (
            "sends whoever asks elsewhere",
            failing(check, "11200"),
            match (answer.leads_away(), answer.leads_back(functions)) {
                (true, true) => "set TWILIO_FUNCTIONS_URL to where it leads",
                (true, false) => net::IN_BETWEEN,
                (false, _) => "check TWILIO_FUNCTIONS_URL: https://NAME-1234.twil.io",
            },
        ),
        429 => ("is asked too often", failing(check, "11200"), "try again in a minute"),
        504 => (
            "takes longer than a Function may",
            failing(check, "11200"),
            "look at its log in Twilio's console, and deploy it again",
        ),
        500..=599 => (
            "breaks down",
            failing(check, "11200"),
            "look at its log in Twilio's console, and run `make deploy-function`",
        ),
        200..=299 if answer.is_page() => (
            "answers with a web page",
            failing(check, "12100: a web page is no TwiML"),
            "check TWILIO_FUNCTIONS_URL: https://NAME-1234.twil.io",
        ),
        200..=299 => ("answers with something that is no TwiML", failing(check, "12100"), DEPLOY),
        _ => ("answers in a way that Functions do not answer", failing(check, "11200"), DEPLOY),
    };
    Finding::error(check, format!("{who} {what} ({})", answer.seen())).causes(cause).fix(fix)
}

fn of_fault(check: &'static str, who: &str, fault: &Fault) -> Finding {
    let (webhook, _) = fault.twilio();
    Finding::error(check, format!("{who} is not reached: {fault}"))
        .causes(failing(check, webhook))
        .fix(format!("check TWILIO_FUNCTIONS_URL; {}", fault.help()))
}
