//! The three layers that protect a call, for real: the allowlist Function in Twilio's local runtime, then the signature,
//! then the ticket, both checked by the program. The test plays Twilio and carries the call from one to the next.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use switchboard_simulator::caller::sign;
use switchboard_simulator::model::{ModelOptions, ModelServer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The timeout of every step: the first start of a Function is slow.
const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "12345";
const PUBLIC_URL: &str = "https://phone.example.com";
const CALLER: &str = "+15550100100";
const STRANGER: &str = "+15550100101";
const CALLED: &str = "+15550100001";

/// The Functions, served as by `twilio serverless:start`. Dropping it kills the process.
struct Functions {
    _child: Child,
    port: u16,
    _env: tempfile::TempDir,
}

impl Functions {
    async fn start(settings: &str) -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("twilio");
        let script = project.join("node_modules/twilio-run/bin/twilio-run.js");
        assert!(
            script.exists(),
            "Twilio's local runtime is not installed: run `npm ci --prefix twilio`, or `make test`, which does it"
        );
        let env = tempfile::tempdir().unwrap();
        let file = env.path().join(".env");
        std::fs::write(&file, settings).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let arguments: [PathBuf; 7] = [
            script,
            "start".into(),
            "--cwd".into(),
            project,
            "--env".into(),
            file,
            format!("--port={port}").into(),
        ];
        let mut child = Command::new("node")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is installed");
        said(child.stderr.take().unwrap(), "No assets found").await;
        Self { _child: child, port, _env: env }
    }

    /// The Function's TwiML for this caller.
    async fn ask(&self, caller: &str) -> String {
        let (status, body) = post(self.port, "/allowlist-function", &call_from(caller), None).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

/// The program with one assistant. Dropping it kills the process.
struct Server {
    _child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(model: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assistants")).unwrap();
        let assistant =
            "numbers: [\"*\"]\ninstructions: You answer the phone.\ngreeting: { say: \"Hello.\" }\n";
        std::fs::write(folder.path().join("assistants/a.yaml"), assistant).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .envs([
                ("OPENAI_API_KEY", "sk-simulated"),
                ("OPENAI_REALTIME_URL", model),
                ("TWILIO_AUTH_TOKEN", TOKEN),
                ("PUBLIC_URL", PUBLIC_URL),
                ("HOST", "127.0.0.1"),
                ("PORT", "0"),
                ("LOG_FORMAT", "json"),
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ready = said(child.stderr.take().unwrap(), "\"Ready\"").await;
        let port = ready.split("127.0.0.1:").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        Self { _child: child, port, _folder: folder }
    }

    /// Opens the stream, signed as by Twilio.
    async fn stream(&self, url: &str) -> Result<WebSocketStream<TcpStream>, u16> {
        let path = url.strip_prefix("wss://phone.example.com").expect("the stream is at the public address");
        let mut request = format!("ws://127.0.0.1:{}{path}", self.port).into_client_request().unwrap();
        request.headers_mut().insert("X-Twilio-Signature", sign(TOKEN, url, &[]).parse().unwrap());
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let shaken =
            timeout(LIMIT, tokio_tungstenite::client_async(request, socket)).await.expect("an answer");
        match shaken {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(refused)) => Err(refused.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_three_layers_stops_its_own_attacks() {
    let model = ModelServer::start(ModelOptions::default()).await.unwrap();
    let server = Server::start(&model.url()).await;
    let settings = format!("WEBHOOK_URL={PUBLIC_URL}/incoming-call\nALLOWED_NUMBERS={CALLER} # a friend\n");
    let functions = Functions::start(&settings).await;

    // Layer 1, at Twilio: a caller who is not on the list is rejected.
    assert_eq!(verbs(&functions.ask(STRANGER).await), ["Reject"]);
    assert_eq!(verbs(&functions.ask("anonymous").await), ["Reject"]);
    let allowed = functions.ask(CALLER).await;
    assert_eq!(verbs(&allowed), ["Redirect"]);
    let redirect = roxmltree::Document::parse(&allowed).unwrap();
    let redirect = redirect.descendants().find(|node| node.has_tag_name("Redirect")).unwrap();
    assert_eq!(redirect.attribute("method"), Some("POST"));
    let url = redirect.text().unwrap().to_owned();
    let path = url.strip_prefix(PUBLIC_URL).expect("the redirect leads to the program");

    // Layer 2, the signature: the address is useless without Twilio's key.
    let call = call_from(CALLER);
    for (what, signature) in [
        ("none", None),
        ("another account's", Some(sign("54321", &url, &call))),
        ("of another address", Some(sign(TOKEN, &format!("{PUBLIC_URL}/call-status"), &call))),
        ("of another caller", Some(sign(TOKEN, &url, &call_from(STRANGER)))),
    ] {
        let (status, body) = post(server.port, path, &call, signature.as_deref()).await;
        assert_eq!(status, 403, "{what}: {body}");
        assert!(!body.contains("Stream"), "{what}: {body}");
    }
    let (status, twiml) = post(server.port, path, &call, Some(&sign(TOKEN, &url, &call))).await;
    assert_eq!(status, 200, "{twiml}");
    assert_eq!(verbs(&twiml), ["Connect", "Stream"]);
    let twiml = roxmltree::Document::parse(&twiml).unwrap();
    let stream = twiml.descendants().find(|node| node.has_tag_name("Stream")).unwrap();
    let stream = stream.attribute("url").unwrap();

    // Layer 3, the ticket: a stream without a valid ticket is refused even if it is signed.
    let (start, ticket) = stream.rsplit_once('/').unwrap();
    let mut forged = ticket.to_owned();
    forged.replace_range(..1, if ticket.starts_with('A') { "B" } else { "A" });
    for wrong in ["none", &forged] {
        let refused = server.stream(&format!("{start}/{wrong}")).await.map(drop);
        assert_eq!(refused, Err(403), "{wrong}");
    }
    let mut socket = server.stream(stream).await.expect("the ticket is valid");
    assert_eq!(server.stream(stream).await.map(drop), Err(403), "the ticket is valid once");

    // After all three, the assistant speaks.
    for message in [
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
        json!({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": {
            "streamSid": "MZ1", "accountSid": "AC1", "callSid": "CA00000000000000000000000000000001", "tracks": ["inbound"], "customParameters": {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}}}),
    ] {
        socket.send(Message::text(message.to_string())).await.unwrap();
    }
    let spoken = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message.unwrap() else { continue };
            if serde_json::from_str::<Value>(&text).unwrap()["event"] == "media" {
                return;
            }
        }
        panic!("the stream has ended");
    };
    timeout(LIMIT, spoken).await.expect("the assistant greets");

    drop((functions, server));
    model.stop().await;
}

/// The form that Twilio posts for a call.
fn call_from(caller: &str) -> Vec<(String, String)> {
    [
        ("AccountSid", "AC1"),
        ("CallSid", "CA00000000000000000000000000000001"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", caller),
        ("To", CALLED),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The names of a document's verbs and nouns, in order.
fn verbs(twiml: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(twiml).unwrap_or_else(|error| panic!("{error}: {twiml}"));
    let inside = document.root_element().descendants().skip(1).filter(roxmltree::Node::is_element);
    inside.map(|node| node.tag_name().name().to_owned()).collect()
}

/// Posts a form; returns the status and the body.
async fn post(port: u16, path: &str, form: &[(String, String)], signature: Option<&str>) -> (u16, String) {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let signature = signature.map(|code| format!("X-Twilio-Signature: {code}\r\n")).unwrap_or_default();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{signature}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let asked = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.read_to_end(&mut answer).await.unwrap();
    };
    timeout(LIMIT, asked).await.expect("an answer");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits for a line with these words, then reads and drops the rest.
async fn said(output: impl AsyncRead + Unpin + Send + 'static, words: &str) -> String {
    let mut lines = BufReader::new(output).lines();
    let heard = async {
        let mut all = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(words) {
                return line;
            }
            all += &line;
            all.push('\n');
        }
        panic!("it ended: {all}");
    };
    let line = timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("`{words}` is never said"));
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    line
}
