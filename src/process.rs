//! This process towards the system: how many descriptors it may have, and who may look into its memory.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::serve::SPARE_CONNECTIONS;

/// A call's descriptors: the phone's socket and the model's, and as many again for its tools.
const PER_CALL: usize = 4;
/// The server's own: listeners, the log, the watch over the folder, pipes to MCP servers.
const OWN: usize = 128;

/// Lets this process have the descriptors that `calls` calls at once need, as far as the system allows. The limit stays
/// as low as that: the programs that tools are inherit it, and some look at each descriptor that they could have.
/// The sentence for the log, where it is too low.
pub fn raise_descriptor_limit(calls: usize) -> Option<String> {
    let (soft, hard) = limits()?;
    let wanted = count(PER_CALL * calls + SPARE_CONNECTIONS + OWN).min(hard);
    let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    too_low(if raised { wanted } else { soft }, calls)
}

/// How many connections may be open for other things than a call: where descriptors are few, what `calls` calls leave of
/// them, a quarter at least.
pub fn connections(calls: usize) -> usize {
    limits().map_or(SPARE_CONNECTIONS, |(soft, _)| left_by(calls, soft))
}

/// Has the system show this process's memory and environment, where the secrets are, to nobody but root: not to other
/// programs of the same user, such as those that tools are. These are not hidden themselves. The sentence for whoever runs
/// it, where that fails.
pub fn hide() -> Option<String> {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        return Some(format!("warning: programs of the same user can read this one's secrets: {error}"));
    }
    None
}

/// The soft limit and the hard one. `None`: the system tells of none.
fn limits() -> Option<(rlim_t, rlim_t)> {
    getrlimit(Resource::RLIMIT_NOFILE).ok()
}

fn too_low(limit: rlim_t, calls: usize) -> Option<String> {
    let needed = count(PER_CALL * calls + SPARE_CONNECTIONS + OWN);
    (limit < needed).then(|| {
        format!(
            "The system lets this process have {limit} descriptors, and MAX_CALLS={calls} could need {needed}: raise \
             the limit (`ulimit -n {needed}`, LimitNOFILE={needed} in systemd, `--ulimit nofile={needed}` in Docker), \
             or lower MAX_CALLS"
        )
    })
}

fn left_by(calls: usize, limit: rlim_t) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(PER_CALL * calls + OWN).max(limit / 4).min(SPARE_CONNECTIONS)
}

fn count(descriptors: usize) -> rlim_t {
    rlim_t::try_from(descriptors).unwrap_or(rlim_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_the_calls_their_descriptors() {
        for (what, calls, limit, left) in [
            ("plenty", 1000, 1_048_576, 1024),
            ("no limit", 1000, rlim_t::MAX, 1024),
            ("what is asked for", 1000, 5152, 1024),
            ("a few less", 100, 1528, 1000),
            ("the usual limit", 1000, 1024, 256),
            ("few calls", 100, 1024, 496),
        ] {
            assert_eq!(left_by(calls, limit), left, "{what}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_said_with_its_mend() {
        assert_eq!(too_low(5152, 1000), None);
        let said = too_low(1024, 1000).unwrap();
        for word in ["1024", "MAX_CALLS=1000", "ulimit -n 5152", "LimitNOFILE=5152", "nofile=5152"] {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }
}
