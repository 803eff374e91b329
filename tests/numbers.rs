//! The account's numbers: the REST client, and the commands that list and set them, against a simulated Twilio.

use std::time::Duration;

use serde_json::json;
use switchboard::link::twilio_rest::{Account, Change, RestError, Standing, Status};
use switchboard::secret::Secret;
use switchboard::serve;
use switchboard::simulate::twilio::{ACCOUNT, AccountOptions, RestFault, RestServer, number};

const VOICE: &str = "https://phone.example.com/incoming-call";

fn account(twilio: &RestServer, password: &str) -> Account {
    let tls = serve::client_config(false, None).unwrap();
    Account::new(twilio.url(), ACCOUNT, ACCOUNT, Secret::new(password), &tls).unwrap()
}

/// An account with so many numbers, from +15550100001.
fn owning(count: usize) -> AccountOptions {
    let numbers = (1..=count).map(|index| number(index, &format!("+1555010{index:04}"))).collect();
    AccountOptions { numbers, ..AccountOptions::default() }
}

#[tokio::test]
async fn numbers_come_page_by_page() {
    let twilio = RestServer::start(AccountOptions { longest_page: 2, ..owning(5) }).await.unwrap();
    let numbers = account(&twilio, "12345").numbers().await.unwrap();
    let listed: Vec<_> = numbers.iter().map(|number| number.number.expose()).collect();
    assert_eq!(listed, ["+15550100001", "+15550100002", "+15550100003", "+15550100004", "+15550100005"]);
    assert_eq!(numbers[0].voice_url.as_deref(), Some("https://demo.twilio.com/welcome/voice/"));
    assert_eq!((numbers[0].fallback_url.as_ref(), numbers[0].trunk.as_ref()), (None, None));
    assert_eq!(twilio.requests().len(), 3);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stays_is_told() {
    let refused = |status, code| Err(RestError::Refused { status, code });
    let proxy = RestFault::Proxy { status: 502 };
    for (what, fault, times, expected, requests) in [
        ("429 once", RestFault::Refuse { status: 429, code: 20429 }, 1, Ok(1), 2),
        (
            "429 for ever",
            RestFault::Refuse { status: 429, code: 20429 },
            usize::MAX,
            refused(429, Some(20429)),
            4,
        ),
        ("500 twice", RestFault::Refuse { status: 500, code: 20500 }, 2, Ok(1), 3),
        ("a proxy's page for ever", proxy, usize::MAX, refused(502, None), 4),
        ("garbage", RestFault::Garbage, usize::MAX, Err(RestError::NotTwilio), 1),
        ("somebody else", RestFault::Stranger, usize::MAX, Err(RestError::NotTwilio), 1),
        ("a proxy's page that says 200", RestFault::Proxy { status: 200 }, 9, Err(RestError::NotTwilio), 1),
        ("cut once", RestFault::Cut, 1, Ok(1), 2),
        ("not allowed", RestFault::Refuse { status: 403, code: 20403 }, 9, refused(403, Some(20403)), 1),
        (
            "elsewhere",
            RestFault::Redirect { status: 302, to: "https://example.com/".to_owned() },
            9,
            Err(RestError::NotTwilio),
            1,
        ),
    ] {
        let twilio = RestServer::start(owning(1)).await.unwrap();
        twilio.plan("GET ", times, fault);
        let numbers = account(&twilio, "12345").numbers().await.map(|numbers| numbers.len());
        assert_eq!(numbers, expected, "{what}");
        assert_eq!(twilio.requests().len(), requests, "{what}");
    }
}

#[tokio::test]
async fn an_account_says_how_it_stands_and_a_wrong_one_nothing() {
    let options = AccountOptions {
        status: "suspended".to_owned(),
        kind: "Trial".to_owned(),
        ..AccountOptions::default()
    };
    let twilio = RestServer::start(options).await.unwrap();
    let standing = account(&twilio, "12345").standing().await;
    assert_eq!(standing, Ok(Standing { status: Status::Suspended, trial: true }));
    let refused = account(&twilio, "wrong").standing().await;
    assert_eq!(refused, Err(RestError::Refused { status: 401, code: Some(20003) }));
    assert!(refused.unwrap_err().help().contains("TWILIO_AUTH_TOKEN"));
    assert_eq!(
        account(&twilio, "12345").numbers().await,
        Err(RestError::Refused { status: 403, code: Some(20005) })
    );
    let tls = serve::client_config(false, None).unwrap();
    let other = format!("AC{:032}", 2);
    let other = Account::new(twilio.url(), &other, ACCOUNT, Secret::new("12345"), &tls).unwrap();
    assert_eq!(other.standing().await, Err(RestError::Refused { status: 404, code: Some(20404) }));
}

#[tokio::test]
async fn a_change_sets_what_it_names_and_nothing_else() {
    let twilio = RestServer::start(owning(2)).await.unwrap();
    twilio.edit(|account| account.numbers[0]["trunk_sid"] = format!("TK{:032}", 1).into());
    let account = account(&twilio, "12345");
    let sid = format!("PN{:032}", 1);
    let before = twilio.number("+15550100001");
    let change = Change { voice_url: Some(VOICE.to_owned()), take_back: true, ..Change::default() };
    let changed = account.change_number(&sid, &change).await.unwrap();
    assert_eq!((changed.voice_url.as_deref(), changed.is_taken()), (Some(VOICE), false));
    let mut expected = before;
    expected["voice_url"] = VOICE.into();
    expected["trunk_sid"] = json!(null);
    let now = twilio.number("+15550100001");
    expected["date_updated"] = now["date_updated"].clone();
    assert_eq!(now, expected);
    // What the real one refuses.
    for url in ["not an address", "ftp://example.com", "http://127.0.0.1:5050/incoming-call"] {
        let change = Change { voice_url: Some(url.to_owned()), ..Change::default() };
        let refused = account.change_number(&sid, &change).await;
        assert_eq!(refused, Err(RestError::Refused { status: 400, code: Some(21402) }), "{url}");
    }
    let unknown = account.change_number(&format!("PN{:032}", 9), &change).await;
    assert_eq!(unknown, Err(RestError::Refused { status: 404, code: Some(20404) }));
}

#[tokio::test]
async fn silence_ends() {
    let twilio = RestServer::start(owning(1)).await.unwrap();
    twilio.plan("", usize::MAX, RestFault::Silence);
    let account = account(&twilio, "12345");
    // Once is enough to see: a request has 8 s, and is made four times.
    let silent = tokio::time::timeout(Duration::from_secs(20), account.numbers());
    let watch = twilio.until(Duration::from_secs(20), |requests| requests.len() >= 2);
    tokio::select! {
        answer = silent => panic!("{answer:?}"),
        seen = watch => assert!(seen, "it is tried again"),
    }
}
