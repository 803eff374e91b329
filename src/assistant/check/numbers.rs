//! The phone numbers in a file: those that the assistant answers, and those that it knows.

use std::collections::BTreeMap;

use super::{Check, Claim, Dialable, Role};
use crate::assistant::written::{Fields, shown};
use crate::phone::PhoneNumber;
use crate::problem::catalogue::Assistant as Wrong;
use crate::problem::{self, Span};
use crate::yaml::Node;

impl<'a> Check<'a> {
    pub(super) fn number(&self, node: &Node, key: &str, role: Role) -> Option<PhoneNumber> {
        let Some(scalar) = node.scalar() else {
            let (key, expected) = (problem::shown(key), "a phone number");
            self.written.problem(node.span, Wrong::Type { key, expected, found: node.what() });
            return None;
        };
        let text = self.written.text(node, key)?;
        match PhoneNumber::parse(text.trim()) {
            Ok(number) => {
                let (span, shown) = (node.span, scalar.shown());
                let dialable = Dialable { number: number.clone(), role, span, shown };
                self.numbers.borrow_mut().push(dialable);
                Some(number)
            }
            Err(why) => {
                let what = Wrong::NumberInvalid { value: shown(node), why: why.to_string() };
                self.written.problem(node.span, what);
                None
            }
        }
    }

    pub(super) fn numbers(&self, top: &Fields<'a>) {
        let mut claims: Vec<Claim> = Vec::new();
        let mut first: BTreeMap<Option<PhoneNumber>, Span> = BTreeMap::new();
        for item in top.list("numbers") {
            let star = item.scalar().is_some_and(|scalar| scalar.text().trim() == "*");
            let number = if star { None } else { self.number(item, "numbers", Role::Answered) };
            if number.is_none() && !star {
                continue;
            }
            match first.get(&number) {
                Some(earlier) => {
                    let what = Wrong::NumberDuplicate { value: shown(item) };
                    self.written.duplicate(item.span, *earlier, what);
                }
                None => {
                    first.insert(number.clone(), item.span);
                    claims.push(Claim { number, span: item.span, shown: shown(item) });
                }
            }
        }
        self.claims.replace(claims);
    }

    pub(super) fn callers(&self, top: &Fields<'a>) -> BTreeMap<PhoneNumber, String> {
        let mut callers = BTreeMap::new();
        let Some(map) = top.map("callers") else { return callers };
        for (key, value) in map.all() {
            let name = self.written.text(value, &key.name);
            match PhoneNumber::parse(key.name.trim()) {
                Ok(number) => callers.extend(name.map(|name| (number, name))),
                Err(why) => {
                    let value = problem::shown(&key.name);
                    self.written.problem(key.span, Wrong::NumberInvalid { value, why: why.to_string() });
                }
            }
        }
        callers
    }
}
