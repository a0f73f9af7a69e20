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

pub mod domain;
pub mod http;
