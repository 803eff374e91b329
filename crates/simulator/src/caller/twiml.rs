//! TwiML as Twilio reads it: verbs are case-sensitive, and anything unknown is an error.

use std::ops::RangeInclusive;

use roxmltree::{Document, Node, ParsingOptions};

/// The maximum size of a webhook's answer (11750).
pub(super) const LONGEST: usize = 64 * 1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    Connect {
        action: Option<String>,
        method: Method,
        stream: Stream,
    },
    Say {
        text: String,
        voice: Option<String>,
        language: Option<String>,
        times: u32,
    },
    Play {
        url: String,
    },
    /// One tone per digit; `w` and `W` are pauses of half a second and one second.
    PressKeys {
        digits: String,
        times: u32,
    },
    Pause {
        seconds: u64,
    },
    Hangup,
    Reject {
        reason: String,
    },
    Redirect {
        url: String,
        method: Method,
    },
    Dial(Dial),
}

/// How a webhook is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    pub url: String,
    pub name: Option<String>,
    pub status_callback: Option<String>,
    pub parameters: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dial {
    pub number: String,
    pub action: Option<String>,
    pub method: Method,
    /// The longest that it may ring, in seconds.
    pub timeout: u64,
    /// The longest that it may last, in seconds.
    pub time_limit: u64,
    pub caller_id: Option<String>,
}

/// Why Twilio rejects a document, with its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Fault {
    pub code: u32,
    pub what: String,
}

/// The document is not XML.
const NOT_XML: u32 = 12_100;
/// The document does not match the schema.
const SCHEMA: u32 = 12_200;
/// The content type is not XML.
const CONTENT_TYPE: u32 = 12_300;
const TOO_LONG: u32 = 11_750;

/// The text of `<Say>` is empty, or nothing that can be spoken.
const SAY_EMPTY: u32 = 13_520;
const SAY_TOO_LONG: u32 = 13_521;
/// The longest text of `<Say>`, in bytes: the limit of the basic voices.
const LONGEST_SAY: usize = 4_096;
/// The locales of `<Say>`, in Twilio's words "supported languages".
const SAY_LANGUAGES: &str = "af-ZA am-ET ar-XA ar-AE arb bg-BG bn-IN ca-ES cmn-CN cmn-TW cs-CZ cy-GB da-DK \
    de-DE de-AT el-GR en-US en-AU en-CA en-GB en-GB-WLS en-IE en-IN en-NZ en-ZA \
    es-ES es-MX es-US eu-ES fi-FI fil-PH fr-FR fr-BE fr-CA gl-ES gu-IN he-IL hi-IN \
    hu-HU id-ID is-IS it-IT ja-JP kn-IN ko-KR lt-LT lv-LV ml-IN mr-IN ms-MY nb-NO \
    nl-NL nl-BE pa-IN pl-PL pt-BR pt-PT ro-RO ru-RU sk-SK sr-RS sv-SE ta-IN te-IN \
    th-TH tr-TR uk-UA vi-VN yue-HK zh-CN zh-HK zh-TW";

/// Reads the answer of a webhook.
pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Vec<Verb>, Fault> {
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["text/xml", "application/xml"].iter().any(|xml| kind.eq_ignore_ascii_case(xml)) {
        return Err(fault(CONTENT_TYPE, format!("the content type is `{kind}`, not text/xml")));
    }
    if body.len() > LONGEST {
        return Err(fault(TOO_LONG, "the document is longer than 64 kB"));
    }
    let text = str::from_utf8(body).map_err(|_| fault(NOT_XML, "the document is not UTF-8"))?;
    let options = ParsingOptions { nodes_limit: 10_000, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|error| fault(NOT_XML, error.to_string()))?;
    let root = Element(document.root_element());
    if root.name() != "Response" {
        return Err(root.unknown());
    }
    root.allow(&[])?;
    root.children()?.iter().map(verb).collect()
}

fn verb(element: &Element<'_, '_>) -> Result<Verb, Fault> {
    match element.name() {
        "Connect" => {
            element.allow(&["action", "method"])?;
            let [stream] = element.children()?[..] else {
                return Err(fault(SCHEMA, "<Connect> needs exactly one <Stream>"));
            };
            if stream.name() != "Stream" {
                return Err(stream.unknown());
            }
            Ok(Verb::Connect {
                action: element.get("action"),
                method: element.method("method")?,
                stream: stream_of(&stream)?,
            })
        }
        "Say" => {
            element.allow(&["voice", "language", "loop"])?;
            let text = element.text().map_err(|fault| match element.elements().is_empty() {
                true => Fault { code: SAY_EMPTY, ..fault },
                false => fault,
            })?;
            if !text.chars().any(char::is_alphanumeric) {
                return Err(fault(SAY_EMPTY, "<Say> has nothing to say"));
            }
            if text.len() > LONGEST_SAY {
                return Err(fault(SAY_TOO_LONG, "the text of <Say> is longer than 4,096 bytes"));
            }
            if let Some(language) = element.get("language")
                && !SAY_LANGUAGES.split(' ').any(|known| known == language)
            {
                return Err(fault(SCHEMA, format!("<Say> does not speak `{language}`")));
            }
            Ok(Verb::Say {
                text,
                voice: element.get("voice"),
                language: element.get("language"),
                times: element.number("loop", 1)?.clamp(1, 1_000) as u32,
            })
        }
        "Play" => {
            element.allow(&["loop", "digits"])?;
            let times = element.number("loop", 1)?.clamp(1, 1_000) as u32;
            match element.get("digits") {
                None => Ok(Verb::Play { url: element.text()? }),
                Some(_) if element.text().is_ok() => Err(fault(SCHEMA, "<Play> has both digits and a file")),
                Some(digits) if is_keys(&digits) => Ok(Verb::PressKeys { digits, times }),
                Some(_) => Err(fault(SCHEMA, "digits may contain only 0-9, *, #, w and W")),
            }
        }
        "Pause" => {
            element.allow(&["length"])?;
            Ok(Verb::Pause { seconds: element.number("length", 1)? })
        }
        "Hangup" => {
            element.allow(&[])?;
            Ok(Verb::Hangup)
        }
        "Reject" => {
            element.allow(&["reason"])?;
            let reason = element.get("reason").unwrap_or_else(|| "rejected".to_owned());
            if !["rejected", "busy"].contains(&reason.as_str()) {
                return Err(fault(SCHEMA, "<Reject> allows only the reasons rejected and busy"));
            }
            Ok(Verb::Reject { reason })
        }
        "Redirect" => {
            element.allow(&["method"])?;
            Ok(Verb::Redirect { url: element.text()?, method: element.method("method")? })
        }
        "Dial" => Ok(Verb::Dial(dial(element)?)),
        _ => Err(element.unknown()),
    }
}

fn stream_of(element: &Element<'_, '_>) -> Result<Stream, Fault> {
    element.allow(&["url", "name", "track", "statusCallback", "statusCallbackMethod"])?;
    if element.get("track").is_some_and(|track| track != "inbound_track") {
        return Err(fault(SCHEMA, "a stream in <Connect> has only the inbound track"));
    }
    let url = element.get("url").ok_or_else(|| fault(SCHEMA, "<Stream> needs a url"))?;
    element.method("statusCallbackMethod")?;
    let mut parameters = Vec::new();
    for parameter in element.children()? {
        if parameter.name() != "Parameter" {
            return Err(parameter.unknown());
        }
        parameter.allow(&["name", "value"])?;
        let (Some(name), Some(value)) = (parameter.get("name"), parameter.get("value")) else {
            return Err(fault(SCHEMA, "<Parameter> needs a name and a value"));
        };
        if name.chars().count() + value.chars().count() >= 500 {
            return Err(fault(SCHEMA, format!("<Parameter name=\"{name}\"> is too long")));
        }
        parameters.push((name, value));
    }
    let (name, status_callback) = (element.get("name"), element.get("statusCallback"));
    if status_callback.as_ref().is_some_and(|url| !url.contains("://")) {
        return Err(fault(SCHEMA, "statusCallback must be an absolute URL"));
    }
    Ok(Stream { url, name, status_callback, parameters })
}

fn dial(element: &Element<'_, '_>) -> Result<Dial, Fault> {
    element.allow(&[
        "action",
        "method",
        "timeout",
        "callerId",
        "answerOnBridge",
        "timeLimit",
        "record",
        "sequential",
        "hangupOnStar",
        "ringTone",
    ])?;
    let number = match &element.elements()[..] {
        [] => element.text()?,
        [number] if number.name() == "Number" => {
            number.allow(&[
                "url",
                "method",
                "sendDigits",
                "statusCallback",
                "statusCallbackEvent",
                "statusCallbackMethod",
                "machineDetection",
            ])?;
            number.text()?
        }
        [other, ..] => return Err(other.unknown()),
    };
    for flag in ["answerOnBridge", "sequential", "hangupOnStar"] {
        if element.get(flag).is_some_and(|value| !["true", "false"].contains(&value.as_str())) {
            return Err(fault(SCHEMA, format!("{flag} is neither true nor false")));
        }
    }
    Ok(Dial {
        number,
        action: element.get("action"),
        method: element.method("method")?,
        timeout: element.within("timeout", 30, 0..=600)?,
        time_limit: element.within("timeLimit", 14_400, 1..=86_400)?,
        caller_id: element.get("callerId"),
    })
}

fn is_keys(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|key| key.is_ascii_digit() || b"*#wW".contains(&key))
}

/// An XML element, with the accessors that TwiML needs.
#[derive(Clone, Copy)]
struct Element<'a, 'input>(Node<'a, 'input>);

impl<'a, 'input> Element<'a, 'input> {
    fn name(&self) -> &'a str {
        // A namespaced name is not TwiML.
        if self.0.tag_name().namespace().is_some() { "" } else { self.0.tag_name().name() }
    }

    fn unknown(&self) -> Fault {
        fault(SCHEMA, format!("<{}> is not allowed here", self.0.tag_name().name()))
    }

    fn allow(&self, names: &[&str]) -> Result<(), Fault> {
        match self.0.attributes().find(|attribute| !names.contains(&attribute.name())) {
            None => Ok(()),
            Some(other) => {
                let (name, verb) = (other.name(), self.0.tag_name().name());
                Err(fault(SCHEMA, format!("<{verb}> has no attribute `{name}`")))
            }
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.attribute(name).map(str::to_owned)
    }

    fn method(&self, name: &str) -> Result<Method, Fault> {
        match self.0.attribute(name) {
            None | Some("POST") => Ok(Method::Post),
            Some("GET") => Ok(Method::Get),
            Some(other) => Err(fault(SCHEMA, format!("`{other}` is not a method"))),
        }
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Fault> {
        self.0.attribute(name).map_or(Ok(default), |written| {
            written.parse().map_err(|_| fault(SCHEMA, format!("{name} is not a number")))
        })
    }

    fn within(&self, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, Fault> {
        let number = self.number(name, default)?;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(fault(SCHEMA, format!("{name} is not between {} and {}", range.start(), range.end())))
    }

    fn elements(&self) -> Vec<Self> {
        self.0.children().filter(Node::is_element).map(Element).collect()
    }

    /// The child elements; text between them is an error.
    fn children(&self) -> Result<Vec<Self>, Fault> {
        let text =
            |node: &Node<'_, '_>| node.is_text() && node.text().is_some_and(|text| !text.trim().is_empty());
        if self.0.children().any(|node| text(&node)) {
            return Err(fault(SCHEMA, format!("<{}> contains text", self.0.tag_name().name())));
        }
        Ok(self.elements())
    }

    /// The text content; a child element or empty text is an error.
    fn text(&self) -> Result<String, Fault> {
        if let Some(child) = self.elements().first() {
            return Err(child.unknown());
        }
        let pieces = self.0.children().filter(Node::is_text).filter_map(|node| node.text());
        let text = pieces.collect::<String>().trim().to_owned();
        if text.is_empty() {
            let what = format!("<{}> is empty", self.0.tag_name().name());
            return Err(fault(SCHEMA, what));
        }
        Ok(text)
    }
}

fn fault(code: u32, what: impl Into<String>) -> Fault {
    Fault { code, what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(body: &str) -> Result<Vec<Verb>, Fault> {
        read(Some("text/xml; charset=utf-8"), body.as_bytes())
    }

    #[test]
    fn the_usual_documents_are_read() {
        let verbs = xml(r#"<?xml version="1.0" encoding="UTF-8"?>
            <Response>
              <Connect action="https://x.example/after?a=1&amp;b=2">
                <Stream url="wss://x.example/media" name="s1"><Parameter name="k" value="v"/></Stream>
              </Connect>
              <Say voice="Polly.Joanna" language="en-US">It &amp; that</Say>
              <Dial timeout="12" callerId="+15550100001" action="/after"><Number>+15550100002</Number></Dial>
              <Hangup/>
            </Response>"#)
        .unwrap();
        let [Verb::Connect { action, stream, .. }, Verb::Say { text, .. }, Verb::Dial(dial), Verb::Hangup] =
            &verbs[..]
        else {
            panic!("{verbs:?}")
        };
        assert_eq!(action.as_deref(), Some("https://x.example/after?a=1&b=2"));
        assert_eq!(stream.parameters, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(text, "It & that");
        assert_eq!((dial.number.as_str(), dial.timeout), ("+15550100002", 12));
        assert_eq!(xml("<Response/>").unwrap(), []);
        let keys = Verb::PressKeys { digits: "w1*0#W".to_owned(), times: 1 };
        assert_eq!(xml("<Response><Play digits='w1*0#W'/></Response>").unwrap(), [keys]);
    }

    #[test]
    fn unknown_twiml_is_an_error() {
        for (body, code) in [
            ("<Response><hangup/></Response>", SCHEMA),
            ("<response/>", SCHEMA),
            ("<Response><Hangup reason='x'/></Response>", SCHEMA),
            ("<Response>hello</Response>", SCHEMA),
            ("<Response><Connect/></Response>", SCHEMA),
            ("<Response><Connect><Stream/></Connect></Response>", SCHEMA),
            ("<Response><Connect><Stream URL='wss://x'/></Connect></Response>", SCHEMA),
            ("<Response><Connect url='x'><Stream url='wss://x'/></Connect></Response>", SCHEMA),
            ("<Response><Connect><Stream url='wss://x' statusCallback='/x'/></Connect></Response>", SCHEMA),
            ("<Response><Say></Say></Response>", SAY_EMPTY),
            ("<Response><Say> … </Say></Response>", SAY_EMPTY),
            ("<Response><Say><b/></Say></Response>", SCHEMA),
            ("<Response><Say language='de'>a</Say></Response>", SCHEMA),
            ("<Response><Say language='en-UK'>a</Say></Response>", SCHEMA),
            ("<Response><Dial><Sip>a</Sip></Dial></Response>", SCHEMA),
            ("<Response><Dial timeout='601'>+15550100002</Dial></Response>", SCHEMA),
            ("<Response><Dial timeout='soon'>+15550100002</Dial></Response>", SCHEMA),
            ("<Response><Dial timeLimit='0'>+15550100002</Dial></Response>", SCHEMA),
            ("<Response><Dial answerOnBridge='yes'>+15550100002</Dial></Response>", SCHEMA),
            ("<Response><Dial callerid='+15550100001'>+15550100002</Dial></Response>", SCHEMA),
            ("<Response><Play digits='12a'/></Response>", SCHEMA),
            ("<Response><Play digits=''/></Response>", SCHEMA),
            ("<Response><Play digits='1'>https://x.example/a.wav</Play></Response>", SCHEMA),
            ("<Response><Play/></Response>", SCHEMA),
            ("<Response><Pause length='long'/></Response>", SCHEMA),
            ("<Response><Reject reason='tired'/></Response>", SCHEMA),
            ("<Response><Redirect method='PUT'>/x</Redirect></Response>", SCHEMA),
            ("<Response xmlns='urn:x'><Hangup/></Response>", SCHEMA),
            ("<Response>", NOT_XML),
            ("<Response><Say>a & b</Say></Response>", NOT_XML),
            ("", NOT_XML),
        ] {
            assert_eq!(xml(body).map_err(|fault| fault.code), Err(code), "{body}");
        }
        let said = format!("<Response><Say>{}</Say></Response>", "ü".repeat(LONGEST_SAY / 2 + 1));
        assert_eq!(xml(&said).unwrap_err().code, SAY_TOO_LONG);
        let code = |kind, body: &[u8]| read(kind, body).unwrap_err().code;
        assert_eq!(code(Some("text/plain"), b"<Response/>"), CONTENT_TYPE);
        assert_eq!(code(None, b"<Response/>"), CONTENT_TYPE);
        let long = format!("<Response><Say>{}</Say></Response>", "a".repeat(LONGEST));
        assert_eq!(code(Some("application/xml"), long.as_bytes()), TOO_LONG);
    }
}
