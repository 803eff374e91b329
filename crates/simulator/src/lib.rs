//! Both ends of a call, simulated: a phone on Twilio's side, and a Realtime server. And Twilio's REST server.
//!
//! They are as strict as the real ones, and are written from the vendors' references with `serde_json::Value`:
//! nothing here uses [`crate::wire`], or one mistake would pass at both ends.

pub mod caller;
pub mod model;
pub mod tag;
pub mod twilio;
