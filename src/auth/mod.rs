//! Floor 1: tokens, keys and passwords.
//!
//! Everything that is secret is made, proved and taken apart here. Imports [`crate::domain`] and cryptography; no diesel, no
//! actix, no environment and no clock: instants are passed in, and what has to be kept is handed out as plain data that the
//! store writes down. [`hashing`] alone asks the system for something, threads and processes that step back behind others.
//!
//! Three kinds of bearer secret exist, and none can be taken for another: an access token has two dots
//! ([`tokens`]), a refresh token begins with `actas_rt_` and a setup token with `actas_st_` ([`secret`]).
//!
//! **Architecture Invariant:** no type of this floor prints a secret, and no error of it carries one. No secret that a client
//! holds is kept: handles as hashes, passwords as bcrypt hashes, access tokens as what was signed, without the signature.

pub mod hashing;
pub mod keys;
pub mod limiter;
pub mod passwords;
mod pem;
pub mod secret;
pub mod tokens;
