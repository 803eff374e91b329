//! Callers who do not get through, from the file to what Twilio is asked to do.

use switchboard_simulator::caller::DialOutcome;

use super::*;

const LIMITED: &str = "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n\
                       greeting: { say: \"Hello, Example Dental, how can I help?\" }\n\
                       block: [\"+15550100666\", \"+155501007*\", withheld]\n\
                       limits: { calls: 1, calls_per_caller: { per_hour: 1 } }\n\
                       busy: { say: \"All our lines are busy.\", dial: \"+15550100011\" }\n";

/// The server, whose figures are readable with a token.
async fn limited(folder: &Path, model: &ModelServer) -> Server {
    std::fs::create_dir_all(folder.join("assistants")).unwrap();
    std::fs::write(folder.join("assistants/clinic.yaml"), LIMITED).unwrap();
    Server::start(folder, model, &[("METRICS_TOKEN", TOKEN)]).await
}

/// How many rings admission refused for this reason.
async fn refusals(server: &Server, why: &str) -> u64 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(TOKEN);
    let page = request.send().await.unwrap().error_for_status().unwrap().text().await.unwrap();
    let series = format!("switchboard_refusals_total{{layer=\"admission\",why=\"{why}\"}} ");
    let count = page.lines().find_map(|line| line.strip_prefix(&series));
    count.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

fn phone(server: &Server, from: &str) -> PhoneOptions {
    let dials = vec![DialOutcome { status: "no-answer".to_owned(), after: ms(10) }];
    PhoneOptions { from: from.to_owned(), dials, ..server.phone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_callers_are_rejected_and_recorded() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model().await);
    let mut server = limited(folder.path(), &model).await;
    let place = database(folder.path());
    for (count, from) in [(1, "+15550100666"), (2, "+15550100766"), (3, "anonymous")] {
        let options = phone(&server, from);
        let sid = options.call_sid.clone();
        let heard = Phone::dial(options).finished().await;
        heard.assert_clean();
        assert_eq!(heard.end, CallEnd::Rejected("rejected".to_owned()), "{from}");
        assert!(heard.streams.is_empty() && heard.said.is_empty() && heard.dialed.is_empty(), "{from}");
        let record = record(&place, &sid, |record| record.reason.is_some()).await;
        assert_eq!(record.reason.as_deref(), Some("refused.blocked"), "{from}");
        assert_eq!(record.assistant.as_deref(), Some("clinic"), "{from}");
        assert_eq!(refusals(&server, "blocked").await, count, "{from}");
    }
    assert!(model.sessions().is_empty(), "no model was asked");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_whom_a_limit_refuses() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model().await);
    let mut server = limited(folder.path(), &model).await;
    let place = database(folder.path());
    let refused = async |from: &str, reason: &str, why: &str| {
        assert_eq!(refusals(&server, why).await, 0, "{from}");
        let options = phone(&server, from);
        let sid = options.call_sid.clone();
        let heard = Phone::dial(options).finished().await;
        heard.assert_clean();
        assert!(heard.streams.is_empty(), "{from}");
        assert_eq!(
            heard.said.iter().map(|said| &*said.text).collect::<Vec<_>>(),
            ["All our lines are busy."]
        );
        assert_eq!(heard.dialed.iter().map(|it| &*it.number).collect::<Vec<_>>(), ["+15550100011"], "{from}");
        // Nobody answered there, and nothing more happens.
        assert_eq!(heard.end, CallEnd::HungUp, "{from}");
        let record = record(&place, &sid, |record| record.reason.is_some()).await;
        assert_eq!(record.reason.as_deref(), Some(reason), "{from}");
        assert_eq!(refusals(&server, why).await, 1, "{from}");
    };
    let first = Phone::dial(phone(&server, "+15550100100"));
    assert!(first.wait_until_playing_for(ms(50)).await, "the first call is answered");
    refused("+15550100101", "refused.busy", "limit_calls").await;
    // The limit of the caller is judged first.
    refused("+15550100100", "refused.limit", "limit_caller").await;
    first.hang_up();
    first.finished().await.assert_clean();
    // Whoever was refused used nothing up.
    let next = Phone::dial(phone(&server, "+15550100101"));
    assert!(next.wait_until_playing_for(ms(50)).await, "there is room again");
    next.hang_up();
    next.finished().await.assert_clean();
    server.end().await;
}
