//! The routes: a file a capability, a handler an operation. A handler reads its input, runs one use case and shapes the answer.

pub mod articles;
pub mod auth;
pub mod clients;
pub mod explain;
pub mod history;
pub mod impersonations;
pub mod me;
pub mod metadata;
pub mod oauth;
pub mod ops;
pub mod policy;
pub mod users;
pub mod well_known;
