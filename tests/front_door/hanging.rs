//! A service that hangs, in many calls at once, while everybody's audio is measured.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard::simulate::caller::PhoneOptions;
use switchboard::simulate::model::{ModelOptions, Reply, Script, Speech};

use crate::service::{Does, Service};
use crate::town::{Town, finished, speech};

fn model() -> ModelOptions {
    let reply = Reply::say("One moment.").and_call("look_up", "{}");
    let reply = Reply { after_call: Some("That is done.".to_owned()), ..reply };
    let script = Script { replies: vec![reply], ..Script::default() };
    ModelOptions { think: Duration::from_millis(50), speech: Speech::Tagged, script, ..ModelOptions::default() }
}

/// How late the callers' audio was at the model, in fifty calls that all use the tool.
async fn lateness(does: Does) -> Vec<Duration> {
    let mut service = Service::open([does]).await;
    let file = "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n\
                greeting: { say: \"Hello, Example Dental, how can I help?\" }\nfunctions:\n  look_up:\n    description: Looks it up.\n    \
                   parameters: { type: object, properties: {} }\n    http: { method: GET, url: \"${LOOK_UP_URL}\" }";
    let settings = [("LOOK_UP_URL", service.url.as_str())];
    let mut town = Town::with(&file, &[], model(), &settings).await;
    let phones: Vec<_> = (0..50)
        .map(|_| town.dial(PhoneOptions { stamps: true, keep_audio: false, ..town.phone() }))
        .collect();
    for phone in &phones {
        assert!(phone.wait_until_quiet(Duration::from_millis(200)).await, "the greeting is heard");
        phone.say(speech(600));
    }
    for _ in &phones {
        service.next().await;
    }
    // All of them use the tool: two more seconds of everybody's audio.
    tokio::time::sleep(Duration::from_secs(2)).await;
    phones.iter().for_each(switchboard::simulate::caller::PhoneHandle::hang_up);
    for phone in phones {
        finished(phone).await;
        assert_eq!(town.ended().await.reason, EndReason::CallerHungUp);
    }
    let mut late: Vec<Duration> = town.model.sessions().iter().flat_map(|session| session.latencies.clone()).collect();
    late.sort();
    town.quit().await;
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_hangs_in_fifty_calls_delays_nobody() {
    let p95 = |late: &[Duration]| late[late.len() * 95 / 100];
    let (well, hanging) = (lateness(Does::Answer(200, "ok")).await, lateness(Does::Hang).await);
    assert!(well.len() > 1_000 && hanging.len() > 1_000, "{} {}", well.len(), hanging.len());
    let allowed = p95(&well) + Duration::from_millis(30);
    assert!(p95(&hanging) < allowed, "{:?} with, {:?} without", p95(&hanging), p95(&well));
}
