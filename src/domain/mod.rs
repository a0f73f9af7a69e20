//! Floor 0: the values and the rules of the editorial office and of impersonation.
//!
//! Imports nothing of ours and no infrastructure: no diesel, no actix, no jsonwebtoken, no environment, no clock. What
//! is decided here can be read, tested and reasoned about without a database or a socket.
//!
//! **Architecture Invariant:** who may do what is decided here and nowhere else: [`operation::permit`] for every call,
//! [`impersonation::refusals`] for who may act as whom, [`decision::decide`] for the editorial workflow and for why not.

pub mod article;
pub mod client;
pub mod decision;
pub mod error;
pub mod history;
pub mod identity;
pub mod ids;
pub mod impersonation;
pub mod oauth;
pub mod operation;
pub mod page;
pub mod policy;
pub mod role;
pub mod scope;
pub mod session;
pub mod text;
pub mod undo;
pub mod user;

/// An instant in UTC. The clock that makes them truncates to microseconds, which is what both databases keep.
pub type Time = chrono::DateTime<chrono::Utc>;

/// Defines an enum whose values have one fixed spelling everywhere: on the wire, in the database and in the logs. The spelling is a `tt`, because a
/// `literal` reaches the derives in a group, through which utoipa does not see.
macro_rules! string_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident => $text:tt ),+ $(,)? }
    ) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        $(#[$meta])*
        pub enum $name { $( $(#[$vmeta])* #[serde(rename = $text)] $variant ),+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The one spelling of this value.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }

            /// The value with this spelling, if there is one.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}
pub(crate) use string_enum;
