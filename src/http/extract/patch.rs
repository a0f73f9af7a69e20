//! The members of a JSON merge patch (RFC 7396).

use serde::{Deserialize, Deserializer};

/// A member that a merge patch may leave out. With `#[serde(default)]` on the field:
///
/// - absent → [`Patch::Absent`], the value stays;
/// - `null` → 422 for `Patch<String>`, because the value can't be removed; `Value(None)` for `Patch<Option<String>>`;
/// - anything else → [`Patch::Value`].
///
/// In the document it is the plain type, not required: `#[schema(value_type = String, required = false)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patch<T> {
    #[default]
    Absent,
    Value(T),
}

impl<T> Patch<T> {
    /// The new value, if there is one.
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Value(value) => Some(value),
        }
    }

    /// The new value, if there is one.
    pub fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Absent => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::Value)
    }
}
