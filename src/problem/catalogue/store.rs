//! Problems of the database of the records.

use super::catalogue;

catalogue! {
    /// What a look at the database of the records found.
    Store {
        Good { kind: &'static str, calls: String, oldest: String } = Ok "store.ok",
            "the records are in {kind}: {calls}, the oldest of {oldest}";
        Empty { kind: &'static str } = Ok "store.ok",
            "the records are in {kind}, which holds no call yet";
        New { kind: &'static str } = Ok "store.ok",
            "the records will be in {kind}, which `switchboard serve` creates";
        Login = Warning "store.login",
            "PostgreSQL rejects the user or the password of DATABASE_URL",
            effect: "records of calls are not kept until it is right",
            fix: "copy the URL again; special characters in a password must be percent-encoded";
        NoDatabase = Warning "store.no_database",
            "the server of DATABASE_URL has no database of that name",
            effect: "records of calls are not kept until it has",
            fix: "create it with `createdb`, or correct the end of DATABASE_URL";
        ReadOnly { kind: &'static str } = Warning "store.read_only",
            "the records are in {kind}, which cannot be written to",
            effect: "records of calls are not kept",
            fix: "let the user who runs the server write to it; of PostgreSQL, name the primary, not a replica";
        Future { unknown: usize } = Warning "store.future",
            "a newer version of switchboard made the database: this one does not know {unknown} of its steps, and one is the most",
            effect: "records of calls are not kept by this version",
            fix: "run that version again, or name another database";
        Slow { seconds: u64 } = Warning "store.slow",
            "the database did not answer within {seconds} s",
            effect: "no call waits for it; records are written when it is back",
            fix: "check that it runs, and that DATABASE_URL has the right host and port";
        Broken { error: String } = Warning "store.unreachable",
            "the database cannot be used: {error}",
            effect: "no call waits for it; records are written when it is back",
            fix: "check that it runs, and that DATABASE_URL is right";
    }
}
