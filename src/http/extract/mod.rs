//! What handlers take from a request. Everything that a caller can get wrong is *deferred*: the extractor itself never
//! fails, and the handler reads it once its caller is known and permitted.

mod body;
mod checked;
mod client;
mod fault;
mod form;
mod json;
mod patch;
mod path;
mod precondition;
mod query;

pub use body::Body;
pub(super) use body::{declared_length, too_large};
pub use checked::{Checked, FieldRefusal};
pub use client::{ClientIp, TrustedProxies, bearer_token};
pub use form::{Form, Parameters};
pub use patch::Patch;
pub use path::{PathId, WireId};
pub use precondition::{Expected, IfMatch};
pub use query::{Query, check_query, decode as decode_form};
