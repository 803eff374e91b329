//! The caller's number in a record.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::phone::PhoneNumber;
use crate::secret::Secret;

/// How many digits of a masked number are shown at its end.
const SHOWN: usize = 2;

/// The key under which the store finds the calls of a number, without keeping the number: a keyed hash as 64 hex
/// digits.
pub fn caller_key(secret: &Secret, number: &PhoneNumber) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("any key will do");
    mac.update(number.expose().as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of which only the country's first digit and the last two digits are left, such as `+1•••••••00`.
pub fn masked(number: &PhoneNumber) -> String {
    let digits = &number.expose()[1..];
    let hidden = "•".repeat(digits.len() - 1 - SHOWN);
    format!("+{}{hidden}{}", &digits[..1], &digits[digits.len() - SHOWN..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_number_shows_its_ends() {
        for (number, expected) in [("+15550100100", "+1••••••••00"), ("+1234567", "+1••••67")]
        {
            assert_eq!(masked(&PhoneNumber::parse(number).unwrap()), expected);
        }
    }

    #[test]
    fn a_callers_key_depends_on_the_number_and_the_secret() {
        let key = |secret: &str, number: &str| {
            caller_key(&Secret::new(secret), &PhoneNumber::parse(number).unwrap())
        };
        let known = key("secret", "+15550100100");
        assert_eq!(known, key("secret", "+15550100100"));
        assert_ne!(known, key("other", "+15550100100"));
        assert_ne!(known, key("secret", "+15550100101"));
        assert_eq!(known.len(), 64);
        assert!(!known.contains("5550100100"));
    }
}
