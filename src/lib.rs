//! Actas: act as a user, on the record, and back.
//!
//! The floors, from the ground up. A floor imports those below it and never one above or beside it; a test keeps it so.
//!
//! ```text
//! domain   values and rules; imports nothing of ours
//! auth     tokens, keys, passwords                         → domain
//! store    the only place that names diesel                → domain
//! service  one function per use case, over a connection    → auth, store, domain
//! http     wire structs, extractors, routes                → service, domain
//! cli      one file per command                            → all
//! ```
//!
//! Beside them stand [`config`], the only reader of the environment, [`clock`] and [`logging`]; http and cli use them, and nothing below.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod logging;
pub mod service;
pub mod store;
