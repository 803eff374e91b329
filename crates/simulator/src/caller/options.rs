//! Who calls whom, over what kind of network, and what goes wrong.

use std::fmt;
use std::time::Duration;

use super::control::Line;

/// Everything about a call. The default is a healthy network and no faults.
#[derive(Clone)]
pub struct PhoneOptions {
    /// Where to connect: `http://host:port`.
    pub server: String,
    /// The URL that is signed and appears in TwiML. Requests to it go to `server`.
    pub public_url: String,
    pub auth_token: String,
    pub account_sid: String,
    pub call_sid: String,
    pub from: String,
    pub to: String,
    /// The account's other numbers, which a `<Dial>` may also show as caller ID.
    pub numbers: Vec<String>,
    pub network: Network,
    /// Additional random delay of each frame of caller audio, up to this; the order is kept.
    pub frame_jitter: Duration,
    pub faults: Vec<Fault>,
    /// What the caller does on its own; the handle can be used in addition.
    pub script: Vec<Line>,
    /// The outcome of each `<Dial>` in turn; the last one also applies to all later ones.
    pub dials: Vec<DialOutcome>,
    /// The microphone hears the loudspeaker, so many decibels softer. It needs `keep_audio`.
    pub echo: Option<f32>,
    /// How long `<Say>` takes for each character.
    pub say_letter: Duration,
    /// Keep both sides' audio and a list of every frame and mark. Without it, a call is cheap.
    pub keep_audio: bool,
    /// Write the send time into every frame, and measure stamped audio that arrives.
    pub stamps: bool,
    /// Post the number's status callback to `/call-status` at the end.
    pub status_callback: bool,
}

impl PhoneOptions {
    /// A call with random ids from +15550100100 to +15550100001 over a network without delay.
    pub fn new(server: impl Into<String>, auth_token: impl Into<String>) -> Self {
        let server = server.into();
        let hex = || format!("{:032x}", rand::random::<u128>());
        Self {
            public_url: server.clone(),
            server,
            auth_token: auth_token.into(),
            account_sid: format!("AC{}", hex()),
            call_sid: format!("CA{}", hex()),
            from: "+15550100100".to_owned(),
            to: "+15550100001".to_owned(),
            numbers: Vec::new(),
            network: Network::default(),
            frame_jitter: Duration::ZERO,
            faults: Vec::new(),
            script: Vec::new(),
            dials: Vec::new(),
            echo: None,
            say_letter: Duration::ZERO,
            keep_audio: true,
            stamps: false,
            status_callback: false,
        }
    }
}

/// Without the token and the numbers.
impl fmt::Debug for PhoneOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhoneOptions")
            .field("server", &self.server)
            .field("call_sid", &self.call_sid)
            .field("network", &self.network)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// The network between Twilio and the server. It delays requests and stream messages alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Network {
    /// From Twilio to the server.
    pub up: Duration,
    /// From the server to Twilio.
    pub down: Duration,
    /// Additional random delay of each message, up to this; the order is kept.
    pub jitter: Duration,
    /// The seed of the random numbers.
    pub seed: u64,
}

/// What happens to a number that `<Dial>` calls.
#[derive(Debug, Clone)]
pub struct DialOutcome {
    /// The `DialCallStatus`: `completed`, `no-answer`, `busy` or `failed`.
    pub status: String,
    /// The time for ringing and talking together, limited by what the `<Dial>` allows.
    pub after: Duration,
}

/// Something wrong or unusual on Twilio's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    BadSignature,
    NoSignature,
    BadStreamSignature,
    NoStreamSignature,
    /// The webhook is sent twice; the second answer counts.
    TwoWebhooks,
    /// After the upgrade, a second attempt with the same URL.
    TwoConnects,
    /// The stream URL gets a query that is not in the TwiML.
    QueryOnTicket,
    /// `connected`, and then nothing.
    NoStart,
    /// A media message before `start`.
    MediaFirst,
    /// `start` with the SID of another call.
    WrongCallSid,
    /// A binary frame after ten frames of media.
    Binary,
    /// A text frame that is not JSON, likewise.
    Garbage,
    /// A media frame of 100 KiB, likewise.
    Oversized,
    /// A media frame of another stream, likewise.
    WrongStream,
    /// Undocumented events, likewise.
    UnknownEvents,
    /// For a while, no media is sent.
    Silent {
        after: Duration,
        lasting: Duration,
    },
    /// Nothing is sent or read for a while, then the connection is cut.
    HalfOpen {
        after: Duration,
        lasting: Duration,
    },
    /// The connection is cut without `stop` and without a close frame.
    Cut {
        after: Duration,
    },
    /// At the end, the connection is dropped without `stop`.
    NoStop,
    TwoStops,
    /// `\/` in base64, which JSON allows.
    EscapedSlashes,
    /// Counters as JSON numbers.
    NumericCounters,
    /// Undocumented fields.
    ExtraFields,
}
