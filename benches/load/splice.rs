//! The baseline: a TCP proxy that only copies, in a separate process, with the same traffic as the server.
//!
//! The traffic is real. A tap between phones, server and model records when each phone and each model sends how many
//! bytes in one round of the conversation. Those bytes then go through the splice at the same times, over as many
//! sockets as the server has. The splice forwards everything it receives, so it sends a little more than the server,
//! which drops what the phone does not need.

use std::io::{BufRead, BufReader as StdBufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use switchboard_simulator::tag;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional_with_sizes};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout_at};

use crate::calls::{Fleet, ROUND, model, phase, stagger};
use crate::server::{Cost, Meter, Server};

/// The number of recorded calls, each at a different point of the conversation.
const RECORDED: usize = 8;
const BUFFER: usize = 8 * 1_024;
/// The time before the measured window.
const SETTLE: Duration = Duration::from_secs(2);

/// Runs the child process: every connection is copied to `target` and back.
pub async fn run(target: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (mut near, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
        });
    }
}

/// One round of one direction of a call: the time and size of each write.
#[derive(Debug, Clone, Default)]
struct Flow(Vec<(Duration, usize)>);

/// What calls write, in both directions.
#[derive(Debug, Clone)]
pub struct Traffic {
    calls: Vec<[Flow; 2]>,
}

impl Traffic {
    /// Records one round of some calls through a fresh server.
    pub async fn record(assistant: &str) -> anyhow::Result<Self> {
        let model = model().await?;
        let back = Tap::start(model.addr(), Side::Target).await?;
        let server = Server::start(&format!("ws://{}/v1/realtime", back.addr), assistant, RECORDED)?;
        let front = Tap::start(server.addr(), Side::Client).await?;
        let fleet = Fleet::start(&server, &format!("http://{}", front.addr), &model, RECORDED).await?;
        sleep(Duration::from_secs(2)).await;
        let from = Instant::now();
        let (_, marks) = fleet.measure(server.pid(), ROUND + Duration::from_millis(20)).await?;
        let (up, down) = (front.flows(from), back.flows(from));
        fleet.finish(marks).await?;
        drop(server);
        model.stop().await;
        let calls: Vec<[Flow; 2]> = up.into_iter().zip(down).map(|(up, down)| [up, down]).collect();
        anyhow::ensure!(calls.len() == RECORDED, "only {} calls were recorded", calls.len());
        Ok(Self { calls })
    }

    /// Writes and bytes per second and call, from the phone and from the model.
    pub fn rates(&self) -> [(f64, f64); 2] {
        let seconds = ROUND.as_secs_f64() * self.calls.len() as f64;
        [0, 1].map(|way| {
            let flows = self.calls.iter().map(|call| &call[way].0);
            let writes: usize = flows.clone().map(Vec::len).sum();
            let bytes: usize = flows.flatten().map(|(_, bytes)| bytes).sum();
            (writes as f64 / seconds, bytes as f64 / seconds)
        })
    }

    /// The traffic of the `nth` of `calls`: a recorded one, shifted to this call's point of the conversation.
    fn of(&self, nth: usize, calls: usize) -> [Flow; 2] {
        let recorded = nth % self.calls.len();
        let turn = phase(nth, calls) + ROUND - phase(recorded, self.calls.len());
        let turned = |flow: &Flow| {
            let place = |at: Duration| (at + ROUND * 2 - turn).as_nanos() % ROUND.as_nanos();
            let mut flow: Vec<(Duration, usize)> =
                flow.0.iter().map(|(at, bytes)| (Duration::from_nanos(place(*at) as u64), *bytes)).collect();
            flow.sort_unstable();
            Flow(flow)
        };
        let [up, down] = &self.calls[recorded];
        [turned(up), turned(down)]
    }
}

impl Flow {
    /// Repeats the round forever.
    fn forever(&self) -> impl Iterator<Item = (Duration, usize)> {
        (0u32..).flat_map(|round| self.0.iter().map(move |(at, bytes)| (ROUND * round + *at, *bytes)))
    }
}

/// The cost of a run of the splice.
#[derive(Debug, Default)]
pub struct Spliced {
    pub cost: Cost,
    pub to_model: Vec<Duration>,
    pub to_phone: Vec<Duration>,
}

/// Sends the traffic of `calls` calls through a fresh splice and measures for `long`.
pub async fn measure(traffic: &Traffic, calls: usize, long: Duration) -> anyhow::Result<Spliced> {
    let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let splice = Splice::start(far.local_addr()?.port())?;
    let began = Instant::now();
    let window = [began + stagger(calls, calls) + SETTLE, began + stagger(calls, calls) + SETTLE + long];
    let mut to_model = JoinSet::new();
    let mut to_phone = JoinSet::new();
    for nth in 0..calls {
        let at = began + stagger(nth, calls);
        sleep_until(at.into()).await;
        let near = TcpStream::connect((Ipv4Addr::LOCALHOST, splice.port)).await?;
        let (far, _) = far.accept().await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let [up, down] = traffic.of(nth, calls);
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        let until = window[1];
        tokio::spawn(write(near_out, up.clone(), at, until));
        tokio::spawn(write(far_out, down.clone(), at, until));
        to_model.spawn(read(far_in, up, window));
        to_phone.spawn(read(near_in, down, window));
    }
    sleep_until(window[0].into()).await;
    let meter = Meter::start(splice.child.id())?;
    sleep_until((window[1] - Duration::from_millis(50)).into()).await;
    Ok(Spliced {
        cost: meter.read()?,
        to_model: to_model.join_all().await.concat(),
        to_phone: to_phone.join_all().await.concat(),
    })
}

struct Splice {
    child: Child,
    port: u16,
}

impl Splice {
    fn start(target: u16) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["splice", &target.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        StdBufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        Ok(Self { port: line.trim().parse().context("the splice said no port")?, child })
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes what is due; each write begins with a stamp if it is long enough.
async fn write(
    mut socket: OwnedWriteHalf,
    flow: Flow,
    began: Instant,
    until: Instant,
) -> std::io::Result<()> {
    let mut bytes = vec![0xFF; flow.0.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0)];
    for (sequence, (at, length)) in flow.forever().enumerate() {
        let due = began + at;
        if due > until {
            break;
        }
        sleep_until(due.into()).await;
        if let Some(head) = bytes[..length].first_chunk_mut() {
            *head = tag::stamp(tag::nanos(), sequence as u32);
        }
        socket.write_all(&bytes[..length]).await?;
    }
    // Open until the end, so that the splice closes nothing within the window.
    sleep_until((until + Duration::from_millis(500)).into()).await;
    Ok(())
}

/// The latency of each write that arrived within the window.
async fn read(socket: OwnedReadHalf, flow: Flow, window: [Instant; 2]) -> Vec<Duration> {
    let mut socket = BufReader::with_capacity(BUFFER, socket);
    let mut bytes = Vec::new();
    let mut latencies = Vec::new();
    for (_, length) in flow.forever() {
        bytes.resize(length, 0);
        match timeout_at(window[1].into(), socket.read_exact(&mut bytes)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => break,
        }
        if let Some((left, _)) = bytes.first_chunk().and_then(tag::unstamp)
            && Instant::now() >= window[0]
        {
            latencies.push(Duration::from_nanos(tag::nanos().saturating_sub(left)));
        }
    }
    latencies
}

/// Whose bytes a tap records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Target,
}

type Noted = Arc<Mutex<Vec<(Instant, usize)>>>;

/// A proxy that records what passes through.
struct Tap {
    addr: SocketAddr,
    connections: Arc<Mutex<Vec<Noted>>>,
    _tasks: JoinSet<()>,
}

impl Tap {
    async fn start(target: SocketAddr, side: Side) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let connections: Arc<Mutex<Vec<Noted>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let all = connections.clone();
        tasks.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let noted = Noted::default();
                all.lock().unwrap_or_else(PoisonError::into_inner).push(noted.clone());
                tokio::spawn(tap(near, target, side, noted));
            }
        });
        Ok(Self { addr, connections, _tasks: tasks })
    }

    /// One round, starting at `from`, of each connection that carries audio, in the order in which they began.
    fn flows(&self, from: Instant) -> Vec<Flow> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let round = |noted: &Noted| {
            let noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            let after = noted.iter().filter(|(at, _)| *at >= from);
            Flow(after.map(|(at, n)| (*at - from, *n)).take_while(|(at, _)| *at < ROUND).collect())
        };
        // A webhook's connection is silent in the middle of a call.
        connections.iter().map(round).filter(|flow| flow.0.len() > 20).collect()
    }
}

async fn tap(near: TcpStream, target: SocketAddr, side: Side, noted: Noted) -> std::io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let note = |wanted: Side| (side == wanted).then(|| noted.clone());
    let (there, back) = tokio::join!(
        carry(near_in, far_out, note(Side::Client)),
        carry(far_in, near_out, note(Side::Target))
    );
    there.and(back)
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, noted: Option<Noted>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1_024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if let Some(noted) = &noted {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), length));
        }
        to.write_all(&buffer[..length]).await?;
    }
}
