//! The whole server from the outside: calls, interruptions, failures and goodbyes, over loopback sockets.

mod alerts;
mod attacks;
mod calls;
mod console;
mod edits;
mod failover;
mod failures;
mod forms;
mod harness;
mod interruptions;
mod languages;
mod mcp;
mod messages;
mod mishaps;
mod providers;
mod recordings;
mod service;
mod sounds;
mod streams;
mod tls;
mod tools;
mod transfers;
