//! `serve --tunnel`: a public address for as long as the server runs, and a number that rings it.

use std::io::{BufReader, IsTerminal as _, stderr, stdin};
use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::anyhow;
use tokio::sync::oneshot;

use super::{Failure, numbers};
use crate::assistant::Roster;
use crate::link::twilio_rest::Account;
use crate::numbers::{Row, compare, rings_allowlist};
use crate::phone::PhoneNumber;
use crate::serve::{self, Serve};
use crate::settings::Settings;
use crate::tunnel::pointing::{self, Hold, PointError, Pointed};
use crate::tunnel::{self, Tunnel};

/// A tunnel that stands.
pub struct Open {
    tunnel: Tunnel,
    pointed: Option<(Account, Pointed, Hold)>,
}

/// Opens the tunnel and points a number at it: `number`, or the one that is chosen where somebody can be asked.
/// `None`: `shutdown` came first.
pub async fn open(
    settings: &Settings,
    roster: &Roster,
    number: Option<&PhoneNumber>,
    listening: SocketAddr,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Open>, Failure> {
    // What is missing is said before anything is started.
    let account = match (number, has_credentials(settings)) {
        (None, false) => None,
        _ => Some(numbers::account(settings)?),
    };
    let state = numbers::state_dir(settings);
    let is_attended = is_attended();
    let may_point = number.is_some() || is_attended || Pointed::is_left(state);
    let hold = match &account {
        Some(_) if may_point => Some(Hold::take(state).map_err(told)?),
        _ => None,
    };
    if let (Some(account), Some(hold)) = (&account, &hold)
        && let Some(mut left) = Pointed::left_behind(hold, account).map_err(told)?
    {
        tracing::warn!("A tunnel of before was killed: its number is put back first");
        left.put_back(account).await.map_err(told)?;
    }
    let rows = match &account {
        // Whether somebody is asked or not: the list is short, and shows that the credentials are right.
        Some(account) if number.is_some() || is_attended => {
            let owned = account.numbers().await.map_err(|error| anyhow!("{error}: {}", error.help()))?;
            compare(owned, roster, None)
        }
        _ => Vec::new(),
    };
    if let Some(number) = number {
        let row = rows.iter().find(|row| row.number == *number);
        if let Some(why) = pointing::obstacle(row) {
            return Err(anyhow!("the number of `--number` cannot ring the tunnel: {why}").into());
        }
    }
    tracing::info!("Opening a tunnel: cloudflared takes some seconds");
    let tunnel = tokio::select! {
        tunnel = Tunnel::open(tunnel::local(listening)) => tunnel.map_err(anyhow::Error::from)?,
        () = &mut shutdown => return Ok(None),
    };
    tracing::info!(public_url = tunnel.url(), "The tunnel stands");
    // Why nobody is asked for a number, though somebody could be.
    let no_choice = match (&account, number) {
        (None, _) => Some(
            "TWILIO_ACCOUNT_SID is not set, so no number can be pointed here: put it into .env".to_owned(),
        ),
        (Some(_), None) if is_attended => pointing::no_choice(&rows),
        (Some(_), _) => None,
    };
    no_choice.iter().for_each(|why| tracing::warn!("{why}"));
    let chosen = match number {
        Some(number) => rows.iter().find(|row| row.number == *number).cloned(),
        None if rows.is_empty() => None,
        None => tokio::select! {
            chosen = asked(rows) => chosen,
            () = &mut shutdown => {
                tunnel.close().await;
                return Ok(None);
            }
        },
    };
    let owned = chosen.and_then(|row| row.owned);
    let Some(((account, hold), owned)) = account.zip(hold).zip(owned) else {
        let voice_url = format!("{}/incoming-call", tunnel.url());
        tracing::info!(
            voice_url,
            "No number rings the tunnel by itself: set this as a number's voice URL, by POST"
        );
        return Ok(Some(Open { tunnel, pointed: None }));
    };
    let pointed = Pointed::point(&account, &owned, tunnel.url(), &hold).await;
    let guarded = settings.twilio_functions_url.is_some() || rings_allowlist(&owned);
    if pointed.is_ok() && guarded {
        tracing::warn!(
            "The allowlist Function is not in front of the tunnel: everybody who calls gets through"
        );
    }
    match pointed {
        Ok(pointed) => Ok(Some(Open { tunnel, pointed: Some((account, pointed, hold)) })),
        Err(error) => {
            tunnel.close().await;
            Err(told(error))
        }
    }
}

impl Open {
    /// The address that Twilio calls.
    pub fn url(&self) -> &str {
        self.tunnel.url()
    }

    /// Serves until `shutdown`, or until the tunnel ends; the number is put back before calls are drained.
    pub async fn serve(mut self, serve: Serve, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let (mut broken, mut left) = (None, Ok(()));
        let served = serve::run(serve, async {
            tokio::select! {
                () = shutdown => {}
                why = self.tunnel.ended() => {
                    tracing::error!("The tunnel ended: nobody can call any more, and this server ends");
                    broken = Some(why);
                }
            }
            left = put_back(&mut self.pointed).await;
        });
        let served = served.await;
        // Where serving ended by itself.
        let left = left.and(put_back(&mut self.pointed).await);
        self.tunnel.close().await;
        served?;
        left.map_err(told)?;
        match broken {
            Some(why) => Err(anyhow::Error::from(why).into()),
            None => Ok(()),
        }
    }
}

fn told(error: PointError) -> Failure {
    anyhow::Error::from(error).into()
}

async fn put_back(pointed: &mut Option<(Account, Pointed, Hold)>) -> Result<(), PointError> {
    match pointed.take() {
        Some((account, mut pointed, _hold)) => pointed.put_back(&account).await,
        None => Ok(()),
    }
}

fn has_credentials(settings: &Settings) -> bool {
    let has_key = settings.twilio_api_key.is_some() && settings.twilio_api_secret.is_some();
    settings.twilio_account_sid.is_some() && (has_key || !settings.twilio_auth_tokens.is_empty())
}

fn is_attended() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Asks at the terminal. Where it is given up, the thread that waits there ends with the process.
async fn asked(rows: Vec<Row>) -> Option<Row> {
    let (answer_tx, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let chosen = pointing::ask(&rows, &mut BufReader::new(stdin()), &mut stderr());
        // Whoever asked may be gone.
        let _ = answer_tx.send(chosen.ok().flatten().cloned());
    });
    answer.await.ok().flatten()
}
