//! The templates of the pages. All of them escape what they print.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior, Value, context};

use super::visit::Visit;

/// Each template by its name. Those with a `_` are parts of pages that change while they are open.
const TEMPLATES: [(&str, &str); 18] = [
    ("base.html", include_str!("pages/base.html")),
    ("login.html", include_str!("pages/login.html")),
    ("message.html", include_str!("pages/message.html")),
    ("talk.html", include_str!("pages/talk.html")),
    ("now.html", include_str!("pages/now.html")),
    ("_calls_now.html", include_str!("pages/_calls_now.html")),
    ("now_call.html", include_str!("pages/now_call.html")),
    ("_call_now.html", include_str!("pages/_call_now.html")),
    ("_call_over.html", include_str!("pages/_call_over.html")),
    ("_conversation.html", include_str!("pages/_conversation.html")),
    ("assistants.html", include_str!("pages/assistants.html")),
    ("assistant.html", include_str!("pages/assistant.html")),
    ("_edit.html", include_str!("pages/_edit.html")),
    ("calls.html", include_str!("pages/calls.html")),
    ("call.html", include_str!("pages/call.html")),
    ("erase.html", include_str!("pages/erase.html")),
    ("messages.html", include_str!("pages/messages.html")),
    ("health.html", include_str!("pages/health.html")),
];

/// See the module.
pub struct Pages(Environment<'static>);

impl Pages {
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("code", code);
        for (name, text) in TEMPLATES {
            environment.add_template(name, text).expect("the tests read every template");
        }
        Self(environment)
    }

    /// A part of a page, as HTML that another template may print as it is.
    ///
    /// # Errors
    /// If the template uses what it is not given.
    pub fn part(&self, template: &str, values: Value) -> Result<Value, minijinja::Error> {
        Ok(Value::from_safe_string(self.0.get_template(template)?.render(values)?))
    }

    /// The same. An error is logged, and shown as one.
    pub fn part_or_error(&self, template: &str, values: Value) -> Value {
        self.part(template, values).unwrap_or_else(|error| {
            failed(template, &error);
            Value::from("This part cannot be made. The log has more.")
        })
    }

    /// A whole page. `place`: which of the navigation it is.
    pub fn page(
        &self,
        status: StatusCode,
        title: &str,
        place: &str,
        visit: Option<&Visit>,
        template: &str,
        values: Value,
    ) -> Response {
        let csrf = visit.map(|visit| visit.csrf.as_str());
        let whole = || {
            let content = self.part(template, context! { csrf, ..values })?;
            self.part("base.html", context! { title, place, csrf, content })
        };
        match whole() {
            Ok(html) => (status, Html(html.to_string())).into_response(),
            Err(error) => {
                failed(template, &error);
                (StatusCode::INTERNAL_SERVER_ERROR, "This page cannot be made. The log has more.\n")
                    .into_response()
            }
        }
    }

    /// A page that says one thing.
    pub fn message(&self, status: StatusCode, title: &str, text: &str, visit: &Visit) -> Response {
        self.page(status, title, "", Some(visit), "message.html", context! { title, text })
    }
}

/// Text as HTML, with what stands in backticks as code.
fn code(text: &str) -> Value {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return Value::from(text);
    }
    let shown = parts.iter().enumerate().map(|(at, part)| match at % 2 {
        0 => HtmlEscape(part).to_string(),
        _ => format!("<code>{}</code>", HtmlEscape(part)),
    });
    Value::from_safe_string(shown.collect())
}

/// Without the values: they may be words of callers.
fn failed(template: &str, error: &minijinja::Error) {
    tracing::error!(template, line = error.line(), kind = ?error.kind(), "A page cannot be made");
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn words_in_backticks_are_code_and_nothing_is_markup() {
        assert_eq!(
            code("no `<b>` & `voise`").as_str(),
            Some("no <code>&lt;b&gt;</code> &amp; <code>voise</code>")
        );
        let open = code("`<b>");
        assert!(!open.is_safe());
        assert_eq!(open.as_str(), Some("`<b>"));
    }
}
