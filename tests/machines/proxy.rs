//! Fly's proxy according to its documentation: one public address, several machines, and `fly-replay`.
//!
//! It sends each request to any routed machine, tries another one if the port is closed, and obeys a machine that replays
//! a request: `instance`, `elsewhere`, `timeout`, `fallback`, `state`. A replay that reaches its machine is a success,
//! whatever the answer; one that fell back is not replayed again. Proxy headers from a client reach the machines, because
//! the documentation does not exclude that. There is also the private network, on which each machine is reached by its
//! name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long a replay without `timeout` looks for its machine.
const REPLAY_PATIENCE: Duration = Duration::from_secs(10);
/// How long the proxy waits before it tries again.
const KNOCK: Duration = Duration::from_millis(50);

pub struct Proxy {
    pub url: String,
    /// For `PEER_URL`.
    pub peers: String,
    net: Arc<Net>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Net(Mutex<State>);

type Hook = Box<dyn FnOnce(&str) + Send>;

#[derive(Default)]
struct State {
    machines: BTreeMap<String, Machine>,
    /// Requests whose path has this prefix go to this machine.
    rules: Vec<(String, String)>,
    /// Called with the machine that answers the next incoming call, before the answer is sent.
    on_ring: Option<Hook>,
    seen: Seen,
}

struct Machine {
    address: String,
    /// It receives new requests.
    routed: bool,
}

/// What the proxy has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Each admitted stream: its ticket, and the machine that admitted it.
    pub streams: Vec<(String, String)>,
    /// Requests replayed to a named machine.
    pub replayed: usize,
    /// The path of each request replayed to any other machine.
    pub elsewhere: Vec<String>,
    /// Replays that fell back.
    pub fell_back: usize,
    /// How often a machine asked another one.
    pub asked: usize,
    /// What machines asked each other: path and status; 0 without an answer.
    pub peers: Vec<(String, u16)>,
}

impl Seen {
    /// The number of requests with this path prefix that were replayed to any other machine.
    pub fn elsewhere(&self, path: &str) -> usize {
        self.elsewhere.iter().filter(|replayed| replayed.starts_with(path)).count()
    }
}

impl Proxy {
    pub async fn start() -> Self {
        let net = Arc::new(Net::default());
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (public, private) = (listen().await, listen().await);
        let url = format!("http://{}", public.local_addr().unwrap());
        let peers = format!("http://{}/{{machine}}", private.local_addr().unwrap());
        let tasks = [(public, false), (private, true)].map(|(listener, private)| {
            let net = net.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let net = net.clone();
                    tokio::spawn(async move {
                        let _ = client.set_nodelay(true);
                        if private {
                            net.ask_peer(client).await
                        } else {
                            net.serve(client).await
                        };
                    });
                }
            })
        });
        Self { url, peers, net, tasks: tasks.into() }
    }

    /// Adds a machine.
    pub fn add(&self, id: &str, address: &str) {
        let machine = Machine { address: address.to_owned(), routed: true };
        self.net.lock().machines.insert(id.to_owned(), machine);
    }

    /// Stops new requests to a machine, except those that name it, and removes its rules.
    pub fn cordon(&self, id: &str) {
        let mut state = self.net.lock();
        state.machines.get_mut(id).unwrap().routed = false;
        state.rules.retain(|(_, to)| to != id);
    }

    /// Sends requests with this path prefix to this machine; the last rule wins.
    pub fn rule(&self, path: &str, id: &str) {
        self.net.lock().rules.insert(0, (path.to_owned(), id.to_owned()));
    }

    /// Runs this when the next incoming call is answered, before the answer is sent.
    pub fn on_ring(&self, hook: impl FnOnce(&str) + Send + 'static) {
        self.net.lock().on_ring = Some(Box::new(hook));
    }

    pub fn seen(&self) -> Seen {
        self.net.lock().seen.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A message: head and body.
#[derive(Clone)]
struct Message {
    /// Without the final empty line.
    head: String,
    body: Vec<u8>,
}

impl Message {
    async fn read(socket: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if bytes.len() > 64 * 1024 || socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let mut body = bytes.split_off(end + 4);
        bytes.truncate(end);
        let message = Self { head: String::from_utf8(bytes).ok()?, body: Vec::new() };
        let length = message.header("content-length").map_or(0, |length| length.parse().unwrap());
        while message.status() != 101 && body.len() < length {
            if socket.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        Some(Self { body, ..message })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The path of a request.
    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer.
    fn status(&self) -> u16 {
        let status = self.head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        status.unwrap_or(0)
    }

    async fn write(&self, socket: &mut TcpStream, more: &str) -> std::io::Result<()> {
        let head = format!("{}\r\n{more}\r\n", self.head);
        socket.write_all(&[head.as_bytes(), &self.body].concat()).await
    }
}

/// A replay that a machine asks for.
struct Replay {
    /// The machine that asks for it.
    origin: String,
    instance: Option<String>,
    timeout: Duration,
    falls_back: bool,
    state: String,
}

impl Replay {
    fn parse(origin: &str, orders: &str) -> Self {
        let fields: BTreeMap<&str, &str> =
            orders.split(';').filter_map(|field| field.split_once('=')).collect();
        let known = ["instance", "elsewhere", "timeout", "fallback", "state"];
        assert!(fields.keys().all(|key| known.contains(key)), "unknown to Fly: {orders}");
        assert!(fields.contains_key("instance") != fields.contains_key("elsewhere"), "{orders}");
        let fallback = fields.get("fallback").copied();
        assert!([None, Some("force_self"), Some("prefer_self")].contains(&fallback), "{orders}");
        let timeout = fields.get("timeout").map(|timeout| {
            Duration::from_secs(timeout.strip_suffix('s').expect("seconds").parse().expect("a number"))
        });
        Self {
            origin: origin.to_owned(),
            instance: fields.get("instance").map(|&id| id.to_owned()),
            timeout: timeout.unwrap_or(REPLAY_PATIENCE),
            falls_back: fallback.is_some(),
            state: fields.get("state").map(|state| format!(";state={state}")).unwrap_or_default(),
        }
    }

    /// The header for the next machine.
    fn source(&self) -> String {
        let t = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        format!("fly-replay-src: instance={};region=test;t={t}{}\r\n", self.origin, self.state)
    }
}

impl Net {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Any routed machine except these; rules take precedence.
    fn pick(&self, path: &str, not: &[String]) -> Option<String> {
        let state = self.lock();
        let rule = state.rules.iter().find(|(start, id)| path.starts_with(start) && !not.contains(id));
        if let Some((_, id)) = rule {
            return Some(id.clone());
        }
        let routed = state.machines.iter().filter(|(id, machine)| machine.routed && !not.contains(id));
        let routed: Vec<_> = routed.map(|(id, _)| id).collect();
        let at = rand::random::<u64>() as usize;
        routed.get(at % routed.len().max(1)).map(|id| (*id).clone())
    }

    async fn connect(&self, id: &str) -> Option<TcpStream> {
        let address = self.lock().machines.get(id)?.address.clone();
        let socket = TcpStream::connect(address).await.ok()?;
        let _ = socket.set_nodelay(true);
        Some(socket)
    }

    /// A connection to the machine of a replay, or to any other, and its name.
    async fn find(&self, path: &str, replay: &Replay) -> Option<(String, TcpStream)> {
        let until = Instant::now() + replay.timeout;
        loop {
            let id = match &replay.instance {
                Some(id) => Some(id.clone()),
                None => self.pick(path, std::slice::from_ref(&replay.origin)),
            };
            if let Some(id) = id
                && let Some(socket) = self.connect(&id).await
            {
                return Some((id, socket));
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(KNOCK).await;
        }
    }

    /// Handles a request from outside.
    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        let request = Message::read(&mut client).await?;
        let path = request.path().to_owned();
        let mut more = String::new();
        let mut fell_back = false;
        let mut tried = Vec::new();
        let mut way = None;
        loop {
            let (id, mut machine) = match way.take() {
                Some(way) => way,
                None => {
                    let Some(id) = self.pick(&path, &tried) else { break };
                    match self.connect(&id).await {
                        Some(socket) => (id, socket),
                        None => {
                            tried.push(id);
                            continue;
                        }
                    }
                }
            };
            request.write(&mut machine, &more).await.ok()?;
            let Some(answer) = Message::read(&mut machine).await else { break };
            let Some(orders) = answer.header("fly-replay") else {
                return self.relay(&path, &id, client, machine, answer).await;
            };
            assert!(!fell_back, "a request that fell back is not replayed again");
            assert_ne!(answer.status(), 101, "a machine does not both upgrade and replay a stream");
            let replay = Replay::parse(&id, orders);
            {
                let seen = &mut self.lock().seen;
                match replay.instance.is_some() {
                    true => seen.replayed += 1,
                    false => seen.elsewhere.push(path.clone()),
                }
            }
            more += &replay.source();
            way = self.find(&path, &replay).await;
            if way.is_none() {
                if !replay.falls_back {
                    break;
                }
                self.lock().seen.fell_back += 1;
                fell_back = true;
                more += "fly-replay-failed: no machine\r\n";
                let socket = self.connect(&replay.origin).await?;
                way = Some((replay.origin, socket));
            }
        }
        client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .ok()
    }

    async fn relay(
        &self,
        path: &str,
        id: &str,
        mut client: TcpStream,
        mut machine: TcpStream,
        answer: Message,
    ) -> Option<()> {
        if path.starts_with("/incoming-call") {
            let hook = self.lock().on_ring.take();
            if let Some(hook) = hook {
                hook(id);
            }
        }
        if answer.status() == 101 {
            let ticket = path.trim_start_matches("/media-stream/").trim_end_matches('/').to_owned();
            self.lock().seen.streams.push((ticket, id.to_owned()));
        }
        answer.write(&mut client, "").await.ok()?;
        if answer.status() == 101 {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut machine).await;
        }
        Some(())
    }

    /// Handles a request from one machine to another: `/NAME/path`.
    async fn ask_peer(&self, mut client: TcpStream) -> Option<()> {
        let mut request = Message::read(&mut client).await?;
        let named = request.path().to_owned();
        let (id, path) = named.trim_start_matches('/').split_once('/')?;
        let path = format!("/{path}");
        request.head = request.head.replacen(&named, &path, 1);
        let answer = match self.connect(id).await {
            Some(mut machine) => {
                request.write(&mut machine, "").await.ok()?;
                self.lock().seen.asked += 1;
                Message::read(&mut machine).await
            }
            None => None,
        };
        let status = answer.as_ref().map_or(0, Message::status);
        self.lock().seen.peers.push((path, status));
        answer?.write(&mut client, "").await.ok()
    }
}
