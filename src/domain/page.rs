//! Keyset pagination: a page begins after the last item of the page before it, so that nothing shifts when rows are added.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long the rows of one page may be together, in bytes: what an author can write must not fill the memory of whoever lists it.
const PAGE_BYTES: i64 = 4 << 20;

/// How many items a page has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    pub const DEFAULT: Self = Self(50);
    pub const MAX: u32 = 200;

    /// 1 to 200.
    pub fn new(limit: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&limit).then_some(Self(limit))
    }

    /// How many rows to ask the store for: one more than the page, to learn whether there is a next one.
    pub fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// Chooses from up to [`Limit::rows`] keys, each with the length of its row in bytes, those of one page: as many as the limit says, unless they are longer
    /// together than one answer should be. At least one. Says too whether there are more.
    pub fn fit<K>(self, keys: Vec<(K, i32)>) -> (Vec<K>, bool) {
        let found = keys.len();
        let mut bytes = 0_i64;
        let mut fits = |(index, (_, length)): &(usize, (K, i32))| {
            bytes += i64::from(*length);
            *index == 0 || (*index < self.items() && bytes <= PAGE_BYTES)
        };
        let chosen: Vec<K> = keys.into_iter().enumerate().take_while(|item| fits(item)).map(|(_, (key, _))| key).collect();
        let has_more = chosen.len() < found;
        (chosen, has_more)
    }

    fn items(self) -> usize {
        self.0 as usize
    }
}

/// What a page begins after: a value of the listing's key, opaque to clients.
pub trait Key: Sized {
    /// Says which listing a cursor belongs to, so that one of another listing is refused.
    const LISTING: &'static str;
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// Where in a listing to go on.
pub fn encode_cursor<K: Key>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{}", K::LISTING, key.write()))
}

/// The key in `cursor`, if it is one of this listing's, exactly as [`encode_cursor`] writes it.
pub fn decode_cursor<K: Key>(cursor: &str) -> Option<K> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let key = K::read(text.strip_prefix(K::LISTING)?.strip_prefix(':')?)?;
    (encode_cursor(&key) == cursor).then_some(key)
}

macro_rules! id_key {
    ($id:ty, $listing:literal) => {
        impl Key for $id {
            const LISTING: &'static str = $listing;
            fn write(&self) -> String {
                self.to_string()
            }
            fn read(text: &str) -> Option<Self> {
                Self::parse(text)
            }
        }
    };
}
id_key!(super::ids::UserId, "u");
id_key!(super::ids::ArticleId, "a");
id_key!(super::ids::SessionId, "s");
id_key!(super::client::ClientId, "c");

/// An entry's place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub i64);

impl Key for Seq {
    const LISTING: &'static str = "h";
    fn write(&self) -> String {
        self.0.to_string()
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|seq| *seq > 0).map(Self)
    }
}

/// What is asked of a listing: how much, after what.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<K> {
    pub limit: Limit,
    pub after: Option<K>,
}

/// One page of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of up to [`Limit::rows`] rows: the surplus row, if it came, says that there is a next page.
    pub fn from_rows<K: Key>(mut rows: Vec<T>, limit: Limit, key: impl Fn(&T) -> K) -> Self {
        let has_more = rows.len() > limit.items();
        rows.truncate(limit.items());
        let next_cursor = rows.last().filter(|_| has_more).map(|last| encode_cursor(&key(last)));
        Self { items: rows, next_cursor }
    }

    /// Makes a page of rows whose keys [`Limit::fit`] chose.
    pub fn from_chosen<K: Key>(items: Vec<T>, has_more: bool, key: impl Fn(&T) -> K) -> Self {
        let next_cursor = items.last().filter(|_| has_more).map(|last| encode_cursor(&key(last)));
        Self { items, next_cursor }
    }

    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_in_rows_and_in_bytes_and_never_empty() {
        let limit = Limit::new(3).unwrap();
        let keys = |lengths: &[i64]| lengths.iter().map(|length| i32::try_from(*length).unwrap()).enumerate().collect();
        assert_eq!(limit.fit(keys(&[1, 1, 1, 1])), (vec![0, 1, 2], true));
        assert_eq!(limit.fit(keys(&[1, 1, 1])), (vec![0, 1, 2], false));
        assert_eq!(limit.fit(keys(&[PAGE_BYTES, 1])), (vec![0], true));
        assert_eq!(limit.fit(keys(&[PAGE_BYTES * 2, 1])), (vec![0], true));
        assert_eq!(limit.fit(keys(&[])), (vec![], false));
    }
}
