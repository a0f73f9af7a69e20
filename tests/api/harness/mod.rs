//! What the tests are written with.
//!
//! A test is a function over an [`Office`], which is a running server with a database of its own, or over a [`Setup`], which
//! opens one with other settings. It is listed in its file's `api_tests!` and runs on both databases.

#![allow(dead_code, unused_imports, reason = "the vocabulary of the tests is wider than any one state of them")]

mod answer;
mod caller;
mod client;
mod database;
pub mod document;
mod dump;
mod jwt;
mod office;
mod pooler;
mod postgres;
mod program;
mod queries;
mod runner;
mod seam;

pub use answer::Answer;
pub use caller::{Acting, Caller, Person};
pub use client::{ACCESS_TOKEN, BILLING, Client, JWT, Parameters, TOKEN_EXCHANGE, USER_ID, basic, encoded, form};
pub use database::{Backend, Database};
pub use jwt::{Forger, claims_of, header_of};
pub use office::{Office, RawAnswer, Setup, actas, at_once, restore_challenge};
pub use postgres::certificate;
pub use program::Program;
pub use runner::{ApiTest, IntoApiTest, run};

/// Lists a file's tests: `api_tests! { first, second, [postgres] third }`. The functions stand outside, where rustfmt and
/// the compiler see them: one that is not listed is dead code, and a warning says so.
macro_rules! api_tests {
    ($( $([$backend:ident])? $name:ident ),+ $(,)?) => {
        /// The tests of this file.
        pub fn all() -> Vec<$crate::harness::ApiTest> {
            vec![$( $crate::harness::IntoApiTest::into_api_test($name, stringify!($name), &[$( stringify!($backend) )?]) ),+]
        }
    };
}
