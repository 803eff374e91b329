//! Pictures as SVG, made here: pure functions. The stylesheet colours them by their classes.

use std::fmt::Write as _;

/// The size of a chart. The page may scale it.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 64.0;
/// The space below the bars, for the hours.
const FOOT: f64 = 14.0;
const GAP: f64 = 2.0;

/// A bar: the value, the part of it that is bad, and what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bar {
    pub value: f64,
    pub bad: f64,
    pub title: String,
}

/// Bars side by side. `name` becomes part of ids, so it must be a word. `from` and `to` stand below the first and the last.
pub fn bars(name: &str, title: &str, desc: &str, bars: &[Bar], from: &str, to: &str) -> String {
    let top = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let floor = HEIGHT - FOOT;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{name}-title {name}-desc\">\
         <title id=\"{name}-title\">{}</title><desc id=\"{name}-desc\">{}</desc>",
        escaped(title),
        escaped(desc)
    );
    let step = WIDTH / bars.len().max(1) as f64;
    for (at, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.value > 0.0) {
        let x = at as f64 * step + GAP / 2.0;
        let height = |value: f64| if top > 0.0 { (value / top * (floor - 2.0)).max(1.0) } else { 0.0 };
        let _ = write!(svg, "<g><title>{}</title>", escaped(&bar.title));
        rectangle(&mut svg, "chart-bar", x, floor, step - GAP, height(bar.value));
        if bar.bad > 0.0 {
            rectangle(
                &mut svg,
                "chart-bar chart-bar-bad",
                x,
                floor,
                step - GAP,
                height(bar.bad.min(bar.value)),
            );
        }
        svg.push_str("</g>");
    }
    if top <= 0.0 {
        let _ = write!(
            svg,
            "<text class=\"chart-empty\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">nothing yet</text>",
            WIDTH / 2.0,
            floor / 2.0
        );
    }
    let _ = write!(
        svg,
        "<line class=\"chart-axis\" x1=\"0\" y1=\"{floor}\" x2=\"{WIDTH}\" y2=\"{floor}\"/>\
         <text class=\"chart-label\" x=\"0\" y=\"{0}\">{1}</text>\
         <text class=\"chart-label\" x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{2}</text></svg>",
        HEIGHT - 2.0,
        escaped(from),
        escaped(to)
    );
    svg
}

fn rectangle(svg: &mut String, class: &str, x: f64, floor: f64, width: f64, height: f64) {
    let y = floor - height;
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    );
}

/// A text within SVG.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The value below which a share of the sorted values lies.
pub fn share(sorted: &[u64], share: f64) -> Option<u64> {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64, bad: f64) -> Bar {
        Bar { value, bad, title: "<b>".to_owned() }
    }

    #[test]
    fn the_highest_bar_fills_the_chart_and_the_others_are_in_proportion() {
        let svg =
            bars("calls", "Calls", "a & b", &[bar(4.0, 0.0), bar(0.0, 0.0), bar(2.0, 1.0)], "0:00", "23:00");
        let heights: Vec<&str> =
            svg.split("height=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
        assert_eq!(heights, ["48.0", "24.0", "12.0"]);
        assert_eq!(svg.matches("chart-bar-bad").count(), 1);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;b&gt;") && !svg.contains("<b>"));
        assert!(!svg.contains("style"));
        roxmltree::Document::parse(&svg).expect("it is well-formed");
    }

    #[test]
    fn an_empty_chart_says_so() {
        let svg = bars("calls", "Calls", "", &[], "", "");
        assert!(svg.contains("chart-empty"));
        roxmltree::Document::parse(&svg).expect("it is well-formed");
    }

    #[test]
    fn half_of_the_values_lie_below_the_median() {
        assert_eq!(share(&[], 0.5), None);
        assert_eq!(share(&[7], 0.95), Some(7));
        assert_eq!(share(&[1, 2, 3, 4], 0.5), Some(2));
        assert_eq!(share(&(1..=100).collect::<Vec<_>>(), 0.95), Some(95));
    }
}
