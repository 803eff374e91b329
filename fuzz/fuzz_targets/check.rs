//! Bytes as an assistant's file: read, checked, and every problem shown. Nothing may panic, and
//! nothing may take longer than a second (`-timeout=1`).
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use switchboard::assistant::{Folder, Roster, SourceFile};
use switchboard::problem;
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};

static PROVIDERS: LazyLock<[Arc<Provider>; 1]> =
    LazyLock::new(|| [Arc::new(Provider::openai(OPENAI_REALTIME_URL, None))]);
static ENVIRONMENT: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let pairs = [("NAME", "value"), ("NUMBER", "+15550100001"), ("TEMPLATE", "{{ caller.name }}"), ("EMPTY", "")];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
});

fuzz_target!(|bytes: &[u8]| {
    let folder = Folder { assistants: vec![SourceFile::new("a.yaml", bytes)], ..Folder::default() };
    let checked = Roster::check(&folder, &ENVIRONMENT, &*PROVIDERS);
    let problems = checked.problems();
    problem::plain(&problems);
    problem::pretty(&problems);
});
