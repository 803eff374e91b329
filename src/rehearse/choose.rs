//! Chooses the assistant to rehearse and the two phone numbers.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::assistant::{Assistant, Roster};
use crate::phone::{Party, PhoneNumber};
use crate::problem;
use crate::problem::Suggestion;

/// The caller without `--from`: a fictional number.
const CALLER: &str = "+15550100100";

/// What was chosen.
#[derive(Debug)]
pub(super) struct Choice {
    /// The folder's roster, in which `to` rings `assistant`.
    pub roster: Roster,
    pub assistant: Arc<Assistant>,
    pub to: PhoneNumber,
    /// As Twilio writes it.
    pub from: String,
    /// Lists the other assistants if the first one was chosen by default.
    pub hint: Option<String>,
}

pub(super) fn choose(
    roster: &Roster,
    name: Option<&str>,
    to: Option<&PhoneNumber>,
    from: Option<&Party>,
) -> anyhow::Result<Choice> {
    let to = to.cloned();
    let from = match from {
        None => CALLER,
        Some(Party::Number(number)) => number.expose(),
        // What Twilio sends for a withheld number.
        Some(Party::Withheld) => "+266696687",
        Some(Party::Other(address)) => address,
    };
    let from = from.to_owned();
    let names: Vec<&str> = roster.iter().map(|assistant| assistant.name()).collect();
    let mut hint = None;
    let assistant = match (name, &to) {
        (Some(name), _) => match roster.by_name(name) {
            Some(assistant) => assistant,
            None => bail!(
                "there is no assistant `{}`: {}",
                problem::shown(name),
                Suggestion::new(name, names.iter().copied())
            ),
        },
        (None, Some(to)) => match roster.find(to) {
            Some(assistant) => assistant,
            None => {
                let numbers = numbers(roster);
                match problem::list(&numbers.iter().map(String::as_str).collect::<Vec<_>>()) {
                    none if none.is_empty() => {
                        bail!("no assistant answers {}: none in this folder has a number", to.expose())
                    }
                    numbers => bail!("no assistant answers {}; this folder has {numbers}", to.expose()),
                }
            }
        },
        (None, None) => {
            let first = roster.iter().next().context("the folder has no assistant")?;
            if names.len() > 1 {
                hint = Some(format!(
                    "This folder has {} assistants: {}. To choose one, run `switchboard rehearse NAME`.",
                    names.len(),
                    problem::list(&names)
                ));
            }
            first
        }
    };
    if let Some(to) = &to
        && let Some(other) = roster.find(to)
        && other.name() != assistant.name()
    {
        bail!(
            "{} rings `{}`, not `{}`; leave out the name or the number",
            to.expose(),
            other.name(),
            assistant.name()
        );
    }
    let to = to.or_else(|| assistant.numbers().first().cloned());
    let to = to
        .or_else(|| free(roster))
        .context("all fictional numbers are taken; choose a number with `--to NUMBER`")?;
    let rings = roster.find(&to).is_some_and(|found| found.name() == assistant.name());
    let bound = if rings { Some(roster.clone()) } else { roster.ringing(to.clone(), assistant.name()) };
    let roster = bound.context("the assistant is not in the folder")?;
    Ok(Choice { assistant: assistant.clone(), roster, to, from, hint })
}

/// All numbers: they are the owner's, on his own screen.
fn numbers(roster: &Roster) -> Vec<String> {
    roster.iter().flat_map(|assistant| assistant.numbers()).map(|number| number.expose().to_owned()).collect()
}

/// A fictional number that no assistant uses.
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

    fn number(text: &str) -> PhoneNumber {
        PhoneNumber::parse(text).unwrap()
    }

    #[test]
    fn an_assistant_is_chosen_by_name_by_number_or_by_position() {
        let three = roster(&[("ann", "\"+15550100007\""), ("bob", "\"*\""), ("cleo", "")]);
        for (what, name, to, expected) in [
            ("neither", None, None, Ok(("ann", "+15550100007"))),
            ("a name", Some("ann"), None, Ok(("ann", "+15550100007"))),
            ("a number", None, Some("+15550100007"), Ok(("ann", "+15550100007"))),
            ("any other number", None, Some("+441632960000"), Ok(("bob", "+441632960000"))),
            ("an assistant without a number", Some("cleo"), None, Ok(("cleo", "+15550100000"))),
            ("an unknown name", Some("anna"), None, Err(["`anna`", "`ann`"])),
            ("two that differ", Some("ann"), Some("+441632960000"), Err(["`bob`", "`ann`"])),
        ] {
            let chosen = choose(&three, name, to.map(number).as_ref(), None);
            match (&chosen, expected) {
                (Ok(choice), Ok((name, number))) => {
                    assert_eq!((choice.assistant.name(), choice.to.expose()), (name, number), "{what}");
                    assert_eq!(choice.roster.find(&choice.to).unwrap().name(), name, "{what}");
                }
                (Err(error), Err(names)) => {
                    let error = error.to_string();
                    assert!(names.iter().all(|name| error.contains(name)), "{what}: {error}");
                }
                _ => panic!("{what}: {chosen:?}"),
            }
        }
        assert!(choose(&three, None, None, None).unwrap().hint.unwrap().contains("`ann`, `bob`, `cleo`"));
        assert!(choose(&three, Some("bob"), None, None).unwrap().hint.is_none());
    }

    #[test]
    fn a_number_without_an_assistant_is_an_error() {
        let one = roster(&[("ann", "\"+15550100007\"")]);
        let error = choose(&one, None, Some(&number("+15550100008")), None).unwrap_err().to_string();
        assert!(error.contains("+15550100008") && error.contains("`+15550100007`"), "{error}");
        let none = roster(&[("ann", "")]);
        assert!(choose(&none, None, Some(&number("+15550100008")), None).is_err());
        assert_eq!(choose(&one, None, None, Some(&Party::Withheld)).unwrap().from, "+266696687");
    }
}
