//! Identifiers: UUIDv7 (RFC 9562 §5.7), one newtype a kind, so that a user's id can't be passed for an article's.

use std::sync::Mutex;

use uuid::{ContextV7, Timestamp, Uuid};

use super::Time;

/// Ids of one process are strictly increasing even within a millisecond, so that "newest first" by id is the order of
/// creation. Across processes the order is that of their clocks.
static ORDER: Mutex<Option<ContextV7>> = Mutex::new(None);

pub(super) fn next(now: Time) -> Uuid {
    let mut guard = ORDER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let order = guard.get_or_insert_with(ContextV7::new);
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(&*order, seconds, now.timestamp_subsec_nanos()))
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id that sorts by `now`.
            pub fn new(now: Time) -> Self { Self(next(now)) }

            /// The id written as `text`: the hyphenated form, lower case. No other form is an id, so that each has
            /// one spelling only.
            pub fn parse(text: &str) -> Option<Self> {
                let id = Uuid::try_parse(text).ok()?;
                (id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(Self(id))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom("must be a UUID in lower case with hyphens"))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.hyphenated().fmt(f) }
        }
    };
}

id!(
    /// Names a user: the claims `sub` and `act.sub`.
    UserId
);
id!(
    /// Names an article.
    ArticleId
);
id!(
    /// Names a session: the claim `sid`. An impersonation is a session, so its id is this one too.
    SessionId
);
id!(
    /// Names an entry of the history.
    EntryId
);

impl SessionId {
    /// Sorts before every id that was made at `time` or later (RFC 9562 §5.7: an id begins with its milliseconds).
    pub fn floor(time: Time) -> Self {
        let milliseconds = u64::try_from(time.timestamp_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid())
    }
}

impl UserId {
    /// The id that no user has (RFC 9562 §5.9).
    pub const NOBODY: Self = Self(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_instant_keep_the_order_of_creation() {
        let now = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let made: Vec<_> = (0..1000).map(|_| UserId::new(now)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_floor_lies_below_what_is_made_from_then_on_and_above_what_was_made_before() {
        let floor = SessionId::floor(chrono::DateTime::from_timestamp_micros(1_763_000_000_000_999).unwrap());
        let made_with = |milliseconds, rest| SessionId(uuid::Builder::from_unix_timestamp_millis(milliseconds, &[rest; 10]).into_uuid());
        let (before, after) = (made_with(1_762_999_999_999, 0xff), made_with(1_763_000_000_000, 0));
        assert!(before < floor && floor <= after);
        assert!(before.to_string() < floor.to_string() && floor.to_string() <= after.to_string());
        // Made at the same time, whatever this process made before.
        assert!(floor <= SessionId::new(chrono::DateTime::from_timestamp_millis(1_763_000_000_000).unwrap()));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = "019aa0f0-0000-7000-8000-0000000000aa";
        assert_eq!(UserId::parse(id).unwrap().to_string(), id);
        for other in
            ["019AA0F0-0000-7000-8000-0000000000AA", "019aa0f000007000800000000000 00aa", "{019aa0f0-0000-7000-8000-0000000000aa}", ""]
        {
            assert_eq!(UserId::parse(other), None, "{other}");
        }
    }
}
