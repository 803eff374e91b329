//! In which settings two readings differ, by name: their values are nobody's to log.

use super::Settings;

impl Settings {
    /// The names of the settings whose value the other does not share, as `switchboard.yaml` writes them.
    pub fn changed(&self, other: &Settings) -> Vec<&'static str> {
        // Every field is named, so that a new one cannot be forgotten.
        let Settings {
            openai_api_key,
            openai_realtime_url,
            named_providers,
            twilio_auth_tokens,
            twilio_shared_keys,
            twilio_account_sid,
            twilio_api_key,
            twilio_api_secret,
            twilio_api_url,
            twilio_functions_url,
            public_url,
            host,
            port,
            peer_url,
            assistants_dir,
            assistants_url,
            assistants_token,
            max_calls,
            drain,
            metrics_port,
            metrics_token,
            state_dir,
            ssl_cert_file,
            log,
            log_format,
            // These are no settings of the file.
            machine: _,
            on_fly: _,
            fly_url: _,
            in_file: _,
            warnings: _,
        } = self;
        let same = [
            ("openai_api_key", *openai_api_key == other.openai_api_key),
            ("openai_realtime_url", *openai_realtime_url == other.openai_realtime_url),
            ("providers", *named_providers == other.named_providers),
            ("twilio_auth_token", *twilio_auth_tokens == other.twilio_auth_tokens),
            ("twilio_shared_keys", *twilio_shared_keys == other.twilio_shared_keys),
            ("twilio_account_sid", *twilio_account_sid == other.twilio_account_sid),
            ("twilio_api_key", *twilio_api_key == other.twilio_api_key),
            ("twilio_api_secret", *twilio_api_secret == other.twilio_api_secret),
            ("twilio_api_url", *twilio_api_url == other.twilio_api_url),
            ("twilio_functions_url", *twilio_functions_url == other.twilio_functions_url),
            ("public_url", *public_url == other.public_url),
            ("host", *host == other.host),
            ("port", *port == other.port),
            ("peer_url", *peer_url == other.peer_url),
            ("assistants_dir", *assistants_dir == other.assistants_dir),
            ("assistants_url", *assistants_url == other.assistants_url),
            ("assistants_token", *assistants_token == other.assistants_token),
            ("max_calls", *max_calls == other.max_calls),
            ("drain_seconds", *drain == other.drain),
            ("metrics_port", *metrics_port == other.metrics_port),
            ("metrics_token", *metrics_token == other.metrics_token),
            ("state_dir", *state_dir == other.state_dir),
            ("ssl_cert_file", *ssl_cert_file == other.ssl_cert_file),
            ("rust_log", *log == other.log),
            ("log_format", *log_format == other.log_format),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}
