//! Everything that can go wrong with the server, as data: what, at which moment, how often.

use std::time::{Duration, Instant};

use super::options::ModelOptions;

/// One thing that goes wrong: a habit of the server, or a trouble at a moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A trouble, when it strikes, and how often on this server. [`Fault::once`] and its neighbours make one.
    At(Moment, Times, Trouble),
    /// The handshake takes this long.
    SlowHandshake(Duration),
    /// The upgrade is answered with this HTTP status.
    UpgradeStatus(u16),
    /// The connection is accepted, and nothing is ever sent.
    SilentTcp,
    /// The connection is refused after the 101.
    RefuseConnect(ConnectError),
    /// `session.created` is never sent.
    NoCreated,
    /// Updates are applied, but `session.updated` is never sent.
    NoUpdated,
    /// `session.updated` is sent after this delay.
    LateUpdated(Duration),
    /// An update with transcription, noise reduction, speed, reasoning or truncation is refused; with `once`,
    /// only the server's first such update.
    RefuseOptional {
        once: bool,
    },
    RefuseUpdates,
    /// The n-th response of the session, from 1, fails with this code before any output.
    ResponseFailed {
        nth: usize,
        code: &'static str,
    },
    /// The client's n-th request for a response, from 1, is refused with this code.
    RefuseResponse {
        nth: usize,
        code: &'static str,
    },
    /// The n-th response ends halfway through its speech or its call, for the reason `max_output_tokens` or
    /// `content_filter`.
    ResponseIncomplete {
        nth: usize,
        reason: &'static str,
    },
    /// The n-th response stalls forever after this much audio.
    Stall {
        nth: usize,
        after: Duration,
    },
    /// The connection is dropped without a close frame.
    Drop(When),
    /// The connection is closed with this code and reason.
    Close {
        when: When,
        code: u16,
        reason: &'static str,
    },
    /// The session expires early: an error, then close 1001.
    Expire(When),
    /// Invalid frames: text that is not JSON, JSON without a type, binary.
    Garbage(When),
    /// One text frame of this many bytes.
    Huge {
        when: When,
        bytes: usize,
    },
    /// Every spoken answer is two items, with phases.
    TwoItems,
    /// Function calls are spoken as text, such as `name({"a": 1})`.
    WritesCalls,
    /// Each `speech_started` is sent twice.
    DuplicateSpeechStarted,
    /// An `error` with an unknown code that answers no event.
    UnsolicitedError(When),
    /// `rate_limits.updated` is never sent.
    NoRateLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This long after the connection was accepted.
    After(Duration),
    /// At the first delta of the n-th response, from 1.
    Response(usize),
}

/// When a trouble strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This long after `session.created`.
    After(Duration),
    /// The caller's speech, as this server hears it, has lasted this long.
    Speech(Duration),
    /// The client asks for such a response.
    Request(Which),
    /// Such a response has come this far.
    Response(Which, Point),
    /// A function other than `end_call` runs: 300 ms after its call.
    Tool,
}

/// Which responses. Those outside the conversation are never meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Any,
    /// The session's n-th, from 1.
    Nth(usize),
    For(Aim),
}

/// What a response is for, as far as this server can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The first words: by its metadata, or before the caller has said anything.
    Greeting,
    Answer,
    /// By its metadata, or because it calls `end_call`.
    Goodbye,
    /// Out of band, or a short word between two turns: a check, a filler.
    Aside,
    /// Out of band, and it must call a function.
    Form,
}

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// It has been created, and nothing of it sent.
    Created,
    /// This much of its audio has been sent; zero means the first delta.
    Sound(Duration),
    /// Half of the current speech, or of the current call.
    Half,
    /// All of it has been sent.
    Made,
}

/// How often a trouble strikes, on all connections of the server together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Count(usize),
    /// For this long, from the first time.
    For(Duration),
    Ever,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The connection is closed with this code and reason.
    Close(u16, &'static str),
    /// The connection ends without a close frame.
    Drop,
    /// TCP's reset.
    Reset,
    /// Nothing is read or sent any more, not even pongs; the connection stays.
    HalfOpen,
    /// Pings are answered, and nothing else is.
    Stalled,
    /// An error with this code, then a close: `session_expired`, `invalid_api_key`, `rate_limit_exceeded` …
    Fatal(&'static str),
    /// An error with this code that answers no event.
    Error(&'static str),
    /// Text that is not JSON, JSON without a type, binary.
    Garbage,
    /// One text frame of this many bytes.
    Huge(usize),
    /// No speech is detected any more; requests and commits work.
    Deaf,
    /// `speech_started`, if nobody was speaking, and no `speech_stopped` for this long or ever. A commit or a clear of
    /// the buffer ends it.
    EndlessSpeech(Option<Duration>),
    /// The request is refused with this code. Only at [`Moment::Request`], as the next one.
    Refused(&'static str),
    /// The request is refused because of a response that nobody knows; cancelling that one ends the trouble.
    Conflict,
    /// The response fails with this code. This and all that follow: only at [`Moment::Response`].
    Failed(&'static str),
    /// The server cancels the response, although nobody spoke.
    Cancelled,
    /// The response ends early, for the reason `max_output_tokens` or `content_filter`.
    Incomplete(&'static str),
    /// Nothing of the response comes for this long.
    Late(Duration),
    /// Nothing of the response comes any more.
    Mute,
    /// The response completes with nothing in it.
    Empty,
    /// The response is text and has no audio.
    TextOnly,
    /// All audio from here on is digital silence.
    Silent,
    /// From here on only deltas of the transcript come, without an end.
    WordsOnly,
    /// A function call whose arguments are white space without an end.
    EndlessArguments,
}

/// Why a connection is refused right after the 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// 3000.
    InvalidKey,
    /// 3000.
    MissingKey,
    /// 4000.
    UnknownModel,
    /// 4000.
    MissingModel,
    /// The request has the beta's header: 4000.
    BetaHeader,
    /// The account has no credit: 4000.
    InsufficientQuota,
}

impl Fault {
    pub fn once(moment: Moment, trouble: Trouble) -> Self {
        Self::At(moment, Times::Count(1), trouble)
    }

    pub fn twice(moment: Moment, trouble: Trouble) -> Self {
        Self::At(moment, Times::Count(2), trouble)
    }

    pub fn always(moment: Moment, trouble: Trouble) -> Self {
        Self::At(moment, Times::Ever, trouble)
    }

    /// From its first time on for this long.
    pub fn lasting(long: Duration, moment: Moment, trouble: Trouble) -> Self {
        Self::At(moment, Times::For(long), trouble)
    }

    /// The fault as a trouble at a moment; `None` for a habit of the server.
    pub(super) fn rule(&self) -> Option<(Moment, Times, Trouble)> {
        let created = |nth: &usize| Moment::Response(Which::Nth(*nth), Point::Created);
        let (moment, trouble) = match self {
            Fault::At(moment, times, trouble) => return Some((*moment, *times, *trouble)),
            Fault::ResponseFailed { nth, code } => (created(nth), Trouble::Failed(code)),
            Fault::RefuseResponse { nth, code } => {
                (Moment::Request(Which::Nth(*nth)), Trouble::Refused(code))
            }
            Fault::ResponseIncomplete { nth, reason } => {
                (Moment::Response(Which::Nth(*nth), Point::Half), Trouble::Incomplete(reason))
            }
            Fault::Stall { nth, after } => {
                (Moment::Response(Which::Nth(*nth), Point::Sound(*after)), Trouble::Mute)
            }
            Fault::Drop(when) => (when.moment(), Trouble::Drop),
            Fault::Close { when, code, reason } => (when.moment(), Trouble::Close(*code, reason)),
            Fault::Expire(when) => (when.moment(), Trouble::Fatal("session_expired")),
            Fault::Garbage(when) => (when.moment(), Trouble::Garbage),
            Fault::Huge { when, bytes } => (when.moment(), Trouble::Huge(*bytes)),
            Fault::UnsolicitedError(when) => (when.moment(), Trouble::Error("tide_unfavourable")),
            _ => return None,
        };
        Some((moment, Times::Ever, trouble))
    }
}

impl When {
    fn moment(self) -> Moment {
        match self {
            When::After(delay) => Moment::After(delay),
            When::Response(nth) => Moment::Response(Which::Nth(nth), Point::Sound(Duration::ZERO)),
        }
    }
}

impl Moment {
    pub fn greeting(point: Point) -> Self {
        Self::Response(Which::For(Aim::Greeting), point)
    }

    pub fn answer(point: Point) -> Self {
        Self::Response(Which::For(Aim::Answer), point)
    }

    pub fn goodbye(point: Point) -> Self {
        Self::Response(Which::For(Aim::Goodbye), point)
    }
}

impl Which {
    pub(super) fn means(self, nth: usize, aim: Aim) -> bool {
        match self {
            // One beside the conversation only if it is meant by its number or its aim.
            Which::Any => !matches!(aim, Aim::Aside | Aim::Form),
            Which::Nth(wanted) => wanted == nth,
            Which::For(wanted) => wanted == aim,
        }
    }
}

/// The troubles of a server, and how often each has struck.
pub(super) struct Troubles(Vec<Rule>);

struct Rule {
    moment: Moment,
    times: Times,
    trouble: Trouble,
    struck: usize,
    first: Option<Instant>,
}

impl Troubles {
    pub fn new(options: &ModelOptions) -> Self {
        let rules = options.faults.iter().filter_map(Fault::rule);
        let rule = |(moment, times, trouble)| Rule { moment, times, trouble, struck: 0, first: None };
        Self(rules.map(rule).collect())
    }

    /// The troubles that strike now, each with its number. Those in `spent` have struck the same thing already.
    pub fn strike(
        &mut self,
        now: Instant,
        spent: &[usize],
        reached: impl Fn(Moment) -> bool,
    ) -> Vec<(usize, Trouble)> {
        let mut strikes = Vec::new();
        for (number, rule) in self.0.iter_mut().enumerate() {
            if !spent.contains(&number) && reached(rule.moment) && rule.is_due(now) {
                rule.struck += 1;
                rule.first.get_or_insert(now);
                strikes.push((number, rule.trouble));
            }
        }
        strikes
    }

    /// When troubles strike by the clock, after the start of a session.
    pub fn delays(&self) -> Vec<Duration> {
        let delay = |rule: &Rule| match rule.moment {
            Moment::After(delay) => Some(delay),
            _ => None,
        };
        self.0.iter().filter_map(delay).collect()
    }

    /// The trouble does not strike again.
    pub fn settle(&mut self, trouble: Trouble) {
        self.0
            .iter_mut()
            .filter(|rule| rule.trouble == trouble)
            .for_each(|rule| rule.times = Times::Count(0));
    }
}

impl Rule {
    fn is_due(&self, now: Instant) -> bool {
        match self.times {
            Times::Ever => true,
            Times::Count(count) => self.struck < count,
            Times::For(long) => self.first.is_none_or(|first| now.duration_since(first) < long),
        }
    }
}
