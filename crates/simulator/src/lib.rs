//! Simulators of both ends of a call: a phone at Twilio, and a Realtime server. Also Twilio's REST server.
//!
//! They are as strict as the real services. They are written from the vendors' references with `serde_json::Value` and
//! share no wire types with the server, so that one mistake cannot pass at both ends.

pub mod caller;
mod clock;
pub mod ear;
pub mod model;
#[cfg(any(test, feature = "pace"))]
pub mod pace;
pub mod tag;
pub mod twilio;
