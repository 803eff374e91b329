//! DATABASE_URL.

use std::path::PathBuf;

use url::Url;

use crate::secret::{self, Secret};

/// A database that can hold the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A URL with a password.
    Postgres(Secret),
}

/// Why a text names no database. Never shows the text: it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("has quotes around it; `docker run --env-file` keeps the quotes of its file")]
    Quoted,
    #[error("must start with sqlite:// or postgres://")]
    Scheme,
    #[error("names no file; write it like sqlite://state/switchboard.db")]
    NoPath,
    #[error("names a database in memory; name a file, because the records would end with the server")]
    InMemory,
    #[error("must be sqlite:// and the path of a file, without options after a `?`")]
    Options,
    #[error("is not a URL: {0}; a password with special characters must be percent-encoded")]
    Syntax(url::ParseError),
    #[error("has no host; write it like postgres://user:password@host:5432/switchboard")]
    NoHost,
    #[error(
        "names no database; write its name after the host, as in postgres://user:password@host:5432/switchboard"
    )]
    NoName,
}

pub(super) fn parse(text: &str) -> Result<Database, Invalid> {
    if secret::is_quoted(text) {
        return Err(Invalid::Quoted);
    }
    let (scheme, rest) = text.split_once("://").ok_or(Invalid::Scheme)?;
    match scheme.to_ascii_lowercase().as_str() {
        "sqlite" => match rest {
            "" => Err(Invalid::NoPath),
            ":memory:" => Err(Invalid::InMemory),
            path if path.contains('?') => Err(Invalid::Options),
            path => Ok(Database::Sqlite(path.into())),
        },
        "postgres" | "postgresql" => postgres(text),
        _ => Err(Invalid::Scheme),
    }
}

fn postgres(text: &str) -> Result<Database, Invalid> {
    let url = Url::parse(text).map_err(Invalid::Syntax)?;
    // Also the folder of a socket.
    let has_host = url.host_str().is_some_and(|host| !host.is_empty())
        || url.query_pairs().any(|(name, _)| matches!(&*name, "host" | "hostaddr"));
    if !has_host {
        return Err(Invalid::NoHost);
    }
    if url.path().trim_matches('/').is_empty() && !url.query_pairs().any(|(name, _)| name == "dbname") {
        return Err(Invalid::NoName);
    }
    Ok(Database::Postgres(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_file_or_a_server() {
        for (text, path) in [
            ("sqlite://state/switchboard.db", "state/switchboard.db"),
            ("sqlite:///data/switchboard.db", "/data/switchboard.db"),
            ("SQLite://a b.db", "a b.db"),
        ] {
            assert_eq!(parse(text), Ok(Database::Sqlite(path.into())), "{text}");
        }
        for text in [
            "postgres://me:pass@db.example.com:5432/calls?sslmode=require",
            "postgresql://db.example.com/calls",
            "postgres:///calls?host=/var/run/postgresql",
        ] {
            assert_eq!(parse(text), Ok(Database::Postgres(Secret::new(text))), "{text}");
        }
        for (text, why) in [
            ("switchboard.db", Invalid::Scheme),
            ("sqlite:switchboard.db", Invalid::Scheme),
            ("mysql://me@db.example.com/calls", Invalid::Scheme),
            ("sqlite://", Invalid::NoPath),
            ("sqlite://:memory:", Invalid::InMemory),
            ("sqlite:///calls.db?mode=ro", Invalid::Options),
            ("\"sqlite:///calls.db\"", Invalid::Quoted),
            ("postgres:///calls", Invalid::NoHost),
            ("postgres://me:pass@db.example.com", Invalid::NoName),
            ("postgres://me:pass@db.example.com/", Invalid::NoName),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        assert!(matches!(parse("postgres://me:pa/ss@db.example.com/calls"), Err(Invalid::Syntax(_))));
    }
}
