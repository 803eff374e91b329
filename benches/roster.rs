//! A folder with a thousand assistants: read, checked, compared with the roster in force, and swapped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use switchboard::assistant::plan::RecordPolicy;
use switchboard::assistant::{Folder, SourceFile};
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};
use switchboard::reload::read::read_folder;
use switchboard::reload::{Keeper, check_whole};
use switchboard::secret::Secret;

const ASSISTANTS: usize = 1_000;

/// A realistic folder: forty lines per file, variables, a condition and a loop in the text, two of four fragments.
fn folder(words: &str) -> Folder {
    let assistant = |number: usize| {
        let text = format!(
            r##"# The front desk of practice {number}.
description: Answers the main line of practice {number}
numbers: ["+1555{number:07}"]
voice: marin
timezone: America/New_York

variables:
  clinic:
    name: Example Dental {number}
    hours: Monday to Friday, nine in the morning to five in the afternoon
    address: {number} Example Street, on the second floor
    emergency: a tooth that was knocked out, bleeding that does not stop, or a swollen face
  services:
    - {{ name: a check-up, price: "${{PRICE:-sixty dollars}}" }}
    - {{ name: a cleaning, price: ninety dollars }}
    - {{ name: a filling, price: two hundred dollars }}
instructions: |
  # Who you are

  You are at the front desk of {{{{ clinic.name }}}}, a dental practice. You are {words}, warm and quick.

  # What you know

  It is {{{{ now }}}}. The practice is open {{{{ clinic.hours }}}}. It is at {{{{ clinic.address }}}}.
  {{% if caller.number %}}The caller's number is {{{{ caller.spoken }}}}.{{% else %}}The number is withheld.{{% endif %}}
  We offer {{% for service in services %}}{{{{ service.name }}}} for {{{{ service.price }}}}{{% if not loop.last %}}, {{% endif %}}{{% endfor %}}.

  # What you do

  Answer questions about hours, the address and what to bring to a first visit.
  For an appointment, ask for the name, the reason, and two times that would suit.

  Give no medical advice. If it is an emergency, such as {{{{ clinic.emergency }}}}, tell
  the caller to ring the emergency services at once.
fragments: [house-rules, extra-{extra}]

greeting:
  say: "Hello, {{{{ clinic.name }}}}, how can I help?"

turn_taking: {{ silence: 600ms }}
call_control: {{ end_call: true }}
limits: {{ call: 15m, silence: 60s }}
busy: {{ say: "All our lines are busy. Please call again in a few minutes." }}
on_failure: {{ say: "Sorry, something went wrong on our side. Please call again." }}
"##,
            extra = number % 3
        );
        SourceFile::new(format!("assistants/practice-{number}.yaml"), text)
    };
    let fragment = |name: &str| {
        let text = include_str!("../assistants/fragments/house-rules.md");
        SourceFile::new(format!("assistants/fragments/{name}.md"), format!("{text}\nIt is {{{{ now }}}}.\n"))
    };
    Folder {
        assistants: (0..ASSISTANTS).map(assistant).collect(),
        fragments: ["house-rules", "extra-0", "extra-1", "extra-2"].map(fragment).into(),
        ..Folder::default()
    }
}

fn thousand(criterion: &mut Criterion) {
    let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, Some(Secret::new("sk-simulated"))));
    let environment = BTreeMap::new();
    let (one, two) = (folder("calm"), folder("cheerful"));
    let roster = |folder: &Folder| {
        check_whole(folder, &environment, std::slice::from_ref(&provider), RecordPolicy::default())
            .roster
            .expect("the folder is sound")
    };
    assert_eq!(roster(&one).len(), ASSISTANTS);
    let mut group = criterion.benchmark_group("a thousand assistants");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
    group.bench_function("check", |bencher| bencher.iter(|| roster(&one)));

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let mut keeper =
        Keeper::new(roster(&one), environment.clone(), [provider.clone()], RecordPolicy::default());
    let mut turn = 0;
    group.bench_function("check and swap, all of them changed", |bencher| {
        let next = || {
            turn += 1;
            if turn % 2 == 1 { two.clone() } else { one.clone() }
        };
        bencher.iter_batched(
            next,
            |folder| {
                let before = keeper.standing().borrow().generation;
                runtime.block_on(keeper.apply(Ok(folder)));
                assert_eq!(keeper.standing().borrow().generation, before + 1);
            },
            BatchSize::PerIteration,
        );
    });

    let temp = std::env::temp_dir().join(format!("switchboard-bench-{}", std::process::id()));
    for file in one.assistants.iter().chain(&one.fragments) {
        let path = temp.join(file.path.trim_start_matches("assistants/"));
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder is made");
        std::fs::write(path, &file.bytes).expect("a file is written");
    }
    group.bench_function("read", |bencher| bencher.iter(|| read_folder(&temp).expect("the folder is there")));
    let _ = std::fs::remove_dir_all(temp);
    group.finish();
}

criterion_group!(benches, thousand);
criterion_main!(benches);
