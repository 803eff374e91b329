//! YAML as written: a tree in which every key and value knows its place.
//!
//! It parses with limits (size, depth, aliases), keeps duplicate keys, and replaces `${NAME}` in
//! values before anybody asks for their type. What the keys mean is not known here. A value that
//! came from the environment is never shown: it prints as it was written.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod expand;
pub mod secrets;
mod syntax;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Location, Spanned};

use crate::problem::catalogue::File;
use crate::problem::{self, Problem, Source, Span};
use crate::secret;
use expand::Expansion;
pub use expand::variables;

/// The largest YAML file that is read, in bytes.
pub const LARGEST: usize = 256 * 1024;
const DEEPEST: usize = 32;

/// A file as it was on the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As the owner knows it, such as `assistants/clinic.yaml`.
    pub path: String,
    pub bytes: Vec<u8>,
    unread: Option<Unread>,
}

/// Why there are no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The size, in bytes.
    TooLarge(u64),
    Folder,
    /// A pipe, a socket or a device.
    NotAFile,
}

impl SourceFile {
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> SourceFile {
        SourceFile { path: path.into(), bytes: bytes.into(), unread: None }
    }

    /// A file that is not read.
    pub fn unread(path: impl Into<String>, why: Unread) -> SourceFile {
        SourceFile { path: path.into(), bytes: Vec::new(), unread: Some(why) }
    }

    /// The size on the disk, in bytes.
    pub fn size(&self) -> u64 {
        match self.unread {
            Some(Unread::TooLarge(size)) => size,
            _ => self.bytes.len() as u64,
        }
    }

    /// The problem of a file that is not read.
    pub fn unusable(&self) -> Option<File> {
        self.unread.map(|why| match why {
            Unread::TooLarge(size) => File::TooLarge { kib: size.div_ceil(1024), most: LARGEST / 1024 },
            Unread::Folder => File::Folder,
            Unread::NotAFile => File::NotAFile,
        })
    }
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.size())
    }
}

/// What reading a file gave. With a problem of severity error, `root` may be partial.
#[derive(Debug)]
pub struct Document {
    pub source: Source,
    /// `None` for a file that cannot be read at all. An empty file has a null root.
    pub root: Option<Node>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Scalar(Scalar),
    Seq(Vec<Node>),
    /// In the order of the file; a key may come twice.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub span: Span,
}

/// A single value. Its type is judged when it is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Scalar {
    text: String,
    style: Style,
    /// The text before `${…}` was replaced, where there was one.
    written: Option<String>,
}

/// How a value stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Quoted,
    /// After `|`: its lines are the file's lines.
    Literal,
    /// After `>`.
    Folded,
}

impl Node {
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Seq(_) | Kind::Map(_) => None,
        }
    }

    /// Nothing, or an environment variable that holds nothing.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// What it is, in words: `a list`.
    pub fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Seq(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Scalar(scalar) if scalar.is_null() => "empty",
            Kind::Scalar(scalar) if scalar.bool().is_some() => "true or false",
            Kind::Scalar(scalar) if scalar.number().is_some() => "a number",
            Kind::Scalar(_) => "a text",
        }
    }
}

impl Scalar {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether it came, wholly or in part, from the environment or a default in `${…}`.
    pub fn expanded(&self) -> bool {
        self.written.is_some()
    }

    /// Whether the file has quotes within the quotes of this value, as in `'"abc"'`.
    pub fn quoted_within(&self) -> bool {
        secret::is_quoted(self.written.as_deref().unwrap_or(&self.text).trim())
    }

    /// What stands in place of each `${…}`, and of the first to the last one as a whole: it came from the environment, or
    /// is a default.
    pub fn inserted(&self) -> Vec<&str> {
        let Some(mut rest) = self.written.as_deref() else { return Vec::new() };
        let mut literals = Vec::new();
        while let Some((before, behind)) = rest.split_once("${") {
            literals.push(before);
            rest = behind.split_once('}').map_or("", |(_, after)| after);
        }
        let Some((first, between)) = literals.split_first() else { return vec![&self.text] };
        let Some(whole) = self.text.strip_prefix(first).and_then(|text| text.strip_suffix(rest)) else {
            return vec![&self.text];
        };
        let (mut found, mut left) = (vec![whole], whole);
        for literal in between.iter().filter(|literal| !literal.is_empty()) {
            let Some((value, after)) = left.split_once(*literal) else { break };
            found.push(value);
            left = after;
        }
        if left != whole {
            found.push(left);
        }
        found
    }

    /// The value as a message may show it.
    pub fn shown(&self) -> String {
        problem::shown(self.written.as_deref().unwrap_or(&self.text))
    }

    pub fn is_null(&self) -> bool {
        match self.written {
            Some(_) => self.text.is_empty(),
            None => {
                self.style == Style::Plain
                    && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
        }
    }

    /// Quotes make a text, unless `${…}` stood inside them.
    fn typed(&self) -> bool {
        self.style == Style::Plain || self.written.is_some()
    }

    pub fn bool(&self) -> Option<bool> {
        match self.text.trim() {
            _ if !self.typed() => None,
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        let text = self.text.trim();
        let looks_so = text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
        if !self.typed() || !looks_so {
            return None;
        }
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

/// Stands for a variable that is not set, so that its value is not judged as well.
pub const MISSING: &str = "\u{fffc}";

/// Reads a file: its tree, with every `${NAME}` replaced.
pub fn read(file: &SourceFile, environment: &BTreeMap<String, String>) -> Document {
    let path = file.path.as_str();
    let text = match text(file) {
        Ok(text) => text,
        Err(problem) => {
            let source = Source::new(path, "");
            return Document { source, root: None, problems: vec![*problem] };
        }
    };
    let mut source = Source::new(path, text);
    let mut problems = Vec::new();
    let root = match parse(text, &source) {
        Ok(mut root) => {
            let (used, origins) = (Vec::new(), Vec::new());
            let problems = &mut problems;
            let mut expansion = Expansion { environment, source: &source, text, problems, used, origins };
            expansion.node(&mut root);
            let origins = expansion.origins;
            source.set_origins(origins);
            Some(root)
        }
        Err(problem) => {
            problems.push(*problem);
            None
        }
    };
    Document { source, root, problems }
}

/// The text of a file of at most [`LARGEST`] bytes, without a byte order mark.
pub fn text(file: &SourceFile) -> Result<&str, Box<Problem>> {
    let wrong = |what: File| Err(Box::new(Problem::file(&file.path, what)));
    if let Some(what) = file.unusable() {
        return wrong(what);
    }
    if file.size() > LARGEST as u64 {
        return wrong(File::TooLarge { kib: file.size().div_ceil(1024), most: LARGEST / 1024 });
    }
    let bytes = file.bytes.as_slice();
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let line_of = |at: usize| bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return wrong(File::Utf16);
    }
    if let Some(at) = bytes.iter().position(|&b| b == 0) {
        return wrong(File::Binary { line: line_of(at) });
    }
    // Only the parser takes it for the end of a line.
    let lone = |(at, pair): (usize, &[u8])| (pair[0] == b'\r' && pair[1] != b'\n').then_some(at);
    if let Some(at) = bytes.windows(2).enumerate().find_map(lone) {
        return wrong(File::CarriageReturn { line: line_of(at) });
    }
    std::str::from_utf8(bytes).or_else(|error| wrong(File::NotUtf8 { line: line_of(error.valid_up_to()) }))
}

fn parse(text: &str, source: &Source) -> Result<Node, Box<Problem>> {
    if text.lines().all(syntax::blank) {
        let scalar = Scalar { text: String::new(), style: Style::Plain, written: None };
        return Ok(Node { span: Span { line: 1, column: 1, ..Span::default() }, kind: Kind::Scalar(scalar) });
    }
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: DEEPEST,
            max_nodes: 20_000,
            max_events: 60_000,
            max_aliases: 200,
            max_anchors: 200,
            max_documents: 2,
            max_merge_keys: 200,
            max_total_scalar_bytes: 2 * LARGEST,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 16,
        },
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let tree: Spanned<Raw> = serde_yaml::from_str_with_options(text, options)
        .map_err(|error| Box::new(syntax::broken(text, source, &error)))?;
    let lines = Lines::new(text);
    lines.node(tree).map_err(|(span, message)| Box::new(source.problem(span, File::Key { why: message })))
}

/// The tree as serde hands it over. Plain scalars are read from the source, not from here: their
/// type is not the parser's to judge, or `+15550100001` would lose its plus.
enum Raw {
    Text(String),
    Plain,
    Seq(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// A text and where its lines begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
    /// The line, column and offset that were asked for last: most go on from there.
    last: Cell<(usize, usize, usize)>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(breaks).collect(), last: Cell::new((1, 1, 0)) }
    }

    /// A parser's location as a span that lies within the text, whatever the parser said.
    fn at(&self, location: Location) -> Span {
        let line = (location.line() as usize).clamp(1, self.starts.len());
        let wanted = (location.column() as usize).max(1);
        // A line may be as long as the file: to count each column from its start takes the square of the time.
        let (mut column, mut start) = match self.last.get() {
            (last, column, offset) if last == line && column <= wanted => (column, offset),
            _ => (1, self.starts[line - 1]),
        };
        for c in self.text[start..].chars().take(wanted - column).take_while(|c| !matches!(c, '\n' | '\r')) {
            column += 1;
            start += c.len_utf8();
        }
        self.last.set((line, column, start));
        let tail = &self.text[start..];
        let chars = location.span().len() as usize;
        let len = tail.char_indices().nth(chars).map_or(tail.len(), |(offset, _)| offset);
        Span { start, len, line, column }
    }

    fn node(&self, raw: Spanned<Raw>) -> Result<Node, (Span, String)> {
        let span = self.at(raw.defined);
        self.no_tag(span)?;
        let source = &self.text[span.start..span.start + span.len];
        let kind = match raw.value {
            Raw::Text(text) => {
                let style = match source.bytes().next() {
                    Some(b'"' | b'\'') => Style::Quoted,
                    _ => self.block_style(span).unwrap_or(Style::Plain),
                };
                Kind::Scalar(Scalar { text, style, written: None })
            }
            Raw::Plain => {
                let text = source.trim().to_owned();
                Kind::Scalar(Scalar { text, style: Style::Plain, written: None })
            }
            Raw::Seq(items) => {
                Kind::Seq(items.into_iter().map(|item| self.node(item)).collect::<Result<_, _>>()?)
            }
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Ok((self.key(key)?, self.node(value)?)))
                    .collect::<Result<_, (Span, String)>>()?,
            ),
        };
        Ok(Node { span, kind })
    }

    /// The parser drops tags such as `!secret`, and the value would seem to be what it is not.
    fn no_tag(&self, span: Span) -> Result<(), (Span, String)> {
        let start_of_line = self.starts[span.line - 1];
        let before = self.text[start_of_line..span.start].trim_end();
        let word = before.rsplit([' ', '\t', '[', '{', ',']).next().unwrap_or_default();
        if word.len() < 2 || !word.starts_with('!') || word.starts_with("!!") {
            return Ok(());
        }
        let start = start_of_line + before.len() - word.len();
        let column = self.text[start_of_line..start].chars().count() + 1;
        let span = Span { start, len: word.len(), column, ..span };
        Err((span, format!("`{}` is not known here; write the value, or `${{NAME}}`", problem::shown(word))))
    }

    /// A block's place is its first line of text; the sign that opened it ends the line above.
    fn block_style(&self, span: Span) -> Option<Style> {
        let line_start = *self.starts.get(span.line.checked_sub(1)?)?;
        // From behind: the lines that begin with a thousand spaces are few, and the values in them many.
        if self.text[line_start..span.start].bytes().rev().any(|b| !b.is_ascii_whitespace()) {
            return None;
        }
        let above = self.text[..line_start].trim_end().lines().next_back()?;
        let above = above.split(" #").next()?.trim_end();
        let sign = above.trim_end_matches(|c: char| matches!(c, '-' | '+' | '1'..='9'));
        match sign.bytes().next_back()? {
            b'|' => Some(Style::Literal),
            b'>' => Some(Style::Folded),
            _ => None,
        }
    }

    fn key(&self, raw: Spanned<Raw>) -> Result<Key, (Span, String)> {
        let node = self.node(raw)?;
        match node.kind {
            Kind::Scalar(scalar) if !scalar.text.is_empty() => Ok(Key { name: scalar.text, span: node.span }),
            Kind::Scalar(_) => Err((node.span, "a key is missing before the colon".to_owned())),
            Kind::Seq(_) | Kind::Map(_) => Err((
                node.span,
                "a key must be a plain word; a value that starts with { needs quotes".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
