//! `prices:` in `switchboard.yaml`: what models and the carrier charge, where that differs from the built-in table.

use jiff::civil::Date;

use super::providers::Reading;
use crate::problem::catalogue::Setting;
use crate::problem::{self, Problem, Source};
use crate::provider::prices::{ModelPrices, Price, Prices};
use crate::yaml::{Kind, Node, Scalar};

/// The key of the prices' date, and of the carrier's prices. Every other key is a model.
const DATE: &str = "date";
const CARRIER: &str = "carrier";
/// The keys of the carrier's prices.
const LEGS: [&str; 3] = ["inbound", "outbound", "streams"];
/// The highest price, in dollars: whoever writes more has mistaken the unit.
const MOST: f64 = 10_000.0;

/// The built-in prices with the owner's in place of them, and all that is wrong.
pub(super) fn read(source: &Source, node: &Node) -> (Prices, Vec<Problem>) {
    let mut reading = Reading { source, problems: Vec::new() };
    let mut prices = Prices::default();
    if node.is_null() {
        return (prices, reading.problems);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in reading.map(node, super::PRICES) {
        let name = key.name.as_str();
        if seen.contains(&name) {
            reading.report(key.span, Setting::Duplicate { name: problem::shown(name) });
            continue;
        }
        seen.push(name);
        match name {
            DATE => prices.date = date(&mut reading, value).unwrap_or(prices.date),
            CARRIER => {
                let fields = reading.fields(value, CARRIER, &LEGS);
                for (leg, price) in [
                    ("inbound", &mut prices.carrier.inbound),
                    ("outbound", &mut prices.carrier.outbound),
                    ("streams", &mut prices.carrier.streams),
                ] {
                    let read = fields.get(leg).and_then(|node| dollars(&mut reading, node, leg));
                    *price = read.unwrap_or(*price);
                }
            }
            model => {
                let mut of_model = ModelPrices::default();
                let fields = reading.fields(value, model, &ModelPrices::KEYS);
                for key in ModelPrices::KEYS {
                    if let Some(node) = fields.get(key)
                        && let Some(field) = of_model.field(key)
                    {
                        *field = dollars(&mut reading, node, key);
                    }
                }
                prices.set(model, of_model);
            }
        }
    }
    (prices, reading.problems)
}

/// A price in dollars.
fn dollars(reading: &mut Reading<'_>, node: &Node, name: &'static str) -> Option<Price> {
    let number = node.scalar().and_then(Scalar::number).filter(|number| (0.0..=MOST).contains(number));
    if number.is_none() {
        reading.report(node.span, Setting::Price { name, most: MOST });
    }
    number.map(Price::dollars)
}

fn date(reading: &mut Reading<'_>, node: &Node) -> Option<String> {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text().trim(),
        Kind::Seq(_) | Kind::Map(_) => "",
    };
    let date = text.parse::<Date>().ok();
    if date.is_none() {
        reading.report(node.span, Setting::PriceDate);
    }
    date.map(|date| date.to_string())
}
