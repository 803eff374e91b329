//! A function that is an HTTP request: its templates, and the request they make with the model's arguments.
//!
//! An argument stays a value in its place: it cannot change the host or path of the address, add a header, or break out
//! of its text in the body. Nothing is sent here.

use std::fmt;

use minijinja::Value as Known;
use serde_json::{Map, Value, json};

use super::arguments::fits;
use super::prompt;
use crate::secret::Secret;

/// How deep a schema is followed into lists and objects.
const DEEPEST: usize = 8;
/// The largest body, in bytes.
const LARGEST_BODY: usize = 256 * 1024;

/// An HTTP request as the owner wrote it, frozen for one call. Its texts are templates of the arguments.
#[derive(Clone, PartialEq)]
pub struct HttpCall {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, Secret)>,
    /// Sent as JSON. `None`: the arguments, if the method takes a body.
    pub body: Option<Value>,
    /// Status codes that mean success; if empty, 200 to 299.
    pub success: Vec<u16>,
    /// The part of a JSON answer that the model gets, such as `tasks.0.title`; `None`: all of it.
    pub answer: Option<String>,
    /// The schema of the arguments.
    pub parameters: Map<String, Value>,
    /// The names that the texts may use in addition to `arguments`.
    pub known: Known,
}

/// A request that is ready to be sent. Prints as its method only: the rest contains arguments and secrets.
#[derive(Clone, PartialEq)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    /// With `content-type` if there is a body.
    pub headers: Vec<(String, Secret)>,
    /// JSON.
    pub body: Option<String>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRequest({})", self.method)
    }
}

impl HttpCall {
    /// The request for these arguments, which fit the schema.
    ///
    /// # Errors
    /// A sentence for the model that explains what is wrong, without any value.
    pub fn request(&self, arguments: &Map<String, Value>) -> Result<HttpRequest, String> {
        let arguments = self.complete(arguments);
        let names = prompt::with_arguments(&self.known, &arguments);
        let wrong = |what: &str, why: String| format!("The {what} of the request cannot be written: {why}.");
        let url = prompt::fill_address(&self.url, &names).map_err(|why| wrong("address", why))?;
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        for (name, template) in &self.headers {
            let value =
                prompt::fill_request(template.expose(), &names).map_err(|why| wrong("headers", why))?;
            if value.chars().any(char::is_control) {
                return Err(format!("The header `{name}` of the request cannot contain a line break."));
            }
            headers.push((name.clone(), Secret::new(value)));
        }
        let body = match &self.body {
            Some(body) => filled(body, &names)?,
            None if matches!(self.method.as_str(), "GET" | "DELETE") => None,
            None => Some(arguments.into_iter().filter(|(_, value)| *value != json!("")).collect()),
        };
        let body = body.map(|body| body.to_string());
        if body.as_ref().is_some_and(|body| body.len() > LARGEST_BODY) {
            return Err("The request is too large.".to_owned());
        }
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), Secret::new("application/json")));
        }
        Ok(HttpRequest { method: self.method.clone(), url, headers, body })
    }

    /// The part of a JSON answer that the model gets; `None` if the answer has no such part.
    pub fn part(&self, answer: &Value) -> Option<Value> {
        let Some(path) = &self.answer else { return Some(answer.clone()) };
        let part = path.split('.').try_fold(answer, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        });
        part.cloned()
    }

    /// Whether one of its texts contains this word.
    pub fn contains(&self, word: &str) -> bool {
        let body = self.body.as_ref().is_some_and(|body| body.to_string().contains(word));
        body || self.url.contains(word) || self.headers.iter().any(|(_, text)| text.expose().contains(word))
    }

    /// Every argument of the schema: a missing one gets its default, or an empty text.
    pub(super) fn complete(&self, arguments: &Map<String, Value>) -> Map<String, Value> {
        let mut all: Map<String, Value> = arguments
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (name, schema) in properties(&self.parameters) {
            let default = schema.get("default").filter(|value| !value.is_null());
            all.entry(name.clone()).or_insert_with(|| default.cloned().unwrap_or_else(|| json!("")));
        }
        all
    }
}

/// The arguments in a schema.
pub fn properties(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Sample arguments: all of a schema, and only the required ones.
pub fn samples(schema: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let required = |name: &str| {
        schema
            .get("required")
            .and_then(Value::as_array)
            .is_some_and(|names| names.iter().any(|there| there == name))
    };
    let all: Map<String, Value> =
        properties(schema).map(|(name, schema)| (name.clone(), sample(schema, 0))).collect();
    let few = all.iter().filter(|(name, _)| required(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
    (all, few)
}

/// A value that fits a schema, by its type.
fn sample(schema: &Value, depth: usize) -> Value {
    let listed = |keyword: &str| schema.get(keyword).and_then(Value::as_array).into_iter().flatten();
    let mut given =
        listed("examples").chain(listed("enum")).chain(schema.get("const")).chain(schema.get("default"));
    if let Some(given) = given.find(|value| !value.is_null() && fits(schema, value)) {
        return given.clone();
    }
    let kinds = schema.get("type");
    let kind = kinds.and_then(Value::as_str).or_else(|| {
        kinds.and_then(Value::as_array)?.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
    });
    match (kind, schema.get("format").and_then(Value::as_str)) {
        (Some("integer"), _) => json!(1),
        (Some("number"), _) => json!(1.5),
        (Some("boolean"), _) => json!(true),
        (Some("array"), _) if depth < DEEPEST => {
            json!([sample(schema.get("items").unwrap_or(&Value::Null), depth + 1)])
        }
        (Some("object"), _) if depth < DEEPEST => {
            let properties = schema.as_object().into_iter().flat_map(properties);
            properties.map(|(name, schema)| (name.clone(), sample(schema, depth + 1))).collect()
        }
        (_, Some("date")) => json!("2026-12-24"),
        (_, Some("time")) => json!("18:30"),
        (_, Some("date-time")) => json!("2026-12-24T18:30:00Z"),
        _ => json!("text"),
    }
}

/// A body with its templates filled in. A text that is exactly one missing argument is left out.
fn filled(body: &Value, names: &Known) -> Result<Option<Value>, String> {
    Ok(Some(match body {
        Value::Object(entries) => {
            let mut kept = Map::new();
            for (key, value) in entries {
                kept.extend(filled(value, names)?.map(|value| (key.clone(), value)));
            }
            Value::Object(kept)
        }
        Value::Array(items) => {
            let mut kept = Vec::new();
            for item in items {
                kept.extend(filled(item, names)?);
            }
            Value::Array(kept)
        }
        Value::String(text) if text.contains('{') => {
            let wrong = |why: String| format!("The body of the request cannot be written: {why}.");
            match prompt::evaluate(text, names) {
                Some(value) => match value.map_err(wrong)? {
                    Value::String(value) if value.is_empty() && text.contains("arguments.") => {
                        return Ok(None);
                    }
                    value => value,
                },
                None => Value::from(prompt::fill_request(text, names).map_err(wrong)?),
            }
        }
        other => other.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(url: &str, headers: &[(&str, &str)], body: Option<Value>) -> HttpCall {
        let parameters = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string"}, "guests": {"type": "integer"}, "note": {"type": "string"},
            "day": {"type": "string", "default": "today"}}});
        HttpCall {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect(),
            body,
            success: Vec::new(),
            answer: None,
            parameters: parameters.as_object().unwrap().clone(),
            known: minijinja::context! { caller => minijinja::context! { number => "+15550109999" } },
        }
    }

    fn arguments(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_argument_stays_in_its_place_in_the_address() {
        let url = |template: &str, id: &str| {
            call(template, &[], None).request(&arguments(json!({ "id": id }))).map(|request| request.url)
        };
        let path = "https://api.example.com/tasks/{{ arguments.id }}/close?who={{ caller.number }}";
        for (id, expected) in [
            ("a1", Some("https://api.example.com/tasks/a1/close?who=%2B15550109999")),
            ("a/b", Some("https://api.example.com/tasks/a%2Fb/close?who=%2B15550109999")),
            ("x?y=1#z&q", Some("https://api.example.com/tasks/x%3Fy%3D1%23z%26q/close?who=%2B15550109999")),
            ("a b+c", Some("https://api.example.com/tasks/a%20b%2Bc/close?who=%2B15550109999")),
            ("é\r\n", Some("https://api.example.com/tasks/%C3%A9%0D%0A/close?who=%2B15550109999")),
            (
                "@evil.example.com",
                Some("https://api.example.com/tasks/%40evil.example.com/close?who=%2B15550109999"),
            ),
            ("..", None),
            (".", None),
            ("%2e%2e", Some("https://api.example.com/tasks/%252e%252e/close?who=%2B15550109999")),
            ("", None),
            ("\u{1}", None),
        ] {
            assert_eq!(url(path, id).ok().as_deref(), expected, "{id:?}");
        }
        assert!(url("https://api.example.com/a/.{{ arguments.id }}/b", ".").is_err());
        assert_eq!(
            url("https://api.example.com/a?q={{ arguments.note }}&d={{ arguments.day }}", "x").unwrap(),
            "https://api.example.com/a?q=&d=today"
        );
    }

    #[test]
    fn a_header_takes_no_line_break() {
        let call = call("https://example.com/", &[("x-id", "t-{{ arguments.id }}")], None);
        let request = call.request(&arguments(json!({"id": "a"}))).unwrap();
        let shown: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(shown, [("x-id", "t-a"), ("content-type", "application/json")]);
        assert_eq!(format!("{request:?}"), "HttpRequest(POST)");
        let error = call.request(&arguments(json!({"id": "a\r\nx-evil: 1"}))).unwrap_err();
        assert!(error.contains("`x-id`") && !error.contains("evil"), "{error}");
    }

    #[test]
    fn a_body_keeps_types_and_omits_missing_arguments() {
        let body = json!({
            "guests": "{{ arguments.guests }}", "text": "for {{ arguments.guests }}", "note": "{{ arguments.note }}",
            "list": ["{{ arguments.id }}", "{{ arguments.note }}", 7, null], "who": "{{ caller.number }}",
            "quote": "a \"{{ arguments.id }}\""});
        let call = call("https://example.com/", &[], Some(body));
        let request = call.request(&arguments(json!({"id": "x\", \"y", "guests": 4, "note": null}))).unwrap();
        let body: Value = serde_json::from_str(&request.body.unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"guests": 4, "text": "for 4", "list": ["x\", \"y", 7, null], "who": "+15550109999",
                "quote": "a \"x\", \"y\""})
        );
    }

    #[test]
    fn without_a_body_the_arguments_are_sent() {
        let mut call = call("https://example.com/", &[], None);
        let given = arguments(json!({"id": "a", "guests": 2}));
        let body: Value = serde_json::from_str(&call.request(&given).unwrap().body.unwrap()).unwrap();
        assert_eq!(body, json!({"id": "a", "guests": 2, "day": "today"}));
        call.method = "GET".to_owned();
        assert_eq!(call.request(&given).unwrap().body, None);
    }

    #[test]
    fn a_part_of_an_answer_is_found_by_its_path() {
        let mut call = call("https://example.com/", &[], None);
        let answer = json!({"tasks": [{"title": "Milk"}], "0": 1});
        assert_eq!(call.part(&answer), Some(answer.clone()));
        for (path, part) in [
            ("tasks.0.title", Some(json!("Milk"))),
            ("tasks", Some(json!([{"title": "Milk"}]))),
            ("0", Some(json!(1))),
            ("tasks.1.title", None),
            ("tasks.title", None),
            ("tasks.0.title.x", None),
        ] {
            call.answer = Some(path.to_owned());
            assert_eq!(call.part(&answer), part, "{path}");
        }
    }

    #[test]
    fn samples_have_their_types() {
        let schema = json!({"required": ["a"], "properties": {
            "a": {"type": "string", "format": "date"}, "b": {"type": ["null", "integer"]}, "c": {"enum": ["x"]},
            "g": {"type": "integer", "examples": ["three", 3], "default": 1}, "h": {"enum": [null, "y"]},
            "d": {"type": "array", "items": {"type": "object", "properties": {"e": {"type": "boolean"}}}}, "f": {"default": 9}}});
        let (all, few) = samples(schema.as_object().unwrap());
        assert_eq!(
            Value::Object(all),
            json!({"a": "2026-12-24", "b": 1, "c": "x", "d": [{"e": true}], "f": 9, "g": 3, "h": "y"})
        );
        assert_eq!(Value::Object(few), json!({"a": "2026-12-24"}));
    }
}
