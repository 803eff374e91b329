//! Which assistant is rehearsed, and which numbers call each other.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::assistant::{Assistant, Roster};
use crate::phone::{Party, PhoneNumber};
use crate::problem;

/// Who calls unless `--from` says otherwise: a number that is nobody's.
const CALLER: &str = "+15550100100";

/// The answer.
#[derive(Debug)]
pub(super) struct Choice {
    /// The folder's, in which `to` rings `assistant`.
    pub roster: Roster,
    pub assistant: Arc<Assistant>,
    pub to: PhoneNumber,
    /// As Twilio writes it.
    pub from: String,
    /// What to tell when nobody chose.
    pub hint: Option<String>,
}

pub(super) fn choose(
    roster: &Roster,
    name: Option<&str>,
    to: Option<&str>,
    from: Option<&str>,
) -> anyhow::Result<Choice> {
    let to = to.map(|text| number("--to", text)).transpose()?;
    let from = from.map_or_else(|| Ok(CALLER.to_owned()), caller)?;
    let names: Vec<&str> = roster.iter().map(|assistant| assistant.name()).collect();
    let mut hint = None;
    let assistant = match (name, &to) {
        (Some(name), _) => match roster.by_name(name) {
            Some(assistant) => assistant,
            None => bail!(
                "there is no assistant `{}`: {}",
                problem::shown(name),
                problem::suggestion(name, names.iter().copied())
            ),
        },
        (None, Some(to)) => match roster.find(to) {
            Some(assistant) => assistant,
            None => {
                let numbers = numbers(roster);
                match problem::list(&numbers.iter().map(String::as_str).collect::<Vec<_>>()) {
                    none if none.is_empty() => bail!("nobody answers {to}: no assistant here has a number"),
                    numbers => bail!("nobody answers {to}; the numbers of this folder are {numbers}"),
                }
            }
        },
        (None, None) => {
            let first = roster.iter().next().context("there is no assistant in the folder")?;
            if names.len() > 1 {
                hint = Some(format!(
                    "There are {} assistants here: {}. This rehearses `{}`; `switchboard rehearse NAME` or \
                     `--to NUMBER` takes another.",
                    names.len(),
                    problem::list(&names),
                    first.name()
                ));
            }
            first
        }
    };
    if let Some(to) = &to
        && let Some(other) = roster.find(to)
        && other.name() != assistant.name()
    {
        bail!("{to} rings `{}`, not `{}`: leave out the name or the number", other.name(), assistant.name());
    }
    let to = to.or_else(|| assistant.numbers().first().cloned());
    let to =
        to.or_else(|| free(roster)).context("every number to rehearse with is taken; use `--to NUMBER`")?;
    let rings = roster.find(&to).is_some_and(|found| found.name() == assistant.name());
    let bound = if rings { Some(roster.clone()) } else { roster.ringing(to.clone(), assistant.name()) };
    let roster = bound.context("the assistant has left the folder")?;
    Ok(Choice { assistant: assistant.clone(), roster, to, from, hint })
}

fn number(option: &str, text: &str) -> anyhow::Result<PhoneNumber> {
    PhoneNumber::parse(text.trim())
        .map_err(|why| anyhow::anyhow!("`{option} {text}` is no phone number: {why}, such as +15550100001"))
}

fn caller(text: &str) -> anyhow::Result<String> {
    match Party::from_twilio(text) {
        Party::Number(number) => Ok(number.expose().to_owned()),
        // What Twilio sends for it.
        Party::Withheld => Ok("+266696687".to_owned()),
        Party::Other(_) => number("--from", text).map(|number| number.expose().to_owned()),
    }
}

/// As they are shown.
fn numbers(roster: &Roster) -> Vec<String> {
    roster.iter().flat_map(|assistant| assistant.numbers()).map(PhoneNumber::to_string).collect()
}

/// A number of fiction that no assistant claims.
fn free(roster: &Roster) -> Option<PhoneNumber> {
    let claimed = |number: &PhoneNumber| roster.iter().any(|a| a.numbers().contains(number));
    let all = (0..100).filter_map(|last| PhoneNumber::parse(&format!("+155501000{last:02}")).ok());
    all.filter(|number| number.expose() != CALLER).find(|number| !claimed(number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::assistant::Folder;
    use crate::provider::Provider;
    use crate::yaml::SourceFile;

    fn roster(files: &[(&str, &str)]) -> Roster {
        let file = |(name, numbers): &(&str, &str)| {
            let text = format!("numbers: [{numbers}]\ninstructions: Be kind.\n");
            SourceFile::new(format!("{name}.yaml"), text.into_bytes())
        };
        let folder = Folder { assistants: files.iter().map(file).collect(), ..Folder::default() };
        let provider = Arc::new(Provider::openai("ws://127.0.0.1:1", None));
        Roster::check(&folder, &BTreeMap::new(), &[provider]).roster.unwrap()
    }

    #[test]
    fn an_assistant_is_chosen_by_name_by_number_or_by_being_first() {
        let three = roster(&[("ann", "\"+15550100007\""), ("bob", "\"*\""), ("cleo", "")]);
        for (what, name, to, chosen) in [
            ("nothing said", None, None, "ann at +15550100007"),
            ("its name", Some("ann"), None, "ann at +15550100007"),
            ("its number", None, Some("+15550100007"), "ann at +15550100007"),
            ("any other number", None, Some("+441632960000"), "bob at +441632960000"),
            ("the name of one without a number", Some("cleo"), None, "cleo at +15550100000"),
            ("no such name", Some("anna"), None, "there is no assistant `anna`: did you mean `ann`?"),
            ("no number", None, Some("five"), "`--to five` is no phone number"),
            (
                "two that differ",
                Some("ann"),
                Some("+441632960000"),
                "+4416•••00 rings `bob`, not `ann`: leave out the name or the number",
            ),
        ] {
            let found = match choose(&three, name, to, None) {
                Ok(choice) => {
                    let rung = choice.roster.find(&choice.to).unwrap().name().to_owned();
                    assert_eq!(rung, choice.assistant.name(), "{what}");
                    format!("{rung} at {}", choice.to.expose())
                }
                Err(error) => error.to_string(),
            };
            assert!(found.starts_with(chosen), "{what}: {found}");
        }
        assert!(choose(&three, None, None, None).unwrap().hint.unwrap().contains("`ann`, `bob`, `cleo`"));
        assert!(choose(&three, Some("bob"), None, None).unwrap().hint.is_none());
    }

    #[test]
    fn a_number_that_nobody_answers_is_an_error() {
        let one = roster(&[("ann", "\"+15550100007\"")]);
        let error = choose(&one, None, Some("+15550100008"), None).unwrap_err().to_string();
        assert_eq!(error, "nobody answers +1555•••08; the numbers of this folder are `+1555•••07`");
        let none = roster(&[("ann", "")]);
        let error = choose(&none, None, Some("+15550100008"), None).unwrap_err().to_string();
        assert_eq!(error, "nobody answers +1555•••08: no assistant here has a number");
        assert_eq!(choose(&one, None, None, Some("anonymous")).unwrap().from, "+266696687");
    }
}
