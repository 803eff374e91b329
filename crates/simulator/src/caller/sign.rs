//! Twilio's signature, on the signing side (reference §3.1).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The `X-Twilio-Signature` of a request: the URL without its fragment, then each distinct
/// name and value of the form in byte order.
pub fn sign(auth_token: &str, url: &str, form: &[(String, String)]) -> String {
    let mut hmac =
        Hmac::<Sha1>::new_from_slice(auth_token.as_bytes()).expect("HMAC takes a key of any length");
    hmac.update(url.split('#').next().unwrap_or(url).as_bytes());
    let distinct: BTreeSet<_> = form.iter().collect();
    for (name, value) in distinct {
        hmac.update(name.as_bytes());
        hmac.update(value.as_bytes());
    }
    STANDARD.encode(hmac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_match_the_official_test_vectors() {
        let call = "AccountSid=AC00000000000000000000000000000000 ApiVersion=2010-04-01 \
             CallSid=CA00000000000000000000000000000001 CallStatus=ringing Direction=inbound \
             From=+15551234567 To=+15557654321";
        let status = "CallSid=CA00000000000000000000000000000001 CallStatus=completed \
             CallDuration=7 SipResponseCode=";
        let base = "https://bridge.example.com";
        for (url, form, expected) in [
            ("/voice", call, "AcOu8WjCweLnbv1U7RB3QNsqIu0="),
            (":443/voice", call, "Sf8sPL+etlS3+Ncqfg1MBahOnA0="),
            ("/status?tenant=a%20b&x=1", status, "HbKPNp9tWk0E9SWAxmvYnd6MGO0="),
            (
                "/voice?CallSid=CA00000000000000000000000000000001&From=%2B15551234567&To=%2B15557654321",
                "",
                "M4NBOnB7KC/4NMENh+02LjDGYGA=",
            ),
            ("/x#rt=5000", "b=1 B=2 a=3 A_b=4", "pe3AjBwQD8Nmz0BSEU/QSekiw+o="),
        ] {
            let form: Vec<_> = form
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(sign("12345", &format!("{base}{url}"), &form), expected, "{url}");
        }
        for (url, expected) in [
            ("wss://bridge.example.com/media", "ASGyPT9kdDVOm79OxfQnw7HcSP8="),
            ("wss://bridge.example.com/media/", "s8PR4IzGlCW8C4hFit29c/IbuH8="),
            ("wss://bridge.example.com:443/media", "C9S82mGEXw9m712vXhUGYWVNxaI="),
        ] {
            assert_eq!(sign("12345", url, &[]), expected, "{url}");
        }
        let many = [
            ("Body", "hé +&= z"),
            ("From", "+15551234567"),
            ("MediaUrl", "https://x.example.com/b"),
            ("MediaUrl", "https://x.example.com/a"),
            ("MediaUrl", "https://x.example.com/a"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = "https://bridge.example.com/sms";
        assert_eq!(sign("12345", url, &many), "ERuTPTxUyWw+Lpt7jc/NsmzxcZc=");
    }
}
