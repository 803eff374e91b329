//! Switchboard answers phone numbers with voice assistants.
//!
//! The layers, from the ground: plain values; wire formats, providers and the YAML tree; assistants and settings;
//! the call. Above them is the world: what is observed, links and tools, sessions and reload, HTTP and the
//! simulators, and the program itself. A module uses its own folder and the layers below it; `tests/layers.rs`
//! checks that, and `docs/architecture.md` is the map.

pub mod assistant;
pub mod call;
pub mod command;
pub mod console;
pub mod disk;
pub mod doctor;
pub mod duration;
pub mod http;
pub mod id;
pub mod invisible;
pub mod link;
pub mod notice;
pub mod numbers;
pub mod observe;
pub mod phone;
pub mod post;
pub mod problem;
pub mod process;
pub mod provider;
pub mod record;
pub mod recording;
pub mod rehearse;
pub mod reload;
pub mod secret;
pub mod serve;
pub mod session;
pub mod settings;
pub mod sound;
pub mod store;
pub mod terminal;
pub mod tool;
pub mod tunnel;
pub mod wire;
pub mod workspace;
pub mod yaml;
