//! `switchboard serve`: checks everything, listens, opens the tunnel if there is to be one, and runs the server.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::tunnel;
use crate::assistant::Roster;
use crate::console::OneTimeLink;
use crate::doctor;
use crate::observe;
use crate::phone::PhoneNumber;
use crate::problem::{Problem, Severity};
use crate::process;
use crate::rehearse::{self, SimulatedModel};
use crate::reload::fetch::Rounds;
use crate::reload::{self, RemoteFolder};
use crate::serve::{self, Hangup, Reload, Serve};
use crate::settings::{FILE, LogFormat, ServeSettings, Settings};
use crate::terminal::{Failure, print};
use crate::workspace::{ENV_FILE, Workspace};

/// Stands for the address of a tunnel that is not open yet.
const UNTIL_TUNNEL: &str = "https://tunnel.example.com";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// For development: open a temporary public address with cloudflared and use it as PUBLIC_URL
    #[arg(long)]
    tunnel: bool,
    /// Point this number at the tunnel, and restore it when the server ends
    #[arg(long, value_name = "NUMBER", requires = "tunnel")]
    number: Option<String>,
    /// Print a link that opens the console on this machine once. Without CONSOLE_PASSWORD, the server then listens on this
    /// machine only, and needs no Twilio account
    #[arg(long)]
    console: bool,
    /// For trying: a simulated model answers in place of OpenAI, without a key
    #[arg(long)]
    simulate: bool,
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let number = arguments.number.as_deref().map(number).transpose()?;
    let model = match arguments.simulate {
        true => Some(rehearse::any_model().await?),
        false => None,
    };
    let Checked { mut settings, mut ready, mut environment, roster, remote_folder, is_local } =
        check(&arguments, model.as_ref()).await?;
    if let Some(warning) = process::raise_descriptor_limit(settings.max_calls) {
        tracing::warn!("{warning}");
    }
    let listener = bind(&settings, settings.port, "PORT").await?;
    let console = match arguments.console {
        true => Some(console(&settings, &listener, is_local, &mut ready)?),
        false => None,
    };
    let metrics_listener = match settings.metrics_port {
        Some(port) => Some(bind(&settings, port, "METRICS_PORT").await?),
        None => None,
    };
    let metrics = observe::metrics::install().context("metrics cannot be counted")?;
    let again = Arc::<Notify>::default();
    // A tunnel must be closed with its terminal: its number points nowhere afterwards.
    let hangup = if arguments.tunnel { Hangup::Ends } else { Hangup::Reloads(again.clone()) };
    let mut shutdown = pin!(serve::signalled(hangup)?);
    let tunnel = if arguments.tunnel {
        let listening = listener.local_addr().context("the listener has no address")?;
        let open = tunnel::open(&settings, &roster, number.as_ref(), listening, shutdown.as_mut()).await?;
        let Some(open) = open else { return Ok(()) };
        open.url().clone_into(&mut ready.public_url);
        settings.public_url = Some(ready.public_url.clone());
        environment.insert("PUBLIC_URL".to_owned(), ready.public_url.clone());
        Some(open)
    } else {
        None
    };
    let from = match remote_folder {
        Some(folder) => serve::From::Remote(Box::new(folder)),
        None => serve::From::Disk(settings.assistants_dir.clone()),
    };
    let serve = Serve {
        settings,
        ready,
        roster,
        reload: Some(Reload { from, settings_file: FILE.into(), environment, again }),
        listener,
        metrics_listener,
        metrics: Some(metrics),
        records: None,
        letters: None,
        tools_first: false,
        now: None,
        captures: !arguments.simulate,
        simulated: arguments.simulate,
        console: console.flatten(),
        doctor: Some(Arc::new(|| Box::pin(doctor::findings()))),
    };
    match tunnel {
        Some(open) => open.serve(serve, shutdown).await,
        None => Ok(serve::run(serve, shutdown).await?),
    }
}

/// Prints where the console is. Without a password, the link that opens it once.
fn console(
    settings: &Settings,
    listener: &TcpListener,
    is_local: bool,
    ready: &mut ServeSettings,
) -> Result<Option<OneTimeLink>, Failure> {
    let address = listener.local_addr().context("the listener has no address")?;
    let here = format!("http://localhost:{}", address.port());
    if is_local {
        ready.public_url.clone_from(&here);
    }
    if settings.console_password.is_some() {
        print(&format!("Console: {here}/console/"))?;
        return Ok(None);
    }
    if !address.ip().is_loopback() {
        return Err(anyhow!(
            "--console without a password opens the console on this machine only: set HOST=127.0.0.1, or set \
             CONSOLE_PASSWORD"
        )
        .into());
    }
    // A browser may know `localhost` as another address than the one listened on.
    let link = OneTimeLink::default();
    print(&format!("Console, once, within 15 minutes: {}", link.url(&format!("http://{address}"))))?;
    Ok(Some(link))
}

fn number(text: &str) -> Result<PhoneNumber, Failure> {
    PhoneNumber::parse(text.trim()).map_err(|why| {
        Failure::Usage(format!("`--number {text}` is not a phone number: {why}, such as +15550100001"))
    })
}

/// Settings and folder, without a problem.
struct Checked {
    settings: Settings,
    ready: ServeSettings,
    environment: BTreeMap<String, String>,
    roster: Roster,
    /// Set with ASSISTANTS_URL, even if the first fetch failed.
    remote_folder: Option<RemoteFolder>,
    /// There is no address that Twilio could call.
    is_local: bool,
}

/// Reads and checks the settings and the folder, sets up logging, and logs all warnings.
async fn check(arguments: &Arguments, model: Option<&SimulatedModel>) -> Result<Checked, Failure> {
    let mut workspace = Workspace::read();
    let tunnel = arguments.tunnel;
    if let Some(model) = model {
        workspace.set("OPENAI_REALTIME_URL", &model.url());
        workspace.set("OPENAI_API_KEY", model.key());
    }
    let is_local = arguments.console && !tunnel && workspace.settings.public_url.is_none();
    if arguments.console && !tunnel {
        only_here(&mut workspace);
    }
    let has_address = workspace.settings.public_url.is_some();
    if tunnel {
        workspace.set("PUBLIC_URL", UNTIL_TUNNEL);
    }
    let settings = &workspace.settings;
    let ready = settings.for_serve().filter(|_| !workspace.problems.iter().any(Problem::is_error));
    let (mut problems, doubts): (Vec<_>, Vec<_>) =
        doctor::local(&workspace).into_iter().partition(Problem::is_error);
    let json = settings.log_format.map(|format| format == LogFormat::Json);
    observe::init(&settings.log, "info", json);
    let remote = if ready.is_some() { workspace.remote()? } else { None };
    let remote_folder = match remote {
        Some(remote) => Some(RemoteFolder::begin(remote, Rounds::default()).await),
        None => None,
    };
    let (roster, warnings) = check_folder(&workspace, remote_folder.as_ref())
        .map_err(|wrong| problems.extend(wrong))
        .unwrap_or_default();
    // Without any provider, the missing key is reported above.
    if settings.openai_api_key.is_some() || !settings.named_providers.is_empty() {
        problems.extend(roster.without_key());
    }
    let Some(ready) = ready.filter(|_| problems.is_empty()) else {
        // A missing setting may be in `.env` under a misspelled name.
        problems.extend(warnings.into_iter().filter(|warning| warning.path() == ENV_FILE));
        return Err(problems.into());
    };
    if tunnel && has_address {
        tracing::warn!("PUBLIC_URL is not used: --tunnel makes an address of its own");
    }
    let of_address = |doubt: &&Problem| is_local && doubt.of_setting() == Some("PUBLIC_URL");
    let doubts = doubts.iter().filter(|doubt| doubt.severity() == Severity::Warning && !of_address(doubt));
    let deliveries = doctor::deliveries(settings, &roster);
    for warning in doubts.chain(&warnings).chain(&deliveries) {
        tracing::warn!(problem = %warning.line(), "Warning at start");
    }
    if !roster.answers() {
        tracing::warn!(
            "No assistant answers a number yet: add one to `numbers`, or set the variable used there"
        );
    }
    let Workspace { settings, environment, .. } = workspace;
    Ok(Checked { settings, ready, environment, roster, remote_folder, is_local })
}

/// For the console alone, the server needs no account at Twilio, and no address that others can reach.
fn only_here(workspace: &mut Workspace) {
    let settings = &workspace.settings;
    let port = settings.port;
    let (no_host, no_token) = (settings.host.is_none(), settings.twilio_auth_tokens.is_empty());
    let (no_url, no_password) = (settings.public_url.is_none(), settings.console_password.is_none());
    if no_host && no_password && !settings.on_fly() {
        workspace.set("HOST", "127.0.0.1");
    }
    if no_token && no_url {
        workspace.set("TWILIO_AUTH_TOKEN", &rehearse::token());
    }
    if no_url {
        workspace.set("PUBLIC_URL", &format!("http://localhost:{port}"));
    }
}

/// The fetched folder, if there is one and it passes; else the folder on the disk, which answers until a fetch works.
/// If neither passes, the problems of both.
fn check_folder(
    workspace: &Workspace,
    remote_folder: Option<&RemoteFolder>,
) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let Some(fetched) = remote_folder.and_then(RemoteFolder::fresh) else { return workspace.roster() };
    let mut warnings = workspace.check_env_file(fetched, true);
    let providers = workspace.settings.providers();
    let record = workspace.settings.record;
    match reload::check_to_serve(Ok(fetched.clone()), &workspace.environment, &providers, record) {
        Ok((roster, more)) => {
            warnings.extend(more);
            Ok((roster, warnings))
        }
        Err(mut wrong) => workspace.roster().map_err(|local| {
            wrong.extend(local);
            wrong
        }),
    }
}

async fn bind(settings: &Settings, port: u16, name: &str) -> anyhow::Result<TcpListener> {
    let host = settings.listens_on();
    let error = match TcpListener::bind((host, port)).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    match refusal(settings, &error) {
        Refusal::NoIpv6ByDefault => {
            tracing::warn!(%error, "Cannot listen on `::`; with 0.0.0.0, other machines cannot reach this one");
            let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
            other.with_context(|| cannot_listen(Ipv4Addr::UNSPECIFIED.into(), port, name))
        }
        Refusal::NoIpv6 => Err(error).context(
            "cannot listen on HOST `::`: this machine seems to have no IPv6; set HOST=0.0.0.0 or unset it",
        ),
        Refusal::Port => Err(error).with_context(|| cannot_listen(host, port, name)),
    }
}

fn cannot_listen(host: IpAddr, port: u16, name: &str) -> String {
    format!("cannot listen on {host}, port {port}; if another program does, stop it or choose another {name}")
}

/// Why an address cannot be listened on.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The machine seems to have no IPv6, which only the default asked for.
    NoIpv6ByDefault,
    /// The same, but HOST asks for it.
    NoIpv6,
    /// The port is taken or needs a privilege, or the address is not this machine's.
    Port,
}

fn refusal(settings: &Settings, error: &io::Error) -> Refusal {
    let about_port = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied];
    if settings.listens_on() != Ipv6Addr::UNSPECIFIED || about_port.contains(&error.kind()) {
        return Refusal::Port;
    }
    if settings.host.is_none() { Refusal::NoIpv6ByDefault } else { Refusal::NoIpv6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    #[test]
    fn without_ipv6_the_server_listens_on_ipv4_unless_host_asks_for_ipv6() {
        let missing = io::ErrorKind::AddrNotAvailable;
        for (host, kind, expected) in [
            (None, missing, Refusal::NoIpv6ByDefault),
            (None, io::ErrorKind::Unsupported, Refusal::NoIpv6ByDefault),
            (None, io::ErrorKind::AddrInUse, Refusal::Port),
            (None, io::ErrorKind::PermissionDenied, Refusal::Port),
            (Some("::"), missing, Refusal::NoIpv6),
            (Some("::"), io::ErrorKind::AddrInUse, Refusal::Port),
            (Some("0.0.0.0"), missing, Refusal::Port),
        ] {
            let fly = [("FLY_MACHINE_ID", "0123456789abcd"), ("FLY_APP_NAME", "phone")];
            let environment = fly.into_iter().chain(host.map(|host| ("HOST", host)));
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let settings = Settings::checked(&Sources { file: None, environment }).unwrap();
            assert_eq!(refusal(&settings, &kind.into()), expected, "{host:?} {kind}");
        }
    }
}
