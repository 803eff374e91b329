//! Twilio's formats: Media Streams, TwiML, webhooks and their signatures.

pub mod media_stream;
pub mod signature;
pub mod twiml;
pub mod webhook;
