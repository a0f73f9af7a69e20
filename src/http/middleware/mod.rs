//! What every request passes on its way to a handler and back.
//!
//! Outermost first: [`Answers`], CORS ([`cors()`]), [`Guards`]. `Answers` refuses nothing and fails never, so CORS is still
//! outside of everything that answers; but it must see CORS's own answers too, which also have an id and are counted.

mod answers;
mod cors;
mod guards;
mod unread;

pub use answers::Answers;
pub use cors::{Origins, cors};
pub use guards::Guards;
