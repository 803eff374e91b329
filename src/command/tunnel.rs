//! `serve --tunnel`: a public address while the server runs, and a number that points at it.

use std::io::{self, BufRead, BufReader, IsTerminal as _, Write, stderr, stdin};
use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::anyhow;
use tokio::sync::oneshot;

use super::numbers;
use crate::assistant::Roster;
use crate::link::twilio_rest::Account;
use crate::numbers::{Row, rings_allowlist, whole_url};
use crate::phone::PhoneNumber;
use crate::serve::{self, Serve};
use crate::settings::Settings;
use crate::terminal::Failure;
use crate::tunnel::pointing::{Hold, PointError, Pointed, compare, state_dir};
use crate::tunnel::{self, Tunnel};

/// How often a question is asked before it counts as answered with no.
const MOST_QUESTIONS: usize = 3;

/// An open tunnel.
pub struct Open {
    tunnel: Tunnel,
    pointed: Option<(Account, Pointed, Hold)>,
}

/// Opens the tunnel and points a number at it: `number`, or the one that the owner chooses at a terminal. `None` if
/// `shutdown` comes first.
pub async fn open(
    settings: &Settings,
    roster: &Roster,
    number: Option<&PhoneNumber>,
    listening: SocketAddr,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Open>, Failure> {
    let is_attended = stdin().is_terminal() && stderr().is_terminal();
    let Numbers { account, rows } = Numbers::read(settings, roster, number, is_attended).await?;
    tracing::info!("Opening a tunnel, which takes a few seconds");
    let tunnel = tokio::select! {
        tunnel = Tunnel::open(tunnel::local(listening)) => tunnel.map_err(anyhow::Error::from)?,
        () = &mut shutdown => return Ok(None),
    };
    tracing::info!(public_url = tunnel.url(), "The tunnel is open");
    if !has_credentials(settings) {
        tracing::warn!(
            "No number can be pointed at the tunnel, because TWILIO_ACCOUNT_SID is not set in .env"
        );
    } else if is_attended && !rows.iter().any(|row| obstacle(Some(row)).is_none()) {
        tracing::warn!("No number can be pointed at the tunnel; `switchboard numbers list` shows why");
    }
    let chosen = match number {
        Some(number) => rows.iter().find(|row| row.number == *number).cloned(),
        None => tokio::select! {
            chosen = asked(rows) => chosen,
            () = &mut shutdown => {
                tunnel.close().await;
                return Ok(None);
            }
        },
    };
    let owned = chosen.and_then(|row| row.owned);
    let Some(((account, hold), owned)) = account.zip(owned) else {
        let voice_url = format!("{}/incoming-call", tunnel.url());
        tracing::info!(
            voice_url,
            "No number points at the tunnel; in Twilio's console, set this voice URL (HTTP POST) for a number"
        );
        return Ok(Some(Open { tunnel, pointed: None }));
    };
    let pointed = match Pointed::point(&account, &owned, tunnel.url(), &hold).await {
        Ok(pointed) => pointed,
        Err(error) => {
            tunnel.close().await;
            return Err(error.into());
        }
    };
    if settings.twilio_functions_url.is_some() || rings_allowlist(&owned) {
        tracing::warn!(
            "The allowlist Function does not guard the tunnel, so every caller reaches the assistant"
        );
    }
    Ok(Some(Open { tunnel, pointed: Some((account, pointed, hold)) }))
}

impl Open {
    /// The address that Twilio calls.
    pub fn url(&self) -> &str {
        self.tunnel.url()
    }

    /// Serves until `shutdown`, or until the tunnel ends. The number is pointed back before calls are drained.
    pub async fn serve(mut self, serve: Serve, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let (mut broken, mut back) = (None, Ok(()));
        let served = serve::run(serve, async {
            tokio::select! {
                () = shutdown => {}
                why = self.tunnel.ended() => {
                    tracing::error!("The tunnel ended, so no call can arrive; the server ends");
                    broken = Some(why);
                }
            }
            back = point_back(&mut self.pointed).await;
        });
        let served = served.await;
        // If the server stopped by itself, the number was not pointed back above.
        let back = back.and(point_back(&mut self.pointed).await);
        self.tunnel.close().await;
        served?;
        back?;
        match broken {
            Some(why) => Err(anyhow::Error::from(why).into()),
            None => Ok(()),
        }
    }
}

impl From<PointError> for Failure {
    fn from(error: PointError) -> Self {
        Self::Error(error.into())
    }
}

/// What is known before the tunnel opens.
struct Numbers {
    /// The account, and the right to point one of its numbers.
    account: Option<(Account, Hold)>,
    /// The account's numbers, if one may be pointed.
    rows: Vec<Row>,
}

impl Numbers {
    /// Points a number back first that a killed tunnel left behind. Fails if `number` cannot be pointed.
    async fn read(
        settings: &Settings,
        roster: &Roster,
        number: Option<&PhoneNumber>,
        is_attended: bool,
    ) -> Result<Self, Failure> {
        let state = state_dir(settings);
        let may_point = number.is_some() || is_attended;
        let mut found = Self { account: None, rows: Vec::new() };
        if number.is_none() && !has_credentials(settings) {
            return Ok(found);
        }
        let account = numbers::account(settings)?;
        if !may_point && !Pointed::is_left(state) {
            return Ok(found);
        }
        let hold = Hold::take(state)?;
        if let Some(mut left) = Pointed::left_behind(&hold, &account)? {
            tracing::warn!("An earlier tunnel was killed; pointing its number back first");
            left.point_back(&account).await?;
        }
        if may_point {
            let owned = account.numbers().await.map_err(|error| anyhow!("{error}: {}", error.help()))?;
            found.rows = compare(owned, roster, None, state);
        }
        if let Some(number) = number
            && let Some(why) = obstacle(found.rows.iter().find(|row| row.number == *number))
        {
            return Err(anyhow!("the number of `--number` cannot be pointed at the tunnel: {why}").into());
        }
        found.account = Some((account, hold));
        Ok(found)
    }
}

async fn point_back(pointed: &mut Option<(Account, Pointed, Hold)>) -> Result<(), PointError> {
    match pointed.take() {
        Some((account, mut pointed, _hold)) => pointed.point_back(&account).await,
        None => Ok(()),
    }
}

fn has_credentials(settings: &Settings) -> bool {
    let has_key = settings.twilio_api_key.is_some() && settings.twilio_api_secret.is_some();
    settings.twilio_account_sid.is_some() && (has_key || !settings.twilio_auth_tokens.is_empty())
}

/// Why a number cannot be pointed at the tunnel. Does not show the number.
fn obstacle(row: Option<&Row>) -> Option<&'static str> {
    let Some(Row { owned: Some(owned), answered, .. }) = row else {
        return Some("the account does not own it; `switchboard numbers list` shows what it owns");
    };
    if answered.assistant().is_none() {
        return Some("no assistant answers it; add it to `numbers` in an assistant's file");
    }
    if !owned.voice {
        return Some("it has no voice capability, so it cannot be called");
    }
    let why = "a TwiML application or a SIP trunk answers it; remove that in Twilio's console first";
    owned.is_taken().then_some(why)
}

/// Asks at the terminal. If nobody waits for the answer, the thread ends with the process.
async fn asked(rows: Vec<Row>) -> Option<Row> {
    let (answer_tx, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let chosen = ask(&rows, &mut BufReader::new(stdin()), &mut stderr());
        let _ = answer_tx.send(chosen.ok().flatten().cloned());
    });
    answer.await.ok().flatten()
}

/// Asks which of the numbers to point at the tunnel. It shows them in full to their owner.
fn ask<'a>(
    rows: &'a [Row],
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Option<&'a Row>> {
    let rows: Vec<&Row> = rows.iter().filter(|row| obstacle(Some(row)).is_none()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    writeln!(output, "Which number should ring this machine until the server ends?")?;
    for (index, row) in rows.iter().enumerate() {
        let voice_url = row.owned.as_ref().and_then(|owned| owned.voice_url.as_deref());
        let rings = voice_url.map_or_else(|| "nothing".to_owned(), whole_url);
        let name = row.answered.assistant().unwrap_or_default();
        writeln!(output, "  {}  {} ({name}), which rings {rings}", index + 1, row.number.expose())?;
    }
    for _ in 0..MOST_QUESTIONS {
        let choices = if rows.len() > 1 { format!("1 to {}", rows.len()) } else { "1".to_owned() };
        write!(output, "{choices}, or Enter for none: ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        let answer = line.trim();
        let yes = rows.len() == 1 && matches!(answer.to_lowercase().as_str(), "y" | "yes");
        let chosen = if yes { Some(1) } else { answer.parse::<usize>().ok() };
        if let Some(row) = chosen.and_then(|chosen| rows.get(chosen.checked_sub(1)?)) {
            return Ok(Some(row));
        }
        writeln!(output, "There is no such number in the list.")?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::twilio_rest::{Change, Number};
    use crate::numbers::Answered;

    fn row(number: &str, assistant: Option<&str>, taken: bool) -> Row {
        let number = PhoneNumber::parse(number).unwrap();
        let owned = Number {
            sid: "PN1".to_owned(),
            number: number.clone(),
            friendly_name: String::new().into(),
            voice: true,
            voice_url: Some("https://old.example.com/voice".to_owned()),
            voice_method: "POST".to_owned(),
            fallback_url: None,
            fallback_method: "POST".to_owned(),
            status_callback: None,
            status_method: "POST".to_owned(),
            application: None,
            trunk: taken.then(|| "TK1".to_owned()),
        };
        let answered = assistant.map_or(Answered::ByNobody, |name| Answered::ByEntry(name.to_owned()));
        Row { number, owned: Some(owned), answered, problems: Vec::new(), change: Change::default() }
    }

    #[test]
    fn the_owner_chooses_among_the_numbers_without_an_obstacle() {
        let rows = [
            row("+15550100001", Some("desk"), false),
            row("+15550100002", None, false),
            row("+15550100003", Some("desk"), true),
            row("+15550100004", Some("clinic"), false),
        ];
        for (typed, expected) in [
            ("2\n", Some("+15550100004")),
            (" 1 \n", Some("+15550100001")),
            ("\n", None),
            ("", None),
            ("0\n3\n2\n", Some("+15550100004")),
            ("x\nx\nx\n1\n", None),
        ] {
            let mut shown = Vec::new();
            let chosen = ask(&rows, &mut typed.as_bytes(), &mut shown).unwrap();
            assert_eq!(chosen.map(|row| row.number.expose()), expected, "{typed:?}");
            let shown = String::from_utf8(shown).unwrap();
            assert!(
                shown.contains("+15550100004 (clinic)") && shown.contains("https://old.example.com/voice")
            );
            assert!(!shown.contains("+15550100002") && !shown.contains("+15550100003"), "{shown}");
        }
        for (typed, is_chosen) in [("y\n", true), ("Yes\n", true), ("n\n\n", false), ("2\n1\n", true)] {
            let chosen = ask(&rows[..1], &mut typed.as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(chosen.is_some(), is_chosen, "{typed:?}");
        }
        let mut shown = Vec::new();
        assert!(ask(&rows[1..3], &mut "1\n".as_bytes(), &mut shown).unwrap().is_none());
        assert!(shown.is_empty(), "there is nothing to choose");
    }
}
