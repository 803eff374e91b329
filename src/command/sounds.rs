//! `switchboard sounds`: lists the prepared lines of the assistants, and has models say the missing ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;

use super::owner;
use crate::assistant::plan::{Plan, Voice};
use crate::assistant::{Assistant, Facts};
use crate::disk;
use crate::link::model::ModelLink;
use crate::link::tls;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::sound::Store;
use crate::terminal::{Failure, notify, print, report};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The assistant's name; by default all
    assistant: Option<String>,
    /// Have the model say the missing lines now: this needs the provider's key, and costs a few cents at most
    #[arg(long)]
    prepare: bool,
    /// Save the lines that the model said as WAV files in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Lists the lines, after preparing and saving them if that is asked for.
pub async fn run(options: Options) -> Result<(), Failure> {
    let (workspace, place, checked) = owner::look(None)?;
    let settings = &workspace.settings;
    let mut problems: Vec<Problem> = match &options.assistant {
        Some(name) => checked.problems_for(name),
        None => checked.problems(),
    };
    let Ok(roster) = checked.roster else { return Err(problems.into()) };
    let assistants: Vec<&Arc<Assistant>> = match &options.assistant {
        Some(name) => vec![owner::find(&roster, name, &place)?],
        None => roster.iter().collect(),
    };
    problems.retain(|problem| !problem.is_error());
    report(&problems);
    let is_lost = || settings.state_dir.as_deref().is_none_or(|state| disk::try_to_write(state).is_err());
    if options.prepare && options.out.is_none() && is_lost() {
        return Err(anyhow!(
            "the lines would be lost when this command ends: set STATE_DIR to a folder that can be written to, or save \
             them with `--out {}`",
            settings.assistants_dir.join("sounds").display()
        )
        .into());
    }
    let store = Arc::new(Store::open(settings.state_dir.as_deref()));
    let mut failed = false;
    let mut lines = Vec::new();
    for assistant in assistants {
        let mut plan = plan(assistant, &store)?;
        if options.prepare && plan.missing_sounds().next().is_some() {
            if let Err(error) = prepare(&plan, &store, settings).await {
                notify(&format!("error: {}: {error:#}", assistant.name()));
                failed = true;
            }
            plan = self::plan(assistant, &store)?;
        }
        if let Some(dir) = &options.out {
            save(&plan, dir)?;
        }
        lines.extend(plan.sounds.iter().map(|(name, sound)| {
            let state = match sound.voice {
                Voice::Recorded(_) => "recorded",
                Voice::Captured(_) => "captured",
                Voice::Missing => "missing",
                Voice::Untranslated => "no text",
            };
            let text = match sound.voice {
                Voice::Untranslated => format!("write it as `sounds.{name}`"),
                _ => format!("\"{}\"", sound.text),
            };
            [plan.assistant.clone(), name.to_owned(), state.to_owned(), text]
        }));
    }
    print(&table(&lines))?;
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

/// The prepared lines are the same in every call.
fn plan(assistant: &Assistant, store: &Store) -> anyhow::Result<Plan> {
    assistant.plan(&Facts::nobody(Timestamp::now()), store).map_err(|error| anyhow!("{error}"))
}

/// Opens a session only for the missing lines, without prompt and tools.
async fn prepare(plan: &Plan, store: &Arc<Store>, settings: &Settings) -> anyhow::Result<()> {
    let provider = &plan.provider;
    if provider.lacks_key() {
        bail!("the provider `{}` has no key", provider.name);
    }
    let tls = tls::client_config(provider.url.starts_with("wss:"), settings.ssl_cert_file.as_deref())?;
    let (instructions, tools, hosted) = (String::new(), Vec::new(), Vec::new());
    let bare = Plan { instructions, tools, hosted, fallback: Vec::new(), ..plan.clone() };
    let mut link = ModelLink::connect(Arc::new(bare), tls)
        .await
        .with_context(|| format!("the provider `{}` cannot be used", provider.name))?;
    let captured = link.capture_missing(store).await;
    Box::new(link).close().await;
    captured.context("a line was not captured")
}

fn save(plan: &Plan, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("the folder `{}` cannot be created", dir.display()))?;
    for (name, sound) in plan.sounds.iter() {
        let Voice::Captured(clip) = &sound.voice else { continue };
        let path = dir.join(format!("{}-{name}.wav", plan.assistant));
        fs::write(&path, clip.to_wav()).with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    Ok(())
}

/// Rows with their first three columns aligned.
fn table(rows: &[[String; 4]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (one, two, three) = (width(0), width(1), width(2));
    rows.iter().map(|[a, b, c, d]| format!("{a:one$}  {b:two$}  {c:three$}  {d}\n")).collect()
}
