//! The account's phone numbers and where each one leads.

use serde_json::{Value, json};
use url::Url;

use super::account::{ACCOUNT, AccountOptions};
use super::refusal::{Outcome, Refusal};

/// The fields of an update. Twilio ignores unknown ones; here they are an error.
const FIELDS: [(&str, &str, Kind); 22] = [
    ("VoiceUrl", "voice_url", Kind::Url),
    ("VoiceMethod", "voice_method", Kind::Method),
    ("VoiceFallbackUrl", "voice_fallback_url", Kind::Url),
    ("VoiceFallbackMethod", "voice_fallback_method", Kind::Method),
    ("StatusCallback", "status_callback", Kind::Url),
    ("StatusCallbackMethod", "status_callback_method", Kind::Method),
    ("VoiceApplicationSid", "voice_application_sid", Kind::Sid("AP")),
    ("TrunkSid", "trunk_sid", Kind::Sid("TK")),
    ("VoiceCallerIdLookup", "voice_caller_id_lookup", Kind::Flag),
    ("VoiceReceiveMode", "voice_receive_mode", Kind::Text),
    ("FriendlyName", "friendly_name", Kind::Text),
    ("ApiVersion", "api_version", Kind::Text),
    ("SmsUrl", "sms_url", Kind::Url),
    ("SmsMethod", "sms_method", Kind::Method),
    ("SmsFallbackUrl", "sms_fallback_url", Kind::Url),
    ("SmsFallbackMethod", "sms_fallback_method", Kind::Method),
    ("SmsApplicationSid", "sms_application_sid", Kind::Sid("AP")),
    ("EmergencyStatus", "emergency_status", Kind::Text),
    ("EmergencyAddressSid", "emergency_address_sid", Kind::Sid("AD")),
    ("IdentitySid", "identity_sid", Kind::Sid("RI")),
    ("AddressSid", "address_sid", Kind::Sid("AD")),
    ("BundleSid", "bundle_sid", Kind::Sid("BU")),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Url,
    Method,
    Sid(&'static str),
    Flag,
    Text,
}

/// A newly bought number, which leads to Twilio's demo. `index` determines its SID.
pub fn number(index: usize, number: &str) -> Value {
    json!({
        "sid": format!("PN{index:032x}"),
        "account_sid": ACCOUNT,
        "phone_number": number,
        "friendly_name": number,
        "origin": "twilio",
        "status": "in-use",
        "beta": false,
        "api_version": "2010-04-01",
        "address_requirements": "none",
        "address_sid": null,
        "bundle_sid": null,
        "identity_sid": null,
        "emergency_address_sid": null,
        "emergency_status": "Active",
        "capabilities": {"voice": true, "sms": true, "mms": true, "fax": false},
        "voice_url": "https://demo.twilio.com/welcome/voice/",
        "voice_method": "POST",
        "voice_fallback_url": "",
        "voice_fallback_method": "POST",
        "voice_application_sid": "",
        "voice_caller_id_lookup": false,
        "voice_receive_mode": "voice",
        "trunk_sid": null,
        "status_callback": "",
        "status_callback_method": "POST",
        "sms_url": "https://demo.twilio.com/welcome/sms/reply/",
        "sms_method": "POST",
        "sms_fallback_url": "",
        "sms_fallback_method": "POST",
        "sms_application_sid": "",
        "date_created": "Mon, 02 Mar 2026 10:00:00 +0000",
        "date_updated": "Mon, 02 Mar 2026 10:00:00 +0000",
        "uri": format!("/2010-04-01/Accounts/{}/IncomingPhoneNumbers/PN{index:032x}.json", ACCOUNT),
    })
}

/// Whether the text is a plus and 7 to 15 digits.
pub(super) fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A page of the list. Every page after the first is requested by the address in the page before it.
pub(super) fn page(options: &AccountOptions, path: &str, query: &str) -> Outcome {
    let (mut wanted, mut size, mut page, mut token) = (String::new(), 50, 0, None);
    let bad = |name: &str| Refusal::new(400, 20001, format!("Invalid parameter {name}"));
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "PhoneNumber" => wanted = value.into_owned(),
            "PageSize" => size = value.parse().map_err(|_| bad("PageSize"))?,
            "Page" => page = value.parse().map_err(|_| bad("Page"))?,
            "PageToken" => token = Some(value.into_owned()),
            "FriendlyName" | "Beta" | "Origin" => {}
            other => return Err(bad(other)),
        }
    }
    if size == 0 {
        return Err(bad("PageSize"));
    }
    let size = size.min(1_000).min(options.longest_page);
    // The filter matches anywhere in the number.
    let wanted_digits = wanted.trim_start_matches('+');
    let all = options.numbers.iter().filter(|number| {
        number["phone_number"].as_str().is_some_and(|number| number.contains(wanted_digits))
    });
    let all: Vec<&Value> = all.collect();
    let start = match (&token, page) {
        (None, 0) => 0,
        (Some(token), 1..) => {
            let last = all.iter().position(|number| token.strip_prefix("PA") == number["sid"].as_str());
            last.ok_or_else(|| bad("PageToken"))? + 1
        }
        _ => return Err(bad("Page")),
    };
    let shown: Vec<Value> = all.iter().skip(start).take(size).copied().cloned().collect();
    let end = start + shown.len();
    let address = |page: usize, token: Option<&Value>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !wanted.is_empty() {
            query.append_pair("PhoneNumber", &wanted);
        }
        query.append_pair("PageSize", &size.to_string()).append_pair("Page", &page.to_string());
        if let Some(last) = token.and_then(Value::as_str) {
            query.append_pair("PageToken", &format!("PA{last}"));
        }
        format!("{path}?{}", query.finish())
    };
    let next = (end < all.len()).then(|| address(page + 1, all.get(end - 1).map(|last| &last["sid"])));
    let body = json!({
        "first_page_uri": address(0, None),
        "next_page_uri": next,
        "previous_page_uri": null,
        "uri": format!("{path}?{query}"),
        "page": page,
        "page_size": size,
        "start": start,
        "end": end.saturating_sub(1),
        "incoming_phone_numbers": shown,
    });
    Ok((200, body))
}

pub(super) fn find<'a>(options: &'a AccountOptions, sid: &str, path: &str) -> Result<&'a Value, Refusal> {
    let found = options.numbers.iter().find(|number| number["sid"] == sid);
    found.ok_or_else(|| Refusal::not_found(path))
}

/// Applies all changes to a number, or none.
pub(super) fn change(
    options: &mut AccountOptions,
    sid: &str,
    path: &str,
    form: &[(String, String)],
) -> Result<Value, Refusal> {
    let mut changed = find(options, sid, path)?.clone();
    for (name, value) in form {
        let field = FIELDS.iter().find(|(field, ..)| field == name);
        let Some((_, key, kind)) = field else {
            return Err(Refusal::new(400, 20001, format!("Unknown parameter {name}")));
        };
        changed[*key] = read(*kind, name, value)?;
        // A number has either an application or a trunk.
        match *key {
            "voice_application_sid" if !value.is_empty() => changed["trunk_sid"] = Value::Null,
            "trunk_sid" if !value.is_empty() => changed["voice_application_sid"] = "".into(),
            _ => {}
        }
    }
    if changed["voice_url"] == "" && changed["voice_fallback_url"] != "" {
        return Err(Refusal::new(400, 21405, "Cannot set VoiceFallbackUrl without setting Url"));
    }
    changed["date_updated"] = "Tue, 03 Mar 2026 10:00:00 +0000".into();
    if let Some(number) = options.numbers.iter_mut().find(|number| number["sid"] == sid) {
        *number = changed.clone();
    }
    Ok(changed)
}

fn read(kind: Kind, name: &str, value: &str) -> Result<Value, Refusal> {
    match kind {
        Kind::Url => {
            let usable = |url: &Url| {
                // Twilio cannot reach this machine, and a host name has no underscore.
                matches!(url.scheme(), "http" | "https")
                    && url.host_str().is_some_and(|host| !host.contains('_') && host != "localhost")
                    && !url.host_str().is_some_and(|host| host.starts_with("127."))
            };
            if !value.is_empty() && !Url::parse(value).is_ok_and(|url| usable(&url)) {
                return Err(Refusal::new(400, 21402, format!("{name} is not valid")));
            }
        }
        Kind::Method if !matches!(value, "GET" | "POST") => {
            return Err(Refusal::new(400, 21403, format!("{name} is not valid")));
        }
        Kind::Sid(prefix) => {
            let is_sid = value
                .strip_prefix(prefix)
                .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            if !value.is_empty() && !is_sid {
                return Err(Refusal::new(400, 20001, format!("{name} is not valid")));
            }
            // An empty trunk becomes null; an empty application stays empty text.
            if name == "TrunkSid" && value.is_empty() {
                return Ok(Value::Null);
            }
        }
        Kind::Flag => return Ok((value == "true").into()),
        Kind::Method | Kind::Text => {}
    }
    Ok(value.into())
}
