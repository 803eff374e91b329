//! How often a password may be tried: for each address, and in all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong passwords of one address that are free, and how long each of them counts.
const EACH: (u32, Duration) = (5, Duration::from_secs(60));
/// The same for all addresses together.
const ALL: (u32, Duration) = (60, Duration::from_secs(6));
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, Bucket>,
    all: Bucket,
}

/// Wrong passwords that still count. They run out one by one.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// When the last of them runs out.
    until: Option<Instant>,
}

impl Bucket {
    /// How long until another is free; `None` if one is.
    fn wait(&self, (most, each): (u32, Duration), now: Instant) -> Option<Duration> {
        let counted = self.until?.checked_duration_since(now)?;
        counted.checked_sub(each * (most - 1)).filter(|wait| !wait.is_zero())
    }

    fn count(&mut self, (_, each): (u32, Duration), now: Instant) {
        let from = self.until.filter(|until| *until > now).unwrap_or(now);
        self.until = Some(from + each);
    }
}

impl Attempts {
    /// Counts an attempt, unless there were too many: then how long to wait. It counts before its password is compared, so
    /// that many at once cannot pass.
    ///
    /// # Errors
    /// The time until the next attempt.
    pub fn begin(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let address = address.map(whole).unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get(&address).copied().unwrap_or_default();
        let wait = of_address.wait(EACH, now).max(counts.all.wait(ALL, now));
        if let Some(wait) = wait {
            return Err(wait);
        }
        if counts.by_address.len() >= MAX_ADDRESSES {
            counts.by_address.retain(|_, bucket| bucket.until.is_some_and(|until| until > now));
        }
        counts.all.count(ALL, now);
        counts.by_address.entry(address).or_default().count(EACH, now);
        Ok(())
    }

    /// The password was right: what its address did before does not count.
    pub fn succeeded(&self, address: Option<IpAddr>) {
        let address = address.map(whole).unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_address.remove(&address);
    }
}

/// One person has a whole /64 of IPv6.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_five_attempts_and_then_one_a_minute() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..5 {
            attempts.begin(address("192.0.2.1"), now).unwrap();
        }
        assert_eq!(attempts.begin(address("192.0.2.1"), now), Err(Duration::from_secs(60)));
        attempts.begin(address("192.0.2.2"), now).unwrap();
        let later = now + Duration::from_secs(60);
        attempts.begin(address("192.0.2.1"), later).unwrap();
        assert!(attempts.begin(address("192.0.2.1"), later).is_err());
        attempts.succeeded(address("192.0.2.1"));
        attempts.begin(address("192.0.2.1"), later).unwrap();
    }

    #[test]
    fn many_addresses_have_sixty_attempts_together() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let passed = (0..200u32).filter(|at| attempts.begin(Some(IpAddr::V4((*at).into())), now).is_ok());
        assert_eq!(passed.count(), 60);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let passed = (0..9u16).filter(|at| {
            attempts.begin(Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, *at, 0, 0, 1).into()), now).is_ok()
        });
        assert_eq!(passed.count(), 5);
    }
}
